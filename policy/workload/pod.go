package workload

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// tick is how fine the times of a pod's status are: what they tell was up to so
// much later.
const tick = time.Second

// pod is what is kept of a Pod.
type pod struct {
	metav1.ObjectMeta // namespace, name, UID and version

	owner   string
	account string
	node    string
	addrs   []netip.Addr // of its own
	hosts   []netip.Addr // of its node
	start   time.Time    // zero: not known
	over    bool         // Succeeded or Failed
	last    time.Time    // when its last container ended; zero: not known

	selected bool // by a Selection
}

// GetObjectKind and DeepCopyObject make it a runtime.Object, for the Reflector.
func (p *pod) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject is a copy; nobody changes what is shared.
func (p *pod) DeepCopyObject() runtime.Object {
	c := *p
	return &c
}

// podOf keeps of an object what is needed; it is the object itself where that is
// no Pod.
func podOf(o runtime.Object) runtime.Object {
	from, ok := o.(*corev1.Pod)
	if !ok {
		return o
	}
	p := &pod{
		ObjectMeta: slim(&from.ObjectMeta), owner: ownerOf(from), account: strings.Clone(from.Spec.ServiceAccountName), node: strings.Clone(from.Spec.NodeName),
		over: from.Status.Phase == corev1.PodSucceeded || from.Status.Phase == corev1.PodFailed,
	}
	if s := from.Status.StartTime; s != nil {
		p.start = s.Time
	}
	if p.node != "" {
		p.hosts = addrsOf(from.Status.HostIP, from.Status.HostIPs, func(h corev1.HostIP) string { return h.IP })
	}
	own := addrsOf(from.Status.PodIP, from.Status.PodIPs, func(i corev1.PodIP) string { return i.IP })
	own = slices.DeleteFunc(own, func(a netip.Addr) bool { return slices.Contains(p.hosts, a) })
	if !from.Spec.HostNetwork {
		p.addrs = own
	} else if p.node != "" {
		p.hosts = append(p.hosts, own...)
	}
	if p.over {
		p.last = ended(from.Status)
	}
	return p
}

// slim is what the Reflector and the index read of metadata.
func slim(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: strings.Clone(m.Namespace), Name: strings.Clone(m.Name), UID: m.UID, ResourceVersion: m.ResourceVersion}
}

// addrsOf reads the addresses of a status: a list, and the first one by itself.
func addrsOf[T any](first string, list []T, text func(T) string) []netip.Addr {
	var out []netip.Addr
	add := func(s string) {
		if a, err := netip.ParseAddr(s); err == nil && !slices.Contains(out, plain(a)) {
			out = append(out, plain(a))
		}
	}
	add(first)
	for _, t := range list {
		add(text(t))
	}
	return out
}

// ownerOf is the controller of a pod. The name of a Deployment is that of its
// ReplicaSet without the label that the Deployment gave both; where it does not
// end so, the ReplicaSet is nobody's or another's.
func ownerOf(p *corev1.Pod) string {
	c := metav1.GetControllerOf(p)
	if c == nil {
		return ""
	}
	hash := p.Labels["pod-template-hash"]
	if name, ok := strings.CutSuffix(c.Name, "-"+hash); ok && c.Kind == "ReplicaSet" && hash != "" && name != "" {
		return "Deployment/" + name
	}
	return c.Kind + "/" + c.Name
}

// ended is when the last container of a pod did; zero where one has not.
func ended(s corev1.PodStatus) time.Time {
	var last time.Time
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for _, c := range list {
			t := c.State.Terminated
			if t == nil || t.FinishedAt.IsZero() {
				return time.Time{}
			}
			if t.FinishedAt.After(last) {
				last = t.FinishedAt.Time
			}
		}
	}
	return last
}

// workload is the pod as it is named.
func (p *pod) workload() *Workload {
	return &Workload{Name: p.Namespace + "/" + p.Name, Owner: p.owner, ServiceAccount: p.account}
}

// begin is from when on the pod may have had an address that the API tells now.
// One that comes in place of another is no older than Lag, and none is younger
// than its news.
func (p *pod) begin(now time.Time, moved bool) time.Time {
	switch {
	case moved || p.start.IsZero():
		return later(p.start, now.Add(-Lag))
	case p.start.After(now): // by another clock
		return now
	}
	return p.start
}

// end is until when a pod that is over may have had its addresses.
func (p *pod) end(now time.Time) time.Time {
	if p.last.IsZero() || p.last.Add(tick).After(now) {
		return now
	}
	return p.last.Add(tick)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
