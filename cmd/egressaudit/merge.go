package main

import (
	"errors"
	"iter"
	"runtime"
	"runtime/debug"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/policy/report"
)

// readAll makes a report over whole ledgers, which holds each vantage apart, too, where
// there are several.
func readAll(o report.Options, files []string) (*report.Report, error) {
	o.Index = policy.NewIndex(o.Catalogs...) // one for all engines
	e := report.New(o)
	if err := feed(files, to(e), e.Damage); err != nil {
		return nil, err
	}
	if err := holdApart(e, o, files); err != nil {
		return nil, err
	}
	runtime.GC() // what reading left, for the report takes as much again
	return e.Report(), nil
}

// holdApart has e, which has read files, judge each vantage apart, too, where there
// are several. o has the Index of e.
func holdApart(e *report.Engine, o report.Options, files []string) error {
	seen := e.Vantages()
	if len(seen) < 2 {
		return nil
	}
	var sides []*report.Engine
	add := map[string]func(int, *policy.Record){}
	for _, v := range seen {
		side := report.New(o)
		sides, add[v] = append(sides, side), to(side)
	}
	err := feed(files, func(n int, r *policy.Record) {
		if add := add[r.Vantage]; add != nil {
			add(n, r)
		}
	}, func(error) {}) // e was told of damage already
	e.Beside(sides...)
	return err
}

// to adds records to e.
func to(e *report.Engine) func(ledger int, r *policy.Record) {
	return func(ledger int, r *policy.Record) {
		e.From(ledger)
		e.Add(r)
	}
}

// keptPercent is GOGC of the verbs that read ledgers: reading leaves little garbage, so
// that collecting it twice as often as usual costs next to nothing and saves memory.
const keptPercent = 50

// feed adds the records of whole ledgers, several in the order of time: replicas
// record one install between them, the look-up here and its connection there. A file
// that is no ledger is an error.
func feed(files []string, add func(ledger int, r *policy.Record), damage func(error)) error {
	debug.SetGCPercent(keptPercent) // for the rest of the verb
	var all []*reading
	for n, f := range files {
		r := &reading{ledger: n, damage: damage}
		r.next, r.stop = iter.Pull2(ledger.Stream(f))
		defer r.stop()
		all = append(all, r)
	}
	for _, r := range all {
		if err := r.advance(); err != nil {
			return err
		}
	}
	for r := earliest(all); r != nil; r = earliest(all) {
		add(r.ledger, r.record)
		if err := r.advance(); err != nil {
			return err
		}
	}
	return nil
}

// reading is one ledger of several that are read.
type reading struct {
	ledger int
	record *policy.Record // the one that comes next; nil: there is none
	damage func(error)
	next   func() (*policy.Record, error, bool)
	stop   func()
}

// advance goes to the next record, and tells what is damaged before it.
func (r *reading) advance() error {
	for {
		record, err, more := r.next()
		var damage *ledger.Damage
		switch {
		case !more:
			r.record = nil
			return nil
		case errors.As(err, &damage):
			r.damage(err)
		case err != nil:
			return err
		default:
			r.record = record
			return nil
		}
	}
}

// earliest is the ledger whose record is next, of several at one time the first; nil
// at the end.
func earliest(all []*reading) (first *reading) {
	for _, r := range all {
		if r.record != nil && (first == nil || r.record.Time.Before(first.record.Time)) {
			first = r
		}
	}
	return first
}
