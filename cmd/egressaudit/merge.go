package main

import (
	"errors"
	"iter"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/policy/report"
)

// readAll feeds whole ledgers to one engine, several in the order of time: replicas
// record one install between them, the look-up here and its connection there. Damage
// makes the report doubt; a file that is no ledger is an error.
func readAll(o report.Options, files []string) (*report.Report, error) {
	e := report.New(o)
	var all []*reading
	for n, f := range files {
		r := &reading{ledger: n}
		r.next, r.stop = iter.Pull2(ledger.Stream(f))
		defer r.stop()
		all = append(all, r)
	}
	for _, r := range all {
		if err := r.advance(e); err != nil {
			return nil, err
		}
	}
	for r := earliest(all); r != nil; r = earliest(all) {
		e.From(r.ledger)
		e.Add(r.record)
		if err := r.advance(e); err != nil {
			return nil, err
		}
	}
	return e.Report(), nil
}

// reading is one ledger of several that are read.
type reading struct {
	ledger int
	record *policy.Record // the one that comes next; nil: there is none
	next   func() (*policy.Record, error, bool)
	stop   func()
}

// advance goes to the next record, and tells e what is damaged before it.
func (r *reading) advance(e *report.Engine) error {
	for {
		record, err, more := r.next()
		var damage *ledger.Damage
		switch {
		case !more:
			r.record = nil
			return nil
		case errors.As(err, &damage):
			e.Damage(err)
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
