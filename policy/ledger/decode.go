package ledger

import (
	"encoding/json"
	"errors"
	"hash/maphash"

	"github.com/egressaudit/egressaudit/policy"
)

// decoder reads records. Lines that look as appendRecord writes them take a
// short way through parser; all others, and all that is odd about them, are left
// to encoding/json, so that both ways always mean the same. One decoder serves
// one goroutine; it keeps the texts that come again and again.
type decoder struct {
	seed  maphash.Seed
	texts []string
	again []parts // what short takes by turns; none: each record has its own
	turn  int
}

// parts are what a record of the short way is made of.
type parts struct {
	r policy.Record
	o policy.Observation

	alpn, answers, cnames []string
	matches               []policy.Match
	detail                map[string]any
}

// parts are those for the next record, all zero but for the room that the lists
// and details of earlier ones left.
func (d *decoder) parts() *parts {
	if d.again == nil {
		return new(parts)
	}
	p := &d.again[d.turn%len(d.again)]
	d.turn++
	o := &p.o
	spare(&p.alpn, o.ALPN)
	spare(&p.answers, o.Answers)
	spare(&p.cnames, o.CNAMEs)
	spare(&p.matches, o.Matches)
	if o.Detail != nil {
		p.detail = o.Detail
		clear(p.detail)
	}
	p.r, p.o = policy.Record{}, policy.Observation{}
	return p
}

func spare[T any](room *[]T, used []T) {
	if used != nil {
		*room = used[:0]
	}
}

// decode reads a line, with or without its line feed, into a new Record. It
// refuses what cannot be one; a higher schema is for the caller to refuse.
func (d *decoder) decode(line []byte) (*policy.Record, error) {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	r, ok := d.ready().short(line)
	if !ok {
		r = new(policy.Record)
		if err := json.Unmarshal(line, r); err != nil {
			return nil, err
		}
	}
	if r.Schema < 1 || r.Seq < 1 || r.Kind == "" {
		return nil, errors.New("schema, seq or kind is missing")
	}
	complete(r)
	return r, nil
}

// ready makes the zero decoder able to intern.
func (d *decoder) ready() *decoder {
	if d.texts == nil {
		d.seed, d.texts = maphash.MakeSeed(), make([]string, 1<<12)
	}
	return d
}

// complete gives r the part that its kind promises.
func complete(r *policy.Record) {
	switch r.Kind {
	case policy.KindStart, policy.KindStop:
		if r.Session == nil {
			r.Session = new(policy.Session)
		}
	case policy.KindConnection, policy.KindRequest, policy.KindQuery, policy.KindEvent:
		if r.Observation == nil {
			r.Observation = new(policy.Observation)
		}
	}
	if r.Observation != nil {
		r.Observation.Kind = r.Kind
	}
}

// meeting is how many texts whose hashes meet are kept: with one alone, two texts of
// every line could take turns in pushing each other out.
const meeting = 4

// intern is b as a string, the one of an earlier line where possible. Long texts
// are not kept, so that no file can make the decoder big.
func (d *decoder) intern(b []byte) string {
	if len(b) == 0 || len(b) > 128 {
		return string(b)
	}
	at := maphash.Bytes(d.seed, b) % uint64(len(d.texts)/meeting) * meeting
	set := d.texts[at : at+meeting]
	for _, text := range set {
		if text == string(b) {
			return text
		}
	}
	copy(set[1:], set)
	set[0] = string(b)
	return set[0]
}

// short reads a line that has nothing odd; ok is false for every other.
func (d *decoder) short(line []byte) (r *policy.Record, ok bool) {
	parts := d.parts()
	r = &parts.r
	p := parser{decoder: d, parts: parts, rest: line}
	if !p.skip(`{"schema":`) {
		return nil, false
	}
	r.Schema = int(p.digits(1 << 30))
	p.head(r)
	fields := p.fields
	p.observation(&parts.o)
	if p.fields > fields {
		r.Observation = &parts.o
	}
	text(&p, `,"reason":`, &r.Reason)
	text(&p, `,"text":`, &r.Text)
	number(&p, `,"count":`, &r.Count)
	text(&p, `,"why":`, &r.Why)
	return r, p.skip("}") && len(p.rest) == 0 && !p.odd
}
