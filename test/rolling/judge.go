package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
)

// Replica is a proxy that carried a part of the load.
type Replica struct {
	Ledger string    // its file
	Spared time.Time // when its drain was over: until then it cuts no tunnel
}

// judge holds what the load did against the ledgers of the proxies that carried it,
// and says what does not fit: fewer new connections a second than floor, something
// that failed, a tunnel that was cut before its replica's drain was over, a ledger
// that is not whole, and a connection without its record.
func judge(r Result, replicas []Replica, floor float64) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if r.Rate.Held < floor {
		say("%.0f new connections a second of %.0f: fewer than %.0f prove nothing", r.Rate.Held, r.Rate.Asked, floor)
	}
	if n := r.Connections.Failed + r.Tunnels.Failed; n > 0 {
		say("%d failed, first %+v", n, r.Failures[0])
	}
	if r.Connections.OK == 0 || len(r.Cuts) == 0 {
		say("%d connections, %d tunnels cut: that was no restart under load", r.Connections.OK, len(r.Cuts))
	}
	records := 0
	var spared []time.Time // of each tunnel that a replica says it cut
	for _, p := range replicas {
		s, err := recorded(p.Ledger)
		if err != nil {
			say("%s: %v", p.Ledger, err)
		}
		records += s.records
		for _, cut := range s.cuts {
			if spared = append(spared, p.Spared); cut.Before(p.Spared) {
				say("%s: a tunnel was cut at %s, before %s", p.Ledger, stamp(cut), stamp(p.Spared))
			}
		}
	}
	if want := r.Connections.OK + r.Tunnels.OK; records != want {
		say("%d connections and tunnels, %d records of them in %d ledgers", want, records, len(replicas))
	}
	return append(wrong, cuts(r.Cuts, spared)...)
}

// cuts holds the tunnels that the load saw cut against those that replicas say they
// cut, of which each has the end of its replica's drain. Nobody knows which is which,
// but where each was cut behind its own, the n-th cut is behind the n-th end.
func cuts(seen []Cut, spared []time.Time) (wrong []string) {
	if len(seen) != len(spared) {
		return []string{fmt.Sprintf("%d tunnels were cut, the ledgers tell of %d", len(seen), len(spared))}
	}
	seen = slices.SortedFunc(slices.Values(seen), func(a, b Cut) int { return a.Cut.Compare(b.Cut) })
	slices.SortFunc(spared, time.Time.Compare)
	for i, c := range seen {
		if c.Cut.Before(spared[i]) {
			wrong = append(wrong, fmt.Sprintf("a tunnel was cut at %s, before %s", stamp(c.Cut), stamp(spared[i])))
		}
	}
	return wrong
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// share is what one replica carried.
type share struct {
	records int         // closing records of clients' connections that were ok
	cuts    []time.Time // when it cut tunnels
}

// recorded reads a ledger. The error says in what it is not whole: damaged, a start
// without its stop, lost records, or connections that were not ok.
func recorded(path string) (s share, err error) {
	var failed, lost int
	var first *policy.Record // that failed
	last, running := policy.Kind(""), false
	for r, err := range ledger.Read(path) {
		if err != nil {
			return s, err
		}
		switch last = r.Kind; {
		case r.Kind == policy.KindStart && running:
			return s, fmt.Errorf("record %d: another start, and no stop before it", r.Seq)
		case r.Kind == policy.KindStart || r.Kind == policy.KindStop:
			running = r.Kind == policy.KindStart
		case r.Kind == policy.KindLost:
			lost += r.Count
		case r.Kind != policy.KindConnection || r.Origin != policy.OriginClient || r.Open:
		case r.Outcome == policy.OK:
			s.carried(r)
		default:
			if failed++; first == nil {
				first = r
			}
		}
	}
	if failed > 0 {
		err = fmt.Errorf("%d connections were not ok, first record %d: %s %s", failed, first.Seq, first.Outcome, first.Error)
	}
	if lost > 0 {
		err = errors.Join(err, fmt.Errorf("%d records lost", lost))
	}
	if last != policy.KindStop {
		err = errors.Join(err, fmt.Errorf("ends with %q, and no stop", last))
	}
	return s, err
}

// carried counts a connection that was ok.
func (s *share) carried(r *policy.Record) {
	s.records++
	if r.Detail["why"] == "drain" {
		s.cuts = append(s.cuts, r.Time)
	}
}

// readResult reads what a load said.
func readResult(path string) (r Result, err error) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		err = fmt.Errorf("read %q: %w", path, err)
	}
	return r, err
}
