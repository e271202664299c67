package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// compiler gives the kernel what the text of a table says. It knows the words that
// rules.nft.tmpl uses for a gateway, and refuses others.
type compiler struct {
	conn  *nft.Conn
	table *nft.Table
}

// add queues what the text says, all but the table itself.
func (c *compiler) add(text string) error {
	parts, err := blocks(text)
	if err != nil {
		return err
	}
	for _, b := range parts { // chains before rules, which name them
		if err := c.declare(b); err != nil {
			return fmt.Errorf("%s %q: %w", b.kind, b.name, err)
		}
	}
	for _, b := range parts {
		if b.kind != "chain" {
			continue
		}
		for _, line := range b.lines {
			if err := c.rule(b.name, line); err != nil {
				return fmt.Errorf("chain %q: %w", b.name, err)
			}
		}
	}
	return nil
}

func (c *compiler) declare(b block) error {
	switch b.kind {
	case "set":
		return c.set(b)
	case "counter":
		c.conn.AddObj(&nft.NamedObj{Table: c.table, Name: b.name, Type: nft.ObjTypeCounter, Obj: &expr.Counter{}})
		return nil
	case "chain":
		return c.chain(b)
	}
	return fmt.Errorf("unknown kind of part")
}

func (c *compiler) set(b block) error {
	s := &nft.Set{Table: c.table, Name: b.name, Interval: true, AutoMerge: true, KeyType: nft.TypeIPAddr}
	if b.lines[0] == "type "+nft.TypeIP6Addr.Name {
		s.KeyType = nft.TypeIP6Addr
	}
	list, err := b.elements()
	if err != nil {
		return err
	}
	if err := c.conn.AddSet(s, nil); err != nil {
		return err
	}
	return c.fill(s, list)
}

// fillSize is how many elements, starts and ends, are sent in one message: all of
// one have room in an attribute of 64 KiB.
const fillSize = 1024

// fill adds ranges to a set that is empty.
func (c *compiler) fill(s *nft.Set, list []netip.Prefix) error {
	for some := range slices.Chunk(elements(list), fillSize) {
		if err := c.conn.SetAddElements(s, some); err != nil {
			return err
		}
	}
	return nil
}

// elements are ranges as a set of intervals has them.
func elements(list []netip.Prefix) (out []nft.SetElement) {
	for _, s := range spans(list) {
		out = append(out, nft.SetElement{Key: s.start.AsSlice()})
		if s.end.IsValid() {
			out = append(out, nft.SetElement{Key: s.end.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}

// priorities are the words of nft(8) for the order on a hook.
var priorities = map[string]*nft.ChainPriority{"mangle;": nft.ChainPriorityMangle, "dstnat;": nft.ChainPriorityNATDest}

// hooked begins the line of a chain that says where it hangs.
const hooked = "type "

func (c *compiler) chain(b block) error {
	chain := &nft.Chain{Table: c.table, Name: b.name}
	if len(b.lines) > 0 && strings.HasPrefix(b.lines[0], hooked) {
		w := strings.Fields(b.lines[0])
		if len(w) != 8 || w[3] != "prerouting" || priorities[w[5]] == nil || w[7] != "accept;" {
			return fmt.Errorf("cannot hang it: %q", b.lines[0])
		}
		accept := nft.ChainPolicyAccept
		chain.Type, chain.Hooknum, chain.Priority, chain.Policy = nft.ChainType(w[1]), nft.ChainHookPrerouting, priorities[w[5]], &accept
	}
	c.conn.AddChain(chain)
	return nil
}

// rule adds a rule to a chain.
func (c *compiler) rule(chain, line string) error {
	if strings.HasPrefix(line, hooked) {
		return nil
	}
	r := &nft.Rule{Table: c.table, Chain: &nft.Chain{Table: c.table, Name: chain}}
	for words := strings.Fields(line); len(words) > 0; {
		p, ok := phraseOf(words)
		if !ok {
			return fmt.Errorf("rule %q: cannot read %q", line, words[0])
		}
		more, err := p.means(words[p.length()-1])
		if err != nil {
			return fmt.Errorf("rule %q: %w", line, err)
		}
		r.Exprs = append(r.Exprs, more...)
		words = words[p.length():]
	}
	c.conn.AddRule(r)
	return nil
}

// phrase is a few words of a rule, and what they mean to the kernel. Where words
// end in a blank, one more follows, whatever it is.
type phrase struct {
	words string
	means func(last string) ([]expr.Any, error)
}

func (p phrase) length() int { return strings.Count(p.words, " ") + 1 }

func phraseOf(words []string) (phrase, bool) {
	line := strings.Join(words, " ") + " "
	for _, p := range phrases {
		if strings.HasPrefix(line, p.words) && len(words) >= p.length() && (strings.HasSuffix(p.words, " ") || line[len(p.words)] == ' ') {
			return p, true
		}
	}
	return phrase{}, false
}

var phrases = []phrase{
	{"ip saddr ", in(unix.NFPROTO_IPV4, 12, 4)},
	{"ip daddr ", in(unix.NFPROTO_IPV4, 16, 4)},
	{"ip6 saddr ", in(unix.NFPROTO_IPV6, 8, 16)},
	{"ip6 daddr ", in(unix.NFPROTO_IPV6, 24, 16)},
	{"meta nfproto ipv4", is(family(unix.NFPROTO_IPV4)...)},
	{"meta nfproto ipv6", is(family(unix.NFPROTO_IPV6)...)},
	{"meta l4proto tcp", is(protocol(unix.IPPROTO_TCP)...)},
	{"meta l4proto udp", is(protocol(unix.IPPROTO_UDP)...)},
	{"tcp dport ", port(unix.IPPROTO_TCP, 2)},
	{"udp dport ", port(unix.IPPROTO_UDP, 2)},
	{"udp sport ", port(unix.IPPROTO_UDP, 0)},
	{"fib daddr type local", destined(unix.RTN_LOCAL)},
	{"fib daddr type broadcast", destined(unix.RTN_BROADCAST)},
	{"fib daddr type multicast", destined(unix.RTN_MULTICAST)},
	{"ct direction reply", is(&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1}, equal(1))},
	{"ct state new", is(&expr.Ct{Key: expr.CtKeySTATE, Register: 1}, &expr.Bitwise{
		SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(expr.CtStateBitNEW), Xor: native(0),
	}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native(0)})},
	{"socket transparent 1", is(&expr.Socket{Key: expr.SocketKeyTransparent, Register: 1}, equal(1))},
	{"meta mark set ", mark},
	{"tproxy to ", to(&expr.TProxy{TableFamily: unix.NFPROTO_INET, RegPort: 1})},
	{"redirect to ", to(&expr.Redir{RegisterProtoMin: 1, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED})},
	{"dnat ip to ", toLocal(unix.NFPROTO_IPV4)},
	{"dnat ip6 to ", toLocal(unix.NFPROTO_IPV6)},
	{"counter name ", count},
	{"goto ", verdict(expr.VerdictGoto)},
	{"jump ", verdict(expr.VerdictJump)},
	{"accept", is(&expr.Verdict{Kind: expr.VerdictAccept})},
	{"return", is(&expr.Verdict{Kind: expr.VerdictReturn})},
}

func is(e ...expr.Any) func(string) ([]expr.Any, error) {
	return func(string) ([]expr.Any, error) { return e, nil }
}

func equal(b ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b} }

func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func protocol(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal(number)}
}

func family(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal(number)}
}

// in matches an address in a header of its family against a set, "@NAME".
func in(number byte, offset, size uint32) func(string) ([]expr.Any, error) {
	return func(set string) ([]expr.Any, error) {
		return append(family(number),
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
			&expr.Lookup{SourceRegister: 1, SetName: strings.TrimPrefix(set, "@")}), nil
	}
}

func port(number byte, offset uint32) func(string) ([]expr.Any, error) {
	return func(text string) ([]expr.Any, error) {
		port, err := bigEndian(text)
		return append(protocol(number),
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2}, equal(port...)), err
	}
}

// bigEndian reads a port, "443" or ":443".
func bigEndian(text string) ([]byte, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, ":"), 10, 16)
	return binary.BigEndian.AppendUint16(nil, uint16(n)), err
}

func destined(kind uint32) func(string) ([]expr.Any, error) {
	return is(&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true}, equal(native(kind)...))
}

func mark(text string) ([]expr.Any, error) {
	n, err := strconv.ParseUint(text, 0, 32)
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: native(uint32(n))},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
	}, err
}

// to sends a packet to a port of ours.
func to(way expr.Any) func(string) ([]expr.Any, error) {
	return func(text string) ([]expr.Any, error) {
		port, err := bigEndian(text)
		return []expr.Any{&expr.Immediate{Register: 1, Data: port}, way}, err
	}
}

// toLocal sends a packet to an address and port of ours.
func toLocal(number byte) func(string) ([]expr.Any, error) {
	return func(text string) ([]expr.Any, error) {
		at, err := netip.ParseAddrPort(text)
		return []expr.Any{
			&expr.Immediate{Register: 1, Data: at.Addr().AsSlice()},
			&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, at.Port())},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(number), RegAddrMin: 1, RegProtoMin: 2, Specified: true},
		}, err
	}
}

func count(name string) ([]expr.Any, error) {
	return []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name}}, nil
}

func verdict(kind expr.VerdictKind) func(string) ([]expr.Any, error) {
	return func(chain string) ([]expr.Any, error) {
		return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}, nil
	}
}
