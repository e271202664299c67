package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"

	"github.com/egressaudit/egressaudit/policy"
)

// rested is a tunnel of a host that ended after it was idle.
type rested struct {
	*idle
	host, domain string
}

// idleCut finds times after which tunnels die, for each way out: direct, or
// through a parent.
func (j *judgement) idleCut() {
	ways := map[string][]rested{}
	j.everyone(func(d *destination) {
		for i := range d.idles {
			at := &d.idles[i]
			ways[at.parent] = append(ways[at.parent], rested{at, d.host, related(d)})
		}
	})
	for _, parent := range slices.Sorted(maps.Keys(ways)) {
		all := ways[parent]
		slices.SortFunc(all, func(a, b rested) int { return -byIdle(*a.idle, *b.idle) })
		for outlived := range min(len(all), minSample) {
			near := within(all, outlived, all[outlived].ms)
			c := cluster{all[outlived:near], outlived, within(all, near, all[near-1].ms) - near, parent}
			if c.telling() {
				j.cut(c)
				break
			}
		}
	}
}

// within is where those behind from end that lived as long as ms, up to ±10 % or
// ±2 s; all is sorted, the longest first.
func within(all []rested, from int, ms int64) int {
	least := min(ms*9/11, ms-4000)
	return from + sort.Search(len(all)-from, func(i int) bool { return all[from+i].ms < least })
}

// cluster are tunnels that ended after about the same time of silence.
type cluster struct {
	tunnels  []rested
	outlived int // tunnels that were idle for longer
	below    int // tunnels that were idle for nearly as long
	parent   string
}

// telling says whether c is a pattern: enough tunnels, not of one host alone,
// standing out from what ended a little earlier, and hardly any that lived
// longer; none that we ended ourselves.
func (c cluster) telling() bool {
	n := len(c.tunnels)
	if n < minSample || c.below*3 > n || c.outlived >= minSample || c.outlived*2 >= n {
		return false
	}
	return len(c.hosts()) > 1 && !slices.ContainsFunc(c.tunnels, func(r rested) bool { return r.ours })
}

func (c cluster) hosts() []string { return c.each(func(r rested) string { return r.host }) }

// each lists what of gives of the tunnels, each once.
func (c cluster) each(of func(rested) string) []string {
	all := map[string]bool{}
	for _, r := range c.tunnels {
		all[of(r)] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// resets counts tunnels that were cut by RST.
func (c cluster) resets() int {
	n := 0
	for _, r := range c.tunnels {
		n += bit(r.cut)
	}
	return n
}

// confidence is likely where unrelated far ends agree on the time, and no tunnel
// outlived it: origins end idle connections, too, but with FIN, and each after
// its own time.
func (c cluster) confidence() policy.Confidence {
	domains := len(c.each(func(r rested) string { return r.domain }))
	if c.outlived == 0 && (domains > 2 || domains > 1 && c.resets()*2 >= len(c.tunnels)) {
		return policy.Likely
	}
	return policy.Guess
}

// cut tells of c.
func (j *judgement) cut(c cluster) {
	n, resets := len(c.tunnels), c.resets()
	most, least := c.tunnels[0].ms, c.tunnels[n-1].ms
	how := fmt.Sprintf("%d by RST, %d by FIN", resets, n-resets)
	switch resets {
	case 0:
		how = "all by FIN"
	case n:
		how = "all by RST"
	}
	but := ""
	if c.outlived > 0 {
		but = fmt.Sprintf(", though %d stood idle for longer", c.outlived)
	}
	if c.confidence() == policy.Guess {
		but += ", or it is the far ends' own limit"
	}
	var seqs []uint64
	for _, r := range c.tunnels {
		seqs = append(seqs, r.seq)
	}
	j.find(IdleCut, seqs, "%d tunnels to %s were ended from the far side after about %s without a byte (%s%s): "+
		"%s cuts what is idle%s; websockets and Azure Relay break there unless they send something more often%s; confidence: %s",
		n, listing(c.hosts(), 3), seconds(c.tunnels[n/2].ms), between(least, most), how,
		wayOut(c.parent), but, j.websockets(), c.confidence())
}

// websockets tells which endpoints need what an idle limit breaks.
func (j *judgement) websockets() string {
	var need []string
	for _, e := range j.opt.Index.Endpoints() {
		r := e.Requirement
		if (r.Wants(policy.NeedWebsocket) || r.Protocol == policy.WSS) && j.inForce(e) && j.inScope(r) {
			need = addWord(need, e.String())
		}
	}
	if len(need) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s %s websocket by the catalog)", listing(need, 3), plural(uint64(len(need)), "needs", "need"))
}

// wayOut is what stands in the path.
func wayOut(parent string) string {
	if parent == "" {
		return "a device in the path (the firewall)"
	}
	return "a device in the path (the proxy " + clip(parent) + " or the firewall behind it)"
}

// seconds is a time of silence for people.
func seconds(ms int64) string {
	return fmt.Sprintf("%d s", (ms+500)/1000)
}

// between is "220 s to 260 s, ", or "" where that is the same.
func between(least, most int64) string {
	if seconds(least) == seconds(most) {
		return ""
	}
	return seconds(least) + " to " + seconds(most) + ", "
}

// related is the registrable domain of d; what has none is related to itself
// alone.
func related(d *destination) string { return cmp.Or(d.name.Registrable(), d.host) }

// everyone calls f for each destination that connections went to, those that
// are folded together last.
func (j *judgement) everyone(f func(*destination)) {
	for _, d := range slices.SortedFunc(maps.Values(j.b.dests), byHost) {
		if !d.lookup {
			f(d)
		}
	}
	for _, e := range j.opt.Index.Endpoints() {
		if d := j.b.more[e]; d != nil {
			f(d)
		}
	}
	for _, d := range j.b.other {
		if d != nil {
			f(d)
		}
	}
}
