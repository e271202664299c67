package workload

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Selection are the pods of a namespace whose labels a selector of Kubernetes
// matches. The zero Selection are none.
type Selection struct {
	namespace string
	labels    labels.Selector
}

// ParseSelection reads "NAMESPACE/SELECTOR", the selector as kubectl -l takes it:
// "audit/app=proxy,tier in (a, b)". It selects by one label at least.
func ParseSelection(text string) (Selection, error) {
	namespace, selector, ok := strings.Cut(text, "/")
	if !ok {
		return Selection{}, fmt.Errorf("%q: no namespace (write NAMESPACE/SELECTOR, such as audit/app=proxy)", text)
	}
	if wrong := validation.IsDNS1123Label(namespace); len(wrong) > 0 {
		return Selection{}, fmt.Errorf("%q: %q is not the name of a namespace (write NAMESPACE/SELECTOR, such as audit/app=proxy)", text, namespace)
	}
	s, err := labels.Parse(selector)
	switch {
	case err != nil:
		return Selection{}, fmt.Errorf("%q: %q is not a selector of labels (write it as for kubectl -l, such as app=proxy): %s", text, selector, reason(err))
	case s.Empty():
		return Selection{}, fmt.Errorf("%q: it selects every pod of the namespace (name a label of those that are meant: %s/app=proxy)", text, namespace)
	}
	return Selection{namespace, s}, nil
}

// selects says whether a pod is selected.
func (s Selection) selects(p *corev1.Pod) bool {
	return s.labels != nil && p.Namespace == s.namespace && s.labels.Matches(labels.Set(p.Labels))
}

// selecting is podOf, which also says of a pod whether one of the selections has it.
func selecting(from []Selection) func(runtime.Object) runtime.Object {
	return func(o runtime.Object) runtime.Object {
		kept := podOf(o)
		if full, ok := o.(*corev1.Pod); ok {
			kept.(*pod).selected = slices.ContainsFunc(from, func(s Selection) bool { return s.selects(full) })
		}
		return kept
	}
}

// Own are the addresses that selected pods have now, in order: not those on the
// host network, which have none of their own, and none that somebody else may have
// too, for what comes from there may be theirs.
func (x *Index) Own() []netip.Addr {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var out []netip.Addr
	for _, h := range x.own {
		for _, a := range h.addrs {
			if !x.shared(a, h.Workload) {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// shared says whether others than one holder may have an address now; mu is held.
func (x *Index) shared(a netip.Addr, with *Workload) bool {
	return slices.ContainsFunc(x.history[a], func(t tenure) bool { return t.until.IsZero() && t.who != with })
}

// teller tells the addresses of the selected pods: once they have been listed, and
// then whenever they change. It is used by one goroutine.
type teller struct {
	own  func() []netip.Addr
	tell func([]netip.Addr) // nil: nobody wants to know
	told []netip.Addr
	ever bool
}

func (t *teller) look() {
	if t.tell == nil {
		return
	}
	if now := t.own(); !t.ever || !slices.Equal(now, t.told) {
		t.told, t.ever = now, true
		t.tell(slices.Clone(now))
	}
}
