package dnsaudit

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

const (
	headerLen = 12
	// udpSize is what we say we take over UDP: what passes every path unfragmented
	// (DNS flag day 2020).
	udpSize = 1232
	// maxChain bounds the CNAMEs followed in one answer; resolvers stop at 11 to 16.
	maxChain = 16
	// maxText bounds a text of the server's own that we repeat.
	maxText = 160
)

var (
	errNotOurs   = errors.New("not the answer to this question")
	errTruncated = errors.New("truncated answer")
)

// question is one question as it goes to one server.
type question struct {
	name string // lower case, with the final dot
	kind uint16
	id   uint16
	edns bool
}

// ask makes a question with an ID that cannot be guessed.
func ask(name string, kind uint16, edns bool) question {
	var id [2]byte
	_, _ = rand.Read(id[:]) // never fails
	return question{name, kind, binary.BigEndian.Uint16(id[:]), edns}
}

func (q question) pack() ([]byte, error) {
	m := new(dns.Msg).SetQuestion(q.name, q.kind)
	m.Id = q.id
	if q.edns {
		m.SetEdns0(udpSize, false)
	}
	return m.Pack()
}

// answer is what one message says of the name in one family.
type answer struct {
	addrs  []netip.Addr // unmapped, in the server's order
	cnames []string     // lower case, without final dots
	rcode  string       // as in policy.Resolution, NODATA too
	odd    string       // why another server may know better; usually ""
	extra  string       // what the server says about it (RFC 8914); usually ""
}

// final says that no other server needs to be asked.
func (a answer) final() bool {
	return a.odd == "" && (a.rcode == noError || a.rcode == noData || a.rcode == nxDomain)
}

// String is the response code and what else there is to know about it.
func (a answer) String() string {
	s := a.rcode
	for _, more := range []string{a.odd, a.extra} {
		if more != "" {
			s += ", " + more
		}
	}
	return s
}

// read tells what pkt answers to q: errNotOurs where it answers something else,
// errTruncated where TCP has the answer, another error where it is malformed.
// No packet makes it panic, and no address comes from a record that the chain
// from the asked name does not lead to.
func (q question) read(pkt []byte) (answer, error) {
	if len(pkt) < headerLen || binary.BigEndian.Uint16(pkt) != q.id {
		return answer{}, errNotOurs
	}
	var m dns.Msg
	err := m.Unpack(pkt) // on an error what came before it is there
	if !q.answeredBy(&m) {
		return answer{}, errNotOurs
	}
	if m.Truncated {
		return answer{}, errTruncated
	}
	if claimed := int(binary.BigEndian.Uint16(pkt[6:])); claimed != len(m.Answer) {
		return answer{}, fmt.Errorf("malformed answer (%d of %d records readable): %w", len(m.Answer), claimed, orShort(err))
	}
	return q.interpret(&m), nil
}

func orShort(err error) error {
	if err == nil {
		return errors.New("it ends too early")
	}
	return err
}

// answeredBy compares header and question. The case of letters is the server's
// to choose. A failure may come without the question: old servers send a bare
// header as FORMERR to EDNS (RFC 6891 section 7), others as REFUSED.
func (q question) answeredBy(m *dns.Msg) bool {
	if !m.Response || m.Opcode != dns.OpcodeQuery {
		return false
	}
	if len(m.Question) == 0 {
		return m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError
	}
	asked := m.Question[0]
	return len(m.Question) == 1 && asked.Qtype == q.kind && asked.Qclass == dns.ClassINET &&
		dns.CanonicalName(asked.Name) == q.name
}

func (q question) interpret(m *dns.Msg) answer {
	a := answer{rcode: rcodeName(m.Rcode), extra: extendedError(m)}
	a.cnames, a.odd = chain(q.name, m.Answer)
	switch {
	case m.Rcode != dns.RcodeSuccess:
		a.odd = ""
		return a
	case a.odd == "":
		a.addrs = addresses(end(q.name, a.cnames), q.kind, m.Answer)
	}
	if len(a.addrs) == 0 {
		a.rcode = noData
	}
	if refers(m) {
		a.odd = "it does not look names up for others"
	}
	return a
}

// chain follows the CNAMEs from name in whatever order the records stand. A
// loop or an endless chain has no end, and odd says so.
func chain(name string, records []dns.RR) (targets []string, odd string) {
	next := make(map[string]string)
	for _, rr := range records {
		c, ok := rr.(*dns.CNAME)
		if !ok || c.Hdr.Class != dns.ClassINET {
			continue
		}
		owner := dns.CanonicalName(c.Hdr.Name)
		if _, twice := next[owner]; !twice {
			next[owner] = dns.CanonicalName(c.Target)
		}
	}
	at := name
	for to, ok := next[at]; ok; to, ok = next[at] {
		target := strings.TrimSuffix(to, ".")
		switch {
		case to == name || slices.Contains(targets, target):
			return append(targets, target), "a CNAME loop"
		case len(targets) == maxChain:
			return targets, fmt.Sprintf("more than %d CNAMEs", maxChain)
		}
		targets, at = append(targets, target), to
	}
	return targets, ""
}

// end is the owner name at the end of a chain.
func end(name string, targets []string) string {
	if len(targets) == 0 {
		return name
	}
	return targets[len(targets)-1] + "."
}

// addresses are those of kind that belong to owner, in their order.
func addresses(owner string, kind uint16, records []dns.RR) []netip.Addr {
	var addrs []netip.Addr
	for _, rr := range records {
		h := rr.Header()
		if h.Rrtype != kind || h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != owner {
			continue
		}
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A
		case *dns.AAAA:
			ip = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(ip); ok { // not for a record without data
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs
}

// refers says whether m is a referral, or as empty as one: what a server that
// only knows its own zones says of all others. It proves nothing of the name.
func refers(m *dns.Msg) bool {
	return len(m.Answer) == 0 && !m.Authoritative && !m.RecursionAvailable &&
		!slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
}

// extendedError is the first extended DNS error of RFC 8914: where a resolver
// filters on purpose, many say so here.
func extendedError(m *dns.Msg) string {
	opt := m.IsEdns0()
	if opt == nil {
		return ""
	}
	for _, o := range opt.Option {
		e, ok := o.(*dns.EDNS0_EDE)
		if !ok {
			continue
		}
		s := fmt.Sprintf("extended error %d", e.InfoCode)
		if word := dns.ExtendedErrorCodeToString[e.InfoCode]; word != "" {
			s += " (" + word + ")"
		}
		if text := e.ExtraText; text != "" {
			s += fmt.Sprintf(" %q", text[:min(len(text), maxText)])
		}
		return s
	}
	return ""
}

// The response codes that the program itself compares with.
const (
	noError  = "NOERROR"
	noData   = "NODATA"
	nxDomain = "NXDOMAIN"
	servFail = "SERVFAIL"
	refused  = "REFUSED"
)

// rcodeName is the name of the IANA registry, "RCODE3841" where it has none.
func rcodeName(code int) string {
	if code == dns.RcodeBadVers {
		return "BADVERS" // and BADSIG, which only signed questions get
	}
	if s, ok := dns.RcodeToString[code]; ok {
		return s
	}
	return fmt.Sprintf("RCODE%d", code)
}
