package dnsaudit

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/egressaudit/egressaudit/policy"
)

// maxTexts bounds the answers of other types than addresses that one record
// repeats, in octets.
const maxTexts = 4096

// Why a question was denied.
const (
	whyFull     = "too many questions at once"
	whyRate     = "more questions a second than one client may ask"
	whyTransfer = "zone transfers are not passed on"
	whyLoop     = "an upstream asked us what we had asked it"
	whyCanary   = "a sign of life that we gave ourselves"
)

func (q *query) observation() *policy.Observation {
	return &policy.Observation{
		Kind: policy.KindQuery, Begun: q.begun, Client: q.client,
		Name: q.name, Type: q.typeName(), Transport: q.via,
	}
}

// tell adds a fact to the detail of o.
func tell(o *policy.Observation, key string, fact any) {
	if o.Detail == nil {
		o.Detail = make(map[string]any)
	}
	o.Detail[key] = fact
}

func denial(q *query, why string, rcode int) *policy.Observation {
	o := q.observation()
	o.Verdict = policy.Verdict{Outcome: policy.Denied, By: policy.BySelf, Confidence: policy.Certain}
	if why == whyFull || why == whyRate {
		o.Error = policy.ConnectionLimitReached
	}
	o.RCode = rcodeName(rcode)
	tell(o, "why", why)
	return o
}

// observe makes the observation of a question that was passed on, and the packet
// that goes to the client.
func (f *Forwarder) observe(q *query, r result) (*policy.Observation, []byte) {
	o := q.observation()
	if q.class != dns.ClassINET {
		tell(o, "class", className(q.class))
	}
	if r.said != "" {
		tell(o, "resolve", r.said)
	}
	if r.ignored > 0 {
		tell(o, "ignored", r.ignored)
	}
	if r.packet == nil {
		o.Verdict = r.verdict()
		return o, q.short(dns.RcodeServerFailure, false)
	}
	o.Upstream = r.from
	if r.cached {
		tell(o, "cached", true)
	}
	f.read(o, q, r.packet)
	return o, f.fit(q, f.strip(o, r.packet))
}

// verdict is that of a question without an answer.
func (r result) verdict() policy.Verdict {
	v := policy.Verdict{Outcome: policy.Failed, Error: policy.DNSError, By: policy.ByResolver, Confidence: policy.Certain}
	switch {
	case r.cut:
		return policy.Verdict{Outcome: policy.Abandoned, By: policy.BySelf}
	case r.silent:
		v.Error = policy.DNSTimeout
	}
	return v
}

// read fills o from an answer. What cannot be read of it is passed on all the
// same, and told.
func (f *Forwarder) read(o *policy.Observation, q *query, pkt []byte) {
	var m dns.Msg
	err := m.Unpack(pkt) // on an error what sections came before are there
	o.RCode = rcodeName(m.Rcode)
	if claimed := int(binary.BigEndian.Uint16(pkt[6:])); err != nil || claimed != len(m.Answer) {
		tell(o, "malformed", fmt.Sprintf("%d of %d answer records readable", len(m.Answer), claimed))
	}
	if extra := extendedError(&m); extra != "" {
		tell(o, "extended_error", extra)
	}
	o.Outcome = policy.OK
	switch {
	case m.Rcode != dns.RcodeSuccess:
		o.Verdict = refusedBy(m.Rcode)
		tell(o, "rcode", o.RCode)
	case m.Truncated:
		tell(o, "truncated", true)
		if q.via == viaTCP { // nowhere else can the client get the rest
			o.Verdict = policy.Verdict{Outcome: policy.Failed, Error: policy.DNSError, By: policy.ByResolver, Confidence: policy.Certain}
		}
		return
	}
	f.readAnswer(o, q, &m)
}

// refusedBy is the verdict of a response code other than NOERROR.
func refusedBy(rcode int) policy.Verdict {
	v := policy.Verdict{Outcome: policy.Failed, Error: policy.DNSError, By: policy.ByResolver, Confidence: policy.Certain}
	if rcode == dns.RcodeNameError {
		v.Confidence = policy.Likely // the catalog's row may be stale
	}
	return v
}

// readAnswer fills in the chain and what stands at its end.
func (f *Forwarder) readAnswer(o *policy.Observation, q *query, m *dns.Msg) {
	if len(m.Answer) == 0 {
		return
	}
	asked := dns.CanonicalName(m.Answer[0].Header().Name)
	if len(m.Question) == 1 {
		asked = dns.CanonicalName(m.Question[0].Name)
	}
	targets, odd := chain(asked, m.Answer)
	if odd != "" {
		tell(o, "chain", odd)
	}
	for _, t := range targets {
		o.CNAMEs = append(o.CNAMEs, orRoot(t))
	}
	owner := end(asked, targets)
	if q.kind == dns.TypeCNAME || q.kind == dns.TypeANY {
		owner = asked
	}
	if q.kind != dns.TypeA && q.kind != dns.TypeAAAA {
		readOther(o, q.kind, owner, m.Answer)
		return
	}
	if odd == "" && q.class == dns.ClassINET {
		f.readAddresses(o, q, addresses(owner, q.kind, m.Answer), m.Answer)
	}
}

func orRoot(name string) string {
	if name == "" {
		return "."
	}
	return name
}

func (f *Forwarder) readAddresses(o *policy.Observation, q *query, addrs []netip.Addr, records []dns.RR) {
	if len(addrs) == 0 || o.RCode != noError {
		return
	}
	for _, a := range addrs {
		o.Answers = append(o.Answers, a.String())
	}
	if !q.local() && !slices.ContainsFunc(addrs, f.real) {
		o.Verdict = policy.Verdict{Outcome: policy.Failed, Error: policy.DNSSinkhole, By: policy.ByResolver, Confidence: policy.Certain}
		return
	}
	if f.config.Memory != nil {
		f.config.Memory.Learn(q.name, addrs, policy.PrivateLink(o.CNAMEs), leastTTL(records), q.begun)
	}
}

// local says that q's name means this host (RFC 6761 section 6.3).
func (q *query) local() bool { return q.name == "localhost" || strings.HasSuffix(q.name, ".localhost") }

// real says that an address can be that of a public name. The IPv4 address
// mapped or translated (RFC 6052) into an IPv6 one is what counts.
func (f *Forwarder) real(a netip.Addr) bool {
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	in := func(p netip.Prefix) bool { return p.Contains(a) }
	if slices.ContainsFunc(f.config.Allowed, in) {
		return true
	}
	return !slices.ContainsFunc(f.config.BlockPages, in) && !a.IsLoopback() && !a.IsUnspecified() && !a.IsLinkLocalUnicast() && !thisNetwork.Contains(a)
}

var (
	nat64       = netip.MustParsePrefix("64:ff9b::/96")
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
)

// leastTTL is the shortest one of an answer.
func leastTTL(records []dns.RR) time.Duration {
	least := uint32(1 << 31)
	for _, rr := range records {
		least = min(least, rr.Header().Ttl)
	}
	return time.Duration(least) * time.Second
}

// readOther tells the data of records that are no addresses, as a zone file has
// them.
func readOther(o *policy.Observation, kind uint16, owner string, records []dns.RR) {
	room := maxTexts
	for _, rr := range records {
		h := rr.Header()
		if h.Rrtype != kind && kind != dns.TypeANY || dns.CanonicalName(h.Name) != owner {
			continue
		}
		switch rr := rr.(type) {
		case *dns.HTTPS:
			hints(o, rr.Value)
		case *dns.SVCB:
			hints(o, rr.Value)
		}
		text := dataText(rr)
		if kind == dns.TypeANY {
			text = typeName(h.Rrtype) + " " + text
		}
		if room -= len(text); room < 0 {
			tell(o, "answers_cut", true)
			continue
		}
		o.Answers = append(o.Answers, text)
	}
}

// dataText is the data of a record as a zone file has it.
func dataText(rr dns.RR) string {
	if r, unknown := rr.(*dns.RFC3597); unknown {
		return fmt.Sprintf(`\# %d %s`, len(r.Rdata)/2, r.Rdata)
	}
	return strings.TrimPrefix(rr.String(), rr.Header().String())
}

// hints tells which protocols a service record offers, and whether it lets the
// client hide the server name.
func hints(o *policy.Observation, params []dns.SVCBKeyValue) {
	for _, p := range params {
		switch p := p.(type) {
		case *dns.SVCBAlpn:
			protocols, _ := o.Detail["alpn"].([]string)
			for _, id := range p.Alpn {
				id = strings.ToValidUTF8(id, "\ufffd")
				if !slices.Contains(protocols, id) {
					protocols = append(protocols, id)
				}
			}
			tell(o, "alpn", protocols)
		case *dns.SVCBECHConfig:
			tell(o, "ech", true)
		}
	}
}

func className(class uint16) string { return dns.Class(class).String() }
