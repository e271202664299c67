package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
)

// judge holds what the load did against the ledgers of the proxies that carried it,
// and says what does not fit: something that failed, a tunnel that was cut before
// spared, a ledger that is not whole, and a connection without its record.
func judge(r Result, ledgers []string, spared time.Time) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if n := r.Connections.Failed + r.Tunnels.Failed; n > 0 {
		say("%d failed, first %+v", n, r.Failures[0])
	}
	if r.Connections.OK == 0 || len(r.Cuts) == 0 {
		say("%d connections, %d tunnels cut: that was no restart under load", r.Connections.OK, len(r.Cuts))
	}
	for _, c := range r.Cuts {
		if c.Cut.Before(spared) {
			say("a tunnel was cut at %s, before %s", c.Cut.Format(time.RFC3339Nano), spared.Format(time.RFC3339Nano))
		}
	}
	records := 0
	for _, path := range ledgers {
		n, err := recorded(path)
		if err != nil {
			say("%s: %v", path, err)
		}
		records += n
	}
	if want := r.Connections.OK + r.Tunnels.OK; records != want {
		say("%d connections and tunnels, %d records of them in %d ledgers", want, records, len(ledgers))
	}
	return wrong
}

// recorded counts the closing records of clients' connections in a ledger. The error
// says in what it is not whole: damaged, without start or stop, lost records, or a
// connection that was not ok.
func recorded(path string) (n int, err error) {
	var first, last policy.Kind
	for r, err := range ledger.Read(path) {
		if err != nil {
			return n, err
		}
		if first == "" {
			first = r.Kind
		}
		switch last = r.Kind; {
		case r.Kind == policy.KindLost:
			return n, fmt.Errorf("%d records lost: %s", r.Count, r.Why)
		case r.Kind != policy.KindConnection || r.Origin != policy.OriginClient || r.Open:
		case r.Outcome != policy.OK:
			return n, fmt.Errorf("record %d: %s %s", r.Seq, r.Outcome, r.Error)
		default:
			n++
		}
	}
	if first != policy.KindStart || last != policy.KindStop {
		return n, fmt.Errorf("begins with %q and ends with %q", first, last)
	}
	return n, nil
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
