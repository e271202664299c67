package workload

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Lag is how much later than a pod may send the API may tell its address.
const Lag = 3 * time.Second

// maxEnded bounds the times that are over and still remembered, for connections
// that are told of when they end.
const maxEnded = 1 << 14

// Workload is who had an address.
type Workload struct {
	Name           string // "namespace/pod", or "node:NAME" for an address of a node
	Owner          string // the controller, as "Deployment/NAME"; "" without one, and of nodes
	ServiceAccount string // "" of nodes
}

// nodePrefix begins the name of a workload that is a node.
const nodePrefix = "node:"

// Index says who had an address at a time. Its methods may be called at once.
type Index struct {
	now  func() time.Time
	self Self

	mu      sync.RWMutex
	pods    map[types.UID]*holder
	nodes   map[string]*Workload    // by name
	claims  map[claim]int           // pods that say that a node has an address
	own     map[types.UID]*holder   // pods that are selected, and not over
	history map[netip.Addr][]tenure // ended ones first to last, then those that last
	ended   []claim                 // in the order in which they ended
	reach   *reach
}

// holder is a pod as far as it holds addresses.
type holder struct {
	*Workload
	addrs []netip.Addr // that it has
	nodes []claim      // what it says of its node
	moved bool         // it had some: others are younger than the pod
	over  bool         // it is terminal: it has none any more
}

// claim is a holder and an address.
type claim struct {
	who *Workload
	at  netip.Addr
}

// tenure is a time in which somebody had an address, or may have had it.
type tenure struct {
	who         *Workload
	from, until time.Time // until is zero while it lasts
}

func (t tenure) covers(when time.Time) bool {
	return !when.Before(t.from) && (t.until.IsZero() || when.Before(t.until))
}

func newIndex(self Self, r *reach, now func() time.Time) *Index {
	return &Index{
		now: now, self: self, reach: r, pods: map[types.UID]*holder{}, nodes: map[string]*Workload{},
		claims: map[claim]int{}, history: map[netip.Addr][]tenure{}, own: map[types.UID]*holder{},
	}
}

// At says who had an address at a time. It is false where that is not known:
// nobody is known to have had it, several may have, or the API could not be
// watched then.
func (x *Index) At(a netip.Addr, when time.Time) (Workload, bool) {
	a = plain(a)
	if !x.reach.had(when) {
		return Workload{}, false
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.ours(a) {
		return Workload{Name: nodePrefix + x.self.Node}, true
	}
	var found *Workload
	for _, t := range x.history[a] {
		if !t.covers(when) {
			continue
		}
		if found != nil && found != t.who {
			return Workload{}, false
		}
		found = t.who
	}
	if found == nil {
		return Workload{}, false
	}
	return *found, true
}

// ours says whether a is this node by what our own network shows: on a network of
// pods its gateways, on the host's all of its addresses.
func (x *Index) ours(a netip.Addr) bool {
	if x.self.Node == "" {
		return false
	}
	if slices.Contains(x.self.Gateways, a) {
		return !x.onHost()
	}
	return slices.Contains(x.self.Addresses, a) && x.onHost()
}

// onHost says whether we are on the host's network: an address of ours is the node's.
func (x *Index) onHost() bool {
	return slices.ContainsFunc(x.self.Addresses, func(a netip.Addr) bool {
		return slices.ContainsFunc(x.history[a], func(t tenure) bool { return t.until.IsZero() && x.nodes[x.self.Node] == t.who })
	})
}

// set takes what the API says of a pod now.
func (x *Index) set(p *pod) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := x.now()
	h := x.pods[p.UID]
	if h == nil {
		h = &holder{Workload: p.workload()}
		x.pods[p.UID] = h
	}
	x.place(h, p)
	if h.over {
		return
	}
	x.settle(h, p, now)
	if p.over {
		x.leave(h, p.end(now))
		h.over = true
	}
	if delete(x.own, p.UID); p.selected && !p.over {
		x.own[p.UID] = h
	}
}

// settle makes the addresses of h those that its pod has.
func (x *Index) settle(h *holder, p *pod, now time.Time) {
	for _, a := range h.addrs {
		if !slices.Contains(p.addrs, a) {
			x.end(claim{h.Workload, a}, now)
		}
	}
	for _, a := range p.addrs {
		if !slices.Contains(h.addrs, a) {
			x.begin(a, h.Workload, p.begin(now, h.moved))
		}
	}
	h.addrs, h.moved = p.addrs, h.moved || len(p.addrs) > 0
}

// leave ends all that h has.
func (x *Index) leave(h *holder, when time.Time) {
	for _, a := range h.addrs {
		x.end(claim{h.Workload, a}, when)
	}
	h.addrs = nil
}

// place takes what a pod says of its node's addresses.
func (x *Index) place(h *holder, p *pod) {
	var says []claim
	for _, a := range p.hosts {
		says = append(says, claim{x.node(p.node), a})
	}
	for _, c := range says {
		if x.claims[c]++; x.claims[c] == 1 {
			x.begin(c.at, c.who, x.since(c.at))
		}
	}
	x.unplace(h)
	h.nodes = says
}

// unplace takes back what h said.
func (x *Index) unplace(h *holder) {
	for _, c := range h.nodes {
		if x.claims[c]--; x.claims[c] == 0 {
			delete(x.claims, c)
			x.end(c, x.now())
		}
	}
	h.nodes = nil
}

func (x *Index) node(name string) *Workload {
	w := x.nodes[name]
	if w == nil {
		w = &Workload{Name: nodePrefix + name}
		x.nodes[name] = w
	}
	return w
}

// since is when a node began to have an address: ever, unless somebody else is
// known to have had it.
func (x *Index) since(a netip.Addr) time.Time {
	if len(x.history[a]) == 0 {
		return time.Time{}
	}
	return x.now()
}

// drop takes a pod that is gone, as it was last seen.
func (x *Index) drop(p *pod) {
	x.set(p)
	x.remove(p.UID)
}

func (x *Index) remove(uid types.UID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if h := x.pods[uid]; h != nil {
		x.leave(h, x.now())
		x.unplace(h)
		delete(x.pods, uid)
		delete(x.own, uid)
	}
}

// replace takes all pods that there are. Those that are not among them went while
// nobody watched.
func (x *Index) replace(pods []*pod) {
	there := make(map[types.UID]bool, len(pods))
	for _, p := range pods {
		there[p.UID] = true
		x.set(p)
	}
	x.mu.RLock()
	var gone []types.UID
	for uid := range x.pods {
		if !there[uid] {
			gone = append(gone, uid)
		}
	}
	x.mu.RUnlock()
	for _, uid := range gone {
		x.remove(uid)
	}
}

func (x *Index) begin(a netip.Addr, who *Workload, from time.Time) {
	x.history[a] = append(x.history[a], tenure{who: who, from: from})
}

// end ends the tenure of a claim that lasts, and forgets the oldest where there
// are too many. One that was over before it is known to have begun was none.
func (x *Index) end(c claim, when time.Time) {
	list := x.history[c.at]
	i := slices.IndexFunc(list, func(t tenure) bool { return t.who == c.who && t.until.IsZero() })
	if i < 0 {
		return
	}
	t := list[i]
	list = slices.Delete(list, i, i+1)
	if when.After(t.from) {
		t.until = when
		at := slices.IndexFunc(list, func(o tenure) bool { return o.until.IsZero() })
		if at < 0 {
			at = len(list)
		}
		list = slices.Insert(list, at, t)
		x.ended = append(x.ended, c)
	}
	x.keep(c.at, list)
	for len(x.ended) > maxEnded {
		x.forget(x.ended[0])
		x.ended = x.ended[1:]
	}
}

// forget drops the first tenure of a claim that is over. Whoever had the address
// beside it had it later, as far as that is still known.
func (x *Index) forget(c claim) {
	list := x.history[c.at]
	i := slices.IndexFunc(list, func(t tenure) bool { return t.who == c.who && !t.until.IsZero() })
	if i < 0 {
		return
	}
	until := list[i].until
	list = slices.Delete(list, i, i+1)
	for k := range list {
		if list[k].from.Before(until) {
			list[k].from = until
		}
	}
	x.keep(c.at, list)
}

func (x *Index) keep(a netip.Addr, list []tenure) {
	if len(list) == 0 {
		delete(x.history, a)
		return
	}
	x.history[a] = list
}

// plain is an address as it is compared.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
