package ledger

import (
	"net/netip"
	"unicode/utf8"

	"github.com/egressaudit/egressaudit/policy"
)

// parser takes fields off the front of a line, in the order and spelling of
// appendRecord. The first thing that is odd (white space, an escape, null, a
// negative number or a fraction, a field out of its place) makes the whole line
// one for encoding/json; so no field can come twice, and none be missed.
type parser struct {
	*decoder
	*parts
	rest   []byte
	odd    bool
	fields int // how many were there
}

// skip takes s, if the rest begins with it.
func (p *parser) skip(s string) bool {
	if len(p.rest) < len(s) || string(p.rest[:len(s)]) != s {
		return false
	}
	p.rest = p.rest[len(s):]
	return true
}

// has takes the key of a field, if it is the next one.
func (p *parser) has(key string) bool {
	if p.odd || !p.skip(key) {
		return false
	}
	p.fields++
	return true
}

// demand is skip of what must be there.
func (p *parser) demand(s string) {
	if !p.skip(s) {
		p.odd = true
	}
}

func (p *parser) head(r *policy.Record) {
	number(p, `,"seq":`, &r.Seq)
	if p.has(`,"time":`) && r.Time.UnmarshalText(p.quoted()) != nil {
		p.odd = true
	}
	text(p, `,"kind":`, &r.Kind)
	text(p, `,"trial":`, &r.Trial)
	text(p, `,"vantage":`, &r.Vantage)
	text(p, `,"phase":`, &r.Phase)
}

func (p *parser) observation(o *policy.Observation) {
	text(p, `,"id":`, &o.ID)
	p.truth(`,"open":`, &o.Open)
	text(p, `,"origin":`, &o.Origin)
	text(p, `,"listener":`, &o.Listener)
	p.addr(`,"client":`, &o.Client)
	text(p, `,"workload":`, &o.Workload)
	text(p, `,"asked":`, &o.Asked)
	text(p, `,"sni":`, &o.SNI)
	text(p, `,"sni_state":`, &o.SNIState)
	text(p, `,"resolved":`, &o.Resolved)
	text(p, `,"name":`, &o.Name)
	text(p, `,"name_from":`, &o.NameFrom)
	number(p, `,"port":`, &o.Port)
	p.addr(`,"address":`, &o.Address)
	text(p, `,"protocol":`, &o.Protocol)
	text(p, `,"method":`, &o.Method)
	number(p, `,"status":`, &o.Status)
	text(p, `,"host":`, &o.Host)
	p.list(`,"alpn":`, &o.ALPN, p.alpn)
	text(p, `,"tls_version":`, &o.TLSVersion)
	text(p, `,"type":`, &o.Type)
	text(p, `,"transport":`, &o.Transport)
	text(p, `,"rcode":`, &o.RCode)
	p.list(`,"answers":`, &o.Answers, p.answers)
	p.list(`,"cnames":`, &o.CNAMEs, p.cnames)
	text(p, `,"upstream":`, &o.Upstream)
	p.matches(&o.Matches)
	text(p, `,"decision":`, &o.Decision)
	p.truth(`,"would_deny":`, &o.WouldDeny)
	text(p, `,"outcome":`, &o.Outcome)
	text(p, `,"stage":`, &o.Stage)
	text(p, `,"error":`, &o.Error)
	text(p, `,"by":`, &o.By)
	text(p, `,"confidence":`, &o.Confidence)
	p.detail(&o.Detail)
	number(p, `,"bytes_up":`, &o.BytesUp)
	number(p, `,"bytes_down":`, &o.BytesDown)
	number(p, `,"resolve_ms":`, &o.ResolveMS)
	number(p, `,"connect_ms":`, &o.ConnectMS)
	number(p, `,"first_byte_ms":`, &o.FirstByteMS)
	number(p, `,"duration_ms":`, &o.DurationMS)
}

func text[T ~string](p *parser, key string, v *T) {
	if p.has(key) {
		*v = T(p.intern(p.quoted()))
	}
}

func number[T uint16 | int | int64 | uint64](p *parser, key string, v *T) {
	if !p.has(key) {
		return
	}
	n := p.digits(1e15)
	*v = T(n)
	if int64(*v) != n {
		p.odd = true
	}
}

func (p *parser) truth(key string, v *bool) {
	if p.has(key) {
		*v = p.skip("true")
		p.odd = p.odd || !*v
	}
}

func (p *parser) addr(key string, v *netip.AddrPort) {
	if p.has(key) && v.UnmarshalText(p.quoted()) != nil {
		p.odd = true
	}
}

// list takes an array of texts into room.
func (p *parser) list(key string, v *[]string, room []string) {
	if !p.has(key) {
		return
	}
	if *v = room; room == nil {
		*v = []string{}
	}
	p.each(func() { *v = append(*v, p.intern(p.quoted())) })
}

func (p *parser) matches(v *[]policy.Match) {
	if !p.has(`,"matches":`) {
		return
	}
	if *v = p.parts.matches; *v == nil {
		*v = []policy.Match{}
	}
	p.each(func() {
		var m policy.Match
		p.demand(`{"catalog":`)
		m.Catalog = p.intern(p.quoted())
		p.demand(`,"requirement":`)
		m.Requirement = p.intern(p.quoted())
		p.demand(`,"endpoint":`)
		m.Endpoint = p.intern(p.quoted())
		p.demand("}")
		*v = append(*v, m)
	})
}

// each takes an array, whose elements one takes.
func (p *parser) each(one func()) {
	p.demand("[")
	if p.odd || p.skip("]") {
		return
	}
	for one(); !p.odd && p.skip(","); {
		one()
	}
	p.demand("]")
}

// detail takes an object of texts, truths, whole numbers and lists of texts.
func (p *parser) detail(v *map[string]any) {
	if !p.has(`,"detail":`) {
		return
	}
	if *v = p.parts.detail; *v == nil {
		*v = map[string]any{}
	}
	p.demand("{")
	if p.odd || p.skip("}") {
		return
	}
	for p.member(*v); !p.odd && p.skip(","); {
		p.member(*v)
	}
	p.demand("}")
}

func (p *parser) member(m map[string]any) {
	key := p.intern(p.quoted())
	p.demand(":")
	switch {
	case p.odd || len(p.rest) == 0:
		p.odd = true
	case p.rest[0] == '"':
		m[key] = p.intern(p.quoted())
	case p.rest[0] == '[':
		list := []any{}
		p.each(func() { list = append(list, p.intern(p.quoted())) })
		m[key] = list
	case p.skip("true"):
		m[key] = true
	case p.skip("false"):
		m[key] = false
	default:
		m[key] = float64(p.digits(1e15))
	}
}

// quoted takes a string without escapes and returns what is between its quotes.
func (p *parser) quoted() []byte {
	if p.odd || len(p.rest) == 0 || p.rest[0] != '"' {
		p.odd = true
		return nil
	}
	b, ascii := p.rest[1:], true
	for i, c := range b {
		switch {
		case plain[c]:
		case c == '"':
			p.rest = b[i+1:]
			p.odd = !ascii && !utf8.Valid(b[:i])
			return b[:i]
		case c < 0x7f:
			p.odd = true
			return nil
		default:
			ascii = false
		}
	}
	p.odd = true
	return nil
}

// digits takes a whole number from 0 to below limit.
func (p *parser) digits(limit int64) int64 {
	var n int64
	i := 0
	for ; i < len(p.rest) && p.rest[i]-'0' < 10 && n < limit; i++ {
		n = 10*n + int64(p.rest[i]-'0')
	}
	if i == 0 || n >= limit || i > 1 && p.rest[0] == '0' {
		p.odd = true
	}
	p.rest = p.rest[i:]
	return n
}
