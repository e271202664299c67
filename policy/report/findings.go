package report

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// findings collects what is worth knowing and is no status.
func (j *judgement) findings() {
	j.r.Findings = []Finding{}
	j.flapping()
	j.intercepted()
	j.mismatches()
	j.placeholders()
	j.spared()
	j.idleCut()
	j.largeHellos()
	j.addresses()
	j.bypasses()
	j.hardcoded()
	j.strays()
	j.beside()
	slices.SortStableFunc(j.r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Text, b.Text))
	})
	j.r.Findings = slices.CompactFunc(j.r.Findings, func(a, b Finding) bool { return a.Kind == b.Kind && a.Text == b.Text })
}

func (j *judgement) find(k Kind, seqs []uint64, format string, args ...any) {
	evidence := some(seqs)
	slices.Sort(evidence)
	if evidence = slices.Compact(evidence); len(evidence) > maxEvidence {
		evidence = evidence[:maxEvidence]
	}
	j.r.Findings = append(j.r.Findings, Finding{k, fmt.Sprintf(format, args...), evidence})
}

// each calls f for every site of the endpoints in the report.
func (j *judgement) each(f func(*policy.Endpoint, *site)) {
	for _, e := range j.opt.Index.Endpoints() {
		for _, s := range j.sorted(e) {
			f(e, s)
		}
	}
}

func (j *judgement) flapping() {
	j.each(func(e *policy.Endpoint, s *site) {
		if !s.flaps {
			return
		}
		seqs, missed := some(s.conn.failures.seqs), s.conn.failed
		if s.look != nil && s.look.mended {
			seqs, missed = append(seqs, s.look.misses.seqs...), missed+s.look.misses.n
		}
		j.find(Flapping, seqs, "%s failed %s and worked in the end: expect it to fail again", policy.JoinPort(s.host, e.Port), times(missed))
	})
}

func (j *judgement) intercepted() {
	look := func(s *site, port uint16) {
		if s.inspected() {
			j.find(TLSIntercepted, append(some(s.conn.intercepts.seqs), s.probe.seqs...),
				"%s: the certificate was signed by %s, which the public does not trust, and the client accepted it: a device inspects TLS",
				policy.JoinPort(s.host, port), quote(s.issuer()))
		}
	}
	j.each(func(e *policy.Endpoint, s *site) { look(s, e.Port) })
	for _, d := range j.loose {
		look(&site{host: d.host, conn: d, probe: j.b.probes[d.key]}, d.port)
	}
}

func (j *judgement) mismatches() {
	pairs := slices.SortedFunc(maps.Keys(j.b.pairs), func(a, b pair) int {
		return cmp.Or(cmp.Compare(a.asked, b.asked), cmp.Compare(a.sni, b.sni))
	})
	for _, p := range pairs {
		n := j.b.pairs[p]
		if _, err := netip.ParseAddr(p.asked); err == nil {
			j.find(SNIMismatch, n.seqs, "went to %s and said %s in the ClientHello, %s, a name that DNS gave other addresses for: who is really spoken to cannot be told from the name",
				p.asked, p.sni, times(n.n))
			continue
		}
		j.find(SNIMismatch, n.seqs, "asked for %s and said %s in the ClientHello, %s: what is really spoken to cannot be told from the name",
			p.asked, p.sni, times(n.n))
	}
	if n := j.b.morePair; n > 0 {
		j.find(SNIMismatch, nil, "asked for one name and said another, %s more, with pairs too many to list", times(n))
	}
}

// placeholders tells what open placeholders stood for, over all endpoints.
func (j *judgement) placeholders() {
	values := map[string]map[string][]uint64{}
	j.each(func(e *policy.Endpoint, s *site) {
		n, err := policy.ParseName(s.host)
		if err != nil {
			return
		}
		for name, v := range e.Host.Values(n) {
			if values[name] == nil {
				values[name] = map[string][]uint64{}
			}
			values[name][v] = append(values[name][v], s.seqs()...)
		}
	})
	for _, name := range slices.Sorted(maps.Keys(values)) {
		seen := slices.Sorted(maps.Keys(values[name]))
		j.r.Seen = append(j.r.Seen, Placeholder{name, seen})
		if name == "region" && len(j.r.Trial.Regions) == 0 {
			j.r.Trial.Regions = seen
		}
		if len(seen) > 1 {
			var seqs []uint64
			for _, v := range seen {
				seqs = append(seqs, values[name][v][:min(1, len(values[name][v]))]...)
			}
			j.find(SeveralRegions, seqs, "the placeholder <%s> stood for several values: %s", name, listing(seen, 20))
		}
	}
}

// seqs are records that show the site.
func (s *site) seqs() []uint64 {
	var out []uint64
	if s.conn != nil {
		out = append(out, s.conn.seen.seqs...)
	}
	if s.look != nil {
		out = append(out, s.look.questions.seqs...)
	}
	return out
}

// spared tells of destinations that are no gap but should not have come.
func (j *judgement) spared() {
	for _, d := range j.loose {
		switch {
		case d.class == inside || inCluster(d.name):
			j.find(NoProxy, d.seen.seqs, "%s came %s and lies inside: it should not come through a proxy, so add %s to NO_PROXY of %s (or leave it out of the redirection)",
				policy.JoinPort(d.host, d.port), times(d.seen.n), noProxyEntry(d), whose(d))
		case d.spared():
			j.find(Guarded, d.seen.seqs, "%s was refused by egressaudit itself, %s (%s): it is judged neither way",
				policy.JoinPort(d.host, d.port), times(d.denied), guardReason(d))
		}
	}
	if d := j.b.other[inside]; d != nil {
		j.find(NoProxy, d.seen.seqs, "too many more destinations inside the cluster to list, %s", times(d.seen.n))
	}
}

func guardReason(d *destination) string {
	if d.lastDeny.Error == policy.DestinationProhibited {
		return "a guarded address; --allow-address lets it pass"
	}
	return "not a request for a host and port" + around(": ", clip(fact(d.lastDeny.detail, "why")), "")
}

// noProxyEntry is what to write into NO_PROXY for d.
func noProxyEntry(d *destination) string {
	for _, domain := range []string{"svc", "cluster.local"} {
		if d.name.Within(domain) {
			return "." + domain
		}
	}
	return d.host
}

func whose(d *destination) string {
	if len(d.workloads) == 0 {
		return "the client"
	}
	return listing(slices.Sorted(slices.Values(d.workloads)), 3)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// listing joins at most limit of list, and says how many are left.
func listing(list []string, limit int) string {
	if len(list) <= limit {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:limit], ", "), len(list)-limit)
}

func orUnknown(s string) string { return cmp.Or(s, "unknown") }

// quote puts a text of somebody else between quotes, so that it cannot pass for
// ours.
func quote(s string) string { return `"` + strings.ReplaceAll(Escape(s), `"`, `'`) + `"` }
