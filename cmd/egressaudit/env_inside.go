package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/deploy/cluster"
	"github.com/egressaudit/egressaudit/policy"
)

// insideFlags say what clients reach without us.
type insideFlags struct {
	pods, services, nodes, skip []string
	apiServer                   string
	kubeconfig, context         string
}

// insideNames are the flags' names.
var insideNames = []string{"pods", "services", "nodes", "api-server", "skip", "kubeconfig", "context"}

func (f *insideFlags) register(c *cobra.Command) {
	group(c, "What lies inside, and goes around the proxy", func(s *pflag.FlagSet) {
		s.StringArrayVar(&f.pods, "pods", nil, "`CIDR` of pods; repeatable (default none)")
		s.StringArrayVar(&f.services, "services", nil, "`CIDR` of services; repeatable (default none)")
		s.StringArrayVar(&f.nodes, "nodes", nil, "`CIDR` of nodes; repeatable (default none)")
		s.StringVar(&f.apiServer, "api-server", "", "`HOST` of the API server (default none)")
		s.StringArrayVar(&f.skip, "skip", nil, "`CIDR` of what else goes around us; repeatable (default none)")
		s.StringVar(&f.kubeconfig, "kubeconfig", "", "`FILE` with access to the cluster, to read these from (default none)")
		s.StringVar(&f.context, "context", "", "`NAME` of the context in --kubeconfig (default its current one)")
	})
}

// inside is what clients reach without us.
type inside struct {
	pods, services, nodes, skip []netip.Prefix
	server                      policy.Name // the API server; zero: not told
	notes                       []string    // what the reader should know of them
}

// gather is what the flags say, and what is missing there read from the cluster.
func (f *insideFlags) gather(ctx context.Context) (in inside, err error) {
	for _, l := range []struct {
		flag string
		list []string
		to   *[]netip.Prefix
	}{{"pods", f.pods, &in.pods}, {"services", f.services, &in.services}, {"nodes", f.nodes, &in.nodes}, {"skip", f.skip, &in.skip}} {
		if *l.to, err = prefixes(l.flag, l.list); err != nil {
			return in, err
		}
	}
	if f.apiServer != "" {
		if in.server, err = policy.ParseName(f.apiServer); err != nil {
			return in, fmt.Errorf("--api-server %q: write the host alone, a name or an address, such as 10.0.0.1", f.apiServer)
		}
	}
	if f.kubeconfig == "" {
		if f.context != "" {
			return in, fmt.Errorf("--context %q: it does nothing without --kubeconfig (add --kubeconfig FILE, or leave it out)", f.context)
		}
		return in, nil
	}
	if err := f.read(ctx, &in); err != nil {
		return in, fmt.Errorf("--kubeconfig %q: %w", f.kubeconfig, err)
	}
	return in, nil
}

// read fills in from the cluster what the flags left open.
func (f *insideFlags) read(ctx context.Context, in *inside) error {
	c, err := cluster.Open(f.kubeconfig, f.context)
	if err != nil {
		return hinted(err, "give --kubeconfig a file, and --context a name, with which kubectl get nodes works")
	}
	if in.server.IsZero() {
		if in.server, err = policy.ParseName(c.Server()); err != nil {
			return hinted(err, "give --api-server HOST")
		}
	}
	if len(in.pods) == 0 || len(in.nodes) == 0 {
		if err := in.readNodes(ctx, c); err != nil {
			return err
		}
	}
	if len(in.services) == 0 {
		if in.services, err = c.Services(ctx); errors.Is(err, cluster.ErrUnknown) {
			return hinted(err, "give --services CIDR; on an older cluster the error of 'kubectl create service clusterip x --tcp=80 --clusterip=1.1.1.1 --dry-run=server' names it")
		} else if err != nil {
			return instead(err, "--services")
		}
	}
	return nil
}

// readNodes fills in the addresses of nodes, and the ranges of their pods.
func (in *inside) readNodes(ctx context.Context, c *cluster.Cluster) error {
	n, err := c.Nodes(ctx)
	if err != nil {
		return instead(err, "--pods and --nodes")
	}
	if len(in.nodes) == 0 {
		for _, a := range n.Addresses {
			in.nodes = append(in.nodes, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	if len(in.pods) > 0 {
		return nil
	}
	if len(n.Pods) == 0 {
		return hinted(errors.New("no node has a range of pods (spec.podCIDRs): the network plugin gives addresses itself"), "give --pods CIDR")
	}
	in.pods = n.Pods
	return in.checkPods(ctx, c, n.Count)
}

// checkPods holds the ranges of pods against addresses that pods have.
func (in *inside) checkPods(ctx context.Context, c *cluster.Cluster, nodes int) error {
	in.notes = append(in.notes, fmt.Sprintf("The ranges of pods are those of the nodes that there are now (%d): one that comes later has another. "+
		"--pods with the cluster's whole range holds for good.", nodes))
	stray, found, err := c.Stray(ctx, in.pods)
	switch {
	case errors.Is(err, cluster.ErrForbidden):
		in.notes = append(in.notes, "Whether pods have addresses of these ranges was not checked, since this user may not list pods.")
		return nil
	case err != nil:
		return instead(err, "--pods")
	case found:
		return hinted(fmt.Errorf("pod %q has the address %s, and the nodes' ranges (spec.podCIDRs) are %s: the network plugin gives addresses itself",
			stray.Name, stray.Address, texts(in.pods)), "give --pods CIDR")
	}
	return nil
}

// instead says which flags tell what a cluster did not.
func instead(err error, flags string) error {
	if errors.Is(err, cluster.ErrForbidden) {
		return hinted(err, "give %s, or the --context of a user who may", flags)
	}
	return hinted(err, "give %s instead, or leave --kubeconfig out and give all ranges", flags)
}

// around are the ranges that go around us. Rules take no name.
func (in inside) around() ([]netip.Prefix, error) {
	all := slices.Concat(in.pods, in.services, in.skip, in.nodes)
	if in.server.IsZero() {
		return all, nil
	}
	a, ok := in.server.Addr()
	if !ok {
		return nil, fmt.Errorf("the API server is %q, and rules take addresses (give --api-server ADDRESS)", in.server)
	}
	return append(all, netip.PrefixFrom(a, a.BitLen())), nil
}

// noProxy is the value of NO_PROXY, each entry once. An address stands alone: not
// all that take an address take a range.
func (in inside) noProxy() string {
	list := split(childNoProxy)
	for _, p := range slices.Concat(in.pods, in.services, in.nodes, in.skip) {
		list = append(list, text(p))
	}
	if a, _ := in.server.Addr(); !in.server.IsZero() && !a.IsLoopback() {
		list = append(list, in.server.String())
	}
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return strings.Join(out, ",")
}

// text is a range, or the address that it has alone.
func text(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func texts(list []netip.Prefix) string {
	var out []string
	for _, p := range list {
		out = append(out, text(p))
	}
	return strings.Join(out, ", ")
}
