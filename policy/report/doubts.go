package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// doubts collects the reasons for which nothing can be cleared. Each is a
// sentence without a full stop.
func (j *judgement) doubts() {
	b, r := j.b, j.r
	for _, d := range b.damages {
		j.doubt("the ledger is damaged: %s", d)
	}
	if b.moreDamage > 0 {
		j.doubt("the ledger is damaged in %d more places", b.moreDamage)
	}
	if b.lost > 0 {
		j.doubt("%d %s lost and never written (%s): what they said is unknown, so run the trial again", b.lost,
			plural(b.lost, "record was", "records were"), cmp.Or(listing(b.lostWhy, 3), "no reason given"))
	}
	if missing := j.canaries(); len(missing) > 0 {
		j.doubt("the canary was not seen through every listener: %s; connections may have gone unrecorded", strings.Join(missing, ", "))
	}
	r.Incomplete = len(r.Doubts) > 0
	switch {
	case b.sights == 0:
		j.doubt("nothing was observed: no client made a connection, request or look-up through egressaudit; see whether it uses the network at all, and its proxy settings (egressaudit env prints them)")
	case j.opt.Anew && b.sights == b.earlier:
		j.doubt("nothing was observed this time: what is told is of earlier recordings in the same ledger; give each run a ledger of its own")
	case r.Required == 0:
		j.doubt("no endpoint counts as required%s", j.whyNone())
	case r.Exercised == 0:
		j.doubt("none of the %d required endpoints was exercised", r.Required)
	}
	j.halfSeen()
	j.quietSides()
	switch v := b.vantages; {
	case b.blurred:
		j.doubt("there are more than %d vantages, or one has a label of more than %d octets, and not all are held apart: what one cannot reach may have worked from another (make reports of fewer ledgers at once)", maxWords, maxText)
	case len(v) > 1 && len(j.sides) == 0:
		j.doubt("records of %s are judged as one here: what one cannot reach may have worked from another (egressaudit report holds them apart)", listing(v, 8))
	}
}

// halfSeen doubts what was seen of required endpoints and proves nothing: of
// endpoints that only have such hosts, and of hosts beside others that worked.
func (j *judgement) halfSeen() {
	said := map[string]bool{}
	for _, e := range j.r.Endpoints {
		if !e.Required || e.Status == Blocked || e.Status == Partial {
			continue
		}
		at := policy.JoinPort(e.Host, e.Port)
		for _, k := range []struct {
			state  Status
			format string
		}{
			{Reached, "%s: %s accepted connections and never answered before the client left; that may be a filter, so try with a client that waits longer"},
			{Resolved, "%s: %s looked up, and no connection there came through egressaudit; somebody goes around it"},
		} {
			var hosts []string
			for _, h := range e.Hosts {
				if h.State == k.state {
					hosts = append(hosts, h.Host)
				}
			}
			if len(hosts) == 0 || said[at+string(k.state)] {
				continue
			}
			said[at+string(k.state)] = true
			who := listing(hosts, 4)
			if k.state == Resolved {
				who += plural(uint64(len(hosts)), " was", " were")
			}
			j.doubt(k.format, at, who)
		}
		if hosts := j.early(e); len(hosts) > 0 && !said[at+string(Unused)] {
			said[at+string(Unused)] = true
			j.doubt("%s: %s looked up less than %s before the end: too early to tell whether a connection follows, so let the trial run longer",
				at, listing(hosts, 4)+plural(uint64(len(hosts)), " was", " were"), j.window())
		}
	}
}

// canaries are those missing, of sessions that ended and of the one that runs.
func (j *judgement) canaries() []string {
	missing := slices.Clone(j.b.canaryless)
	for _, s := range j.b.running() {
		for _, m := range s.demand(1) {
			missing = addWord(missing, m)
		}
	}
	slices.Sort(missing)
	return missing
}

func (j *judgement) whyNone() string {
	switch {
	case len(j.opt.Index.Endpoints()) == 0:
		return ": the catalogs are empty"
	case j.scope != nil:
		known := map[string]bool{}
		for _, e := range j.opt.Index.Endpoints() {
			known[e.Requirement.Scope] = true
		}
		return fmt.Sprintf(" with the scopes %s (the catalogs know %s)", listing(j.opt.Scopes, 8), listing(slices.Sorted(maps.Keys(known)), 8))
	}
	return ": all are optional, or do not hold at the time of the trial"
}

func (j *judgement) doubt(format string, args ...any) {
	j.r.Doubts = append(j.r.Doubts, fmt.Sprintf(format, args...))
}

// blindSpots lists what the trial could not see, the doubts first.
func (j *judgement) blindSpots() {
	b := j.b
	j.r.BlindSpots = some(j.r.Doubts)
	say := func(when bool, format string, args ...any) {
		if when {
			j.r.BlindSpots = append(j.r.BlindSpots, fmt.Sprintf(format, args...))
		}
	}
	say(b.sessions == 0, "there is no start record: which listeners there were, and whether they worked, is unknown")
	say(b.killed > 0, "recording was cut off and started again %s: what happened in between is unknown", times(b.killed))
	say(b.pauses > 0, "recording stopped and went on later, %s: what happened in between is unknown", times(b.pauses))
	n := b.unended()
	say(n == 1 && len(b.ledgers) < 2, "there is no stop record: the trial is still running, or was killed")
	say(n > 0 && len(b.ledgers) >= 2, "%d of %d ledgers %s no stop record: recording is still running there, or was killed", n, len(b.ledgers), plural(uint64(n), "has", "have"))
	j.listeners(say)
	say(len(j.noProxy()) > 0, "NO_PROXY lets clients go around egressaudit to: %s", listing(j.noProxy(), 12))
	say(b.unseen.ech > 0, "%d %s with Encrypted ClientHello: the name inside was not visible", b.unseen.ech, plural(uint64(b.unseen.ech), "connection", "connections"))
	say(b.unseen.bare > 0, "%d TLS %s to a bare address without a server name: who was meant is unknown", b.unseen.bare, plural(uint64(b.unseen.bare), "connection", "connections"))
	say(b.unseen.unparsed > 0, "%d %s whose first bytes could not be read", b.unseen.unparsed, plural(uint64(b.unseen.unparsed), "connection", "connections"))
	for _, told := range b.told {
		say(true, "%s", told)
	}
	j.around(say)
	j.unfollowed(say)
	j.offers(say)
	j.foldings(say)
	say(len(b.phases) == 0, "no phase was marked: what belongs to which step of the install is unknown")
	say(true, "%s", j.onlyVantage())
}

// listeners tells what the ways to us did not cover.
func (j *judgement) listeners(say func(bool, string, ...any)) {
	if j.b.sessions == 0 {
		return
	}
	has, six := map[string]bool{}, false
	for _, l := range j.b.listeners {
		k := listenerKind(l)
		has[k] = true
		six = six || (k == "redirect" || k == "tproxy") && (strings.Contains(l, "[") || !strings.Contains(l, "."))
	}
	capture := has["redirect"] || has["tproxy"]
	say(!capture, "only programs that use the proxy settings were seen: traffic that ignores them went another way")
	say(!has["tproxy"] && !has["isolate"], "UDP was not in the path: QUIC (HTTP/3 on UDP 443) would go unseen")
	say(capture && !six, "IPv6 was not captured: the listeners are IPv4 only")
	say(!has["dns"], "DNS was not in our hands: a look-up that nobody followed up leaves no trace here")
}

// around tells of unlisted names that were looked up and never connected to
// through us.
func (j *judgement) around(say func(bool, string, ...any)) {
	var names []string
	for _, d := range j.lonely {
		if state, _ := d.judge(); state == addresses && !j.connected[d.host] && !j.bypass.host(d.name, 0) {
			names = append(names, d.host)
		}
	}
	say(len(names) > 0, "%d %s in no list looked up without a connection through egressaudit: %s", len(names),
		plural(uint64(len(names)), "name was", "names were"), listing(names, 8))
}

// foldings tells which limits were reached.
func (j *judgement) foldings(say func(bool, string, ...any)) {
	for _, e := range j.opt.Index.Endpoints() {
		if d := j.b.more[e]; d != nil {
			say(true, "%s met more than %d hosts: %d observations of the rest are counted together", e, maxHosts, d.seen.n)
		}
	}
	for c, what := range [classes]string{unlisted: "destinations in no list", lookedUp: "looked-up names in no list", inside: "destinations inside the cluster"} {
		if d := j.b.other[c]; d != nil {
			say(true, "there were more than %d %s: %d observations of the rest are counted together", limits[c], what, d.seen.n)
		}
	}
}

func (j *judgement) onlyVantage() string {
	switch v := j.b.vantages; {
	case len(v) > 1:
		return "seen from " + listing(v, 8) + " alone"
	case len(v) == 0:
		return "the vantage is unknown: which machine this holds for cannot be told"
	case v[0] == "admin":
		return "seen from the admin machine alone: this says nothing of pods and nodes"
	default:
		return fmt.Sprintf("seen from %s alone: other places may have other paths", v[0])
	}
}

func plural(n uint64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
