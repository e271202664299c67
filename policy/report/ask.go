package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// asking is what an ask speaks of.
type asking struct {
	host     string // the catalog's own pattern
	port     uint16
	protocol policy.Protocol
	needs    []policy.Need
	source   string
	note     string // "" or what else those who read it must know
	vantage  string
	sites    []*site // that do not work, the telling one first
	fail     *failure
}

// sentence is the ask.
func (a asking) sentence() string {
	r := askFor(a.fail)
	return fmt.Sprintf("On %s, %s: %s; %s%s%s.", a.fill(r.where), a.fill(r.what), a.fill(r.seen), a.evidence(), a.fill(r.tail), a.note)
}

// fill puts words in place of their names in braces, once: what a word holds is
// not read again.
func (a asking) fill(s string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "{")
		b.WriteString(before)
		name, after, closed := strings.Cut(rest, "}")
		if !found || !closed {
			return b.String()
		}
		b.WriteString(a.word(name))
		s = after
	}
}

// direct says that no proxy stands between us and the destination.
func (a asking) direct() bool { return a.parent() == "" }

func (a asking) parent() string { return clip(a.fail.parent) }

// word is what stands for a name in braces. What devices and clients said is
// escaped and clipped.
func (a asking) word(name string) string {
	if of, known := sentenceWords[name]; known {
		return of(a)
	}
	return cmp.Or(a.fact(name), "unknown") // rcode, status, alert
}

// fact is a piece of the failure's detail.
func (a asking) fact(name string) string { return clip(fact(a.fail.detail, name)) }

// sentenceWords are the placeholders of sentences that are more than a fact.
var sentenceWords = map[string]func(asking) string{
	"host":   func(a asking) string { return Escape(a.host) },
	"port":   func(a asking) string { return strconv.Itoa(int(a.port)) },
	"target": func(a asking) string { return a.target(true) },
	"exempt": func(a asking) string { return a.target(false) },
	"source": func(a asking) string { return cmp.Or(Escape(a.source), "the publisher's page") },
	"parent": func(a asking) string { return cmp.Or(a.parent(), "(its address was not recorded)") },
	"path":   asking.path,
	"behind": asking.behind,
	"upstream": func(a asking) string {
		return around(" ", clip(cmp.Or(a.fail.upstream, fact(a.fail.detail, "resolver"))), "")
	},
	"status-of": func(a asking) string { return around(" (status ", a.fact("status"), ")") },
	"beyond":    func(a asking) string { return around(" (", a.fact("beyond"), ")") },
	"schemes":   func(a asking) string { return around(", offering ", a.fact("schemes"), "") },
	"close":     func(a asking) string { return around(" (", strings.ToUpper(a.fact("close")), ")") },
	"reply":     asking.reply,
	"issuer":    func(a asking) string { return quote(cmp.Or(a.fact("issuer"), "an unknown issuer")) },
	"why":       func(a asking) string { return around(" (", cmp.Or(a.fact("why"), a.fact("parent")), ")") },
	"taken":     func(a asking) string { return taken(a.fail) },
	"idle":      func(a asking) string { return around(" (idle for ", a.fact("idle_ms"), " ms)") },
	"resolve":   func(a asking) string { return around(" (", a.fact("resolve"), ")") },
	"sinkhole":  func(a asking) string { return around(" (", a.fact("addresses"), ")") },
	"guarded":   func(a asking) string { return around(" (", cmp.Or(a.fact("addresses"), a.address()), ")") },
	"error":     func(a asking) string { return cmp.Or(clip(string(a.fail.Error)), "unknown error") },
	"stage":     func(a asking) string { return cmp.Or(clip(string(a.fail.Stage)), "unknown") },
}

// path names the devices that may have done it.
func (a asking) path() string {
	if a.direct() {
		return firewall
	}
	return "the proxy " + a.parent() + " or the firewall behind it"
}

// behind is path where a proxy stands in the way.
func (a asking) behind() string {
	if a.direct() {
		return ""
	}
	return " (" + a.path() + ")"
}

// reply says what came instead of what was due.
func (a asking) reply() string {
	status := around("HTTP status ", a.fact("status"), around(", server ", a.fact("server"), ""))
	return around(" (", cmp.Or(status, a.fact("reply")), ")")
}

// around puts before and after around s, where there is an s.
func around(before, s, after string) string {
	if s == "" {
		return ""
	}
	return before + s + after
}

func taken(f *failure) string {
	if f.Outcome == policy.OK {
		return "; the client took it, yet the publisher demands that this endpoint is not inspected"
	}
	return ", and the client refused it"
}

// target is what to allow: port, host and what the endpoint needs besides,
// inspection among it unless the sentence speaks of that already.
func (a asking) target(inspection bool) string {
	if a.port == 0 {
		return Escape(a.host)
	}
	transport, needs := "TCP", []string{}
	switch a.protocol {
	case policy.UDP:
		transport = "UDP"
	case policy.HTTP:
		needs = append(needs, "plain HTTP")
	}
	if a.protocol == policy.WSS || slices.Contains(a.needs, policy.NeedWebsocket) {
		needs = append(needs, "with WebSocket upgrades")
	}
	if slices.Contains(a.needs, policy.NeedNoTLSInspection) && inspection {
		needs = append(needs, "without TLS inspection")
	}
	out := fmt.Sprintf("%s port %d to %s", transport, a.port, Escape(a.host))
	if len(needs) > 0 {
		out += " (" + strings.Join(needs, ", ") + ")"
	}
	return out
}

// evidence is how often, at which hosts, when, and from where.
func (a asking) evidence() string {
	var from, to time.Time
	var hosts []string
	n, of := 0, 0
	for _, s := range a.sites {
		failed, attempts, first, last := s.failing()
		widen(&from, &to, first, last)
		n, of = n+failed, of+attempts
		if s.host != a.host {
			hosts = addOnce(hosts, clip(s.host))
		}
	}
	what := fmt.Sprintf("%d of %d attempts failed", n, of)
	switch {
	case a.fail.Outcome == policy.OK:
		what = fmt.Sprintf("seen in %s", counted(a.sites[0].conn.intercepts.n+a.sites[0].probe.n, "handshake"))
	case of == 1:
		what = "the only attempt failed"
	case n == of && n == 2:
		what = "both attempts" + a.retries() + " failed"
	case n == of:
		what = fmt.Sprintf("all %d attempts%s failed", of, a.retries())
	}
	if len(hosts) > 0 {
		what += " (to " + listing(hosts, 3) + ")"
	}
	what += ", " + during(from, to)
	if at := a.address(); at != "" && a.fail.Stage != policy.StageResolve {
		what += ", last at " + at
	}
	if a.vantage != "" {
		what += ", seen from " + clip(a.vantage)
	}
	return what
}

// retries tells that attempts belong together: the same client tried again within
// seconds. It is "" where that is not known.
func (a asking) retries() string {
	s := a.sites[0]
	if len(a.sites) > 1 || s.conn == nil || s.conn.folded || s.conn.several || len(s.conn.workloads) > 1 || s.conn.actions >= s.conn.failed {
		return ""
	}
	if s.conn.actions == 1 {
		return " of one action"
	}
	return fmt.Sprintf(" of %d actions", s.conn.actions)
}

// address is where the telling attempt went, for those who search a log.
func (a asking) address() string {
	if !a.fail.address.IsValid() {
		return ""
	}
	return a.fail.address.String()
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// during is a span of time in UTC, to the second.
func during(from, to time.Time) string {
	const day, clock = "2006-01-02", "15:04:05"
	from, to = from.UTC().Truncate(time.Second), to.UTC().Truncate(time.Second)
	switch {
	case from.Equal(to):
		return from.Format(day+" "+clock) + " UTC"
	case from.Format(day) == to.Format(day):
		return from.Format(day+" "+clock) + " to " + to.Format(clock) + " UTC"
	}
	return from.Format(day+" "+clock) + " to " + to.Format(day+" "+clock) + " UTC"
}

// clip is a text of somebody else, made safe and short for a sentence of ours.
func clip(s string) string {
	const most = 120
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "..."
	}
	return Escape(s)
}
