package main

import (
	"errors"
	"iter"
	"slices"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/policy/report"
)

// readAll makes a report over whole ledgers.
func readAll(o report.Options, files []string) (*report.Report, error) {
	e := report.New(o)
	if err := feed(files, to(e), e.Damage); err != nil {
		return nil, err
	}
	return e.Report(), nil
}

// readBeside is readAll that holds each vantage apart, too, where there are several.
func readBeside(o report.Options, files []string) (*report.Report, error) {
	o.Index = policy.NewIndex(o.Catalogs...) // one for all engines
	e := report.New(o)
	if err := feed(files, to(e), e.Damage); err != nil {
		return nil, err
	}
	if err := holdApart(e, o, files); err != nil {
		return nil, err
	}
	return e.Report(), nil
}

// holdApart has e judge each vantage apart, too, where there are several. o has the
// Index of e, which was told of damage already.
func holdApart(e *report.Engine, o report.Options, files []string) error {
	seen, err := vantagesOf(files)
	if err != nil || len(seen) < 2 {
		return err
	}
	var sides []*report.Engine
	add := map[string]func(int, *policy.Record){}
	for _, v := range seen {
		o.Files = v.files
		side := report.New(o)
		sides, add[v.name] = append(sides, side), to(side)
	}
	err = feed(files, func(n int, r *policy.Record) {
		if add := add[r.Vantage]; add != nil {
			add(n, r)
		}
	}, func(error) {})
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

// feed adds the records of whole ledgers, several in the order of time: replicas
// record one install between them, the look-up here and its connection there. A file
// that is no ledger is an error.
func feed(files []string, add func(ledger int, r *policy.Record), damage func(error)) error {
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

// vantage is one place, and the ledgers with records from there.
type vantage struct {
	name  string
	files []string
}

// vantagesOf are the vantages of ledgers, by their sessions and first records.
func vantagesOf(files []string) ([]vantage, error) {
	var out []vantage
	for _, f := range files {
		in, err := vantagesIn(f)
		if err != nil {
			return nil, err
		}
		for _, v := range in {
			i := slices.IndexFunc(out, func(o vantage) bool { return o.name == v })
			if i < 0 {
				i, out = len(out), append(out, vantage{name: v})
			}
			out[i].files = append(out[i].files, f)
		}
	}
	return out, nil
}

// vantagesIn are those of one ledger; none where it has no record.
func vantagesIn(path string) (out []string, err error) {
	enter := func(seq iter.Seq2[*policy.Record, error], most int) {
		for rec, bad := range seq {
			var damage *ledger.Damage
			switch {
			case errors.As(bad, &damage):
				continue
			case bad != nil:
				err = bad
				return
			case !slices.Contains(out, rec.Vantage):
				out = append(out, rec.Vantage)
			}
			if len(out) == most {
				return
			}
		}
	}
	enter(ledger.Read(path), 1)
	enter(ledger.Sessions(path), maxVantages)
	return out, err
}

// maxVantages bounds those of one ledger.
const maxVantages = 64

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
