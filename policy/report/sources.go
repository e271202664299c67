package report

import "maps"

// recording is what is remembered of one ledger while records of another come: its
// session, and how long it has gone on.
type recording struct {
	session session
	stretch *stretch
}

// From says of which ledger the records are that are added from now on: any number,
// the same for the same ledger. Ledgers that were written at the same time are best
// added in the order of time, for only so a look-up of one finds its connection in
// another; each then has its own sessions. Without it, all records count as those of
// one ledger, and a start ends the session before it.
func (e *Engine) From(ledger int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.book.turn(ledger)
}

func (t *trial) turn(to int) {
	if to == t.source {
		return
	}
	if t.aside == nil {
		t.aside = map[int]recording{}
	}
	t.aside[t.source] = recording{t.session, t.stretch}
	now, known := t.aside[to]
	if !known {
		now.stretch = &stretch{}
	}
	delete(t.aside, to)
	t.source, t.session, t.stretch = to, now.session, now.stretch
}

// running are the sessions without a stop, of all ledgers.
func (t *trial) running() []session {
	all := maps.Clone(t.aside)
	if all == nil {
		all = map[int]recording{}
	}
	all[t.source] = recording{session: t.session}
	var out []session
	for _, r := range all {
		if r.session.running {
			out = append(out, r.session)
		}
	}
	return out
}

// unended is how many sessions have neither a stop nor a start behind them.
func (t *trial) unended() int { return len(t.running()) + bit(t.endless) }
