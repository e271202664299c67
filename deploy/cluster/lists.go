package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// sample is how many pods are held against the ranges of the nodes.
const sample = 500

// Nodes are what the nodes of a cluster say of themselves.
type Nodes struct {
	Count     int
	Addresses []netip.Addr   // internal and external ones, sorted
	Pods      []netip.Prefix // the ranges that their pods get addresses from (spec.podCIDRs), merged and sorted
}

// node is what is read of a core/v1 Node.
type node struct {
	Spec struct {
		PodCIDR  string
		PodCIDRs []string
	}
	Status struct {
		Addresses []struct{ Type, Address string }
	}
}

// Nodes lists the nodes. Pods is empty where the network plugin gives addresses to
// pods itself. The error may be ErrForbidden.
func (c *Cluster) Nodes(ctx context.Context) (Nodes, error) {
	list, err := items[node](ctx, c, "list nodes", "/api/v1/nodes")
	if err != nil {
		return Nodes{}, err
	}
	n := Nodes{Count: len(list)}
	for _, one := range list {
		n.Pods = append(n.Pods, prefixes(append(one.Spec.PodCIDRs, one.Spec.PodCIDR))...)
		for _, a := range one.Status.Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil && (a.Type == "InternalIP" || a.Type == "ExternalIP") {
				n.Addresses = append(n.Addresses, ip.Unmap().WithZone(""))
			}
		}
	}
	slices.SortFunc(n.Addresses, netip.Addr.Compare)
	n.Addresses, n.Pods = slices.Compact(n.Addresses), Merge(n.Pods)
	return n, nil
}

// prefixes are the texts that are ranges.
func prefixes(texts []string) (out []netip.Prefix) {
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// Pod is a pod with one of its addresses.
type Pod struct {
	Name    string // "namespace/pod"
	Address netip.Addr
}

// pod is what is read of a core/v1 Pod.
type pod struct {
	Metadata struct{ Name, Namespace string }
	Spec     struct{ HostNetwork bool }
	Status   struct {
		Phase  string
		PodIPs []struct{ IP string }
	}
}

// Stray looks for a pod with an address in none of ranges, among the first few
// hundred that have an address of their own: a network plugin may give addresses
// from elsewhere than from the ranges of the nodes. The error may be ErrForbidden.
func (c *Cluster) Stray(ctx context.Context, ranges []netip.Prefix) (stray Pod, found bool, err error) {
	list, err := items[pod](ctx, c, "list pods", fmt.Sprintf("/api/v1/pods?limit=%d", sample))
	if err != nil {
		return Pod{}, false, err
	}
	for _, p := range list {
		if p.Spec.HostNetwork || p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" {
			continue
		}
		for _, a := range p.Status.PodIPs {
			ip, err := netip.ParseAddr(a.IP)
			if err == nil && !slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(ip.Unmap()) }) {
				return Pod{p.Metadata.Namespace + "/" + p.Metadata.Name, ip.Unmap()}, true, nil
			}
		}
	}
	return Pod{}, false, nil
}

// Services are the ranges that services get addresses from, merged and sorted. The
// error is ErrUnknown where the cluster is older than Kubernetes 1.33, which has the
// ServiceCIDR API, and may be ErrForbidden.
func (c *Cluster) Services(ctx context.Context) ([]netip.Prefix, error) {
	list, err := items[struct{ Spec struct{ CIDRs []string } }](ctx, c, "list servicecidrs", "/apis/networking.k8s.io/v1/servicecidrs")
	if errors.Is(err, errNone) {
		return nil, fmt.Errorf("%w the range of services: the ServiceCIDR API came with Kubernetes 1.33", ErrUnknown)
	}
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, prefixes(s.Spec.CIDRs)...)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w the range of services: it lists none", ErrUnknown)
	}
	return Merge(out), nil
}
