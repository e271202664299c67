package isolate

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// snap is how much of a refused packet is looked at: a whole QUIC Initial.
const snap = 2048

// rules are what the namespace does with packets that are sent in it.
//
//	table inet egressaudit {
//		chain lead {
//			type nat hook output priority dstnat;
//			meta l4proto { tcp, udp } th dport 53 redirect to :NAMES
//			ip daddr 127.0.0.1 tcp dport 6443 redirect to :CAPTURED   # Config.Through
//			LOCAL accept
//			meta l4proto tcp redirect to :CAPTURED
//		}
//		chain refuse {
//			type filter hook input priority filter;
//			tcp flags & (fin|syn|rst|ack) == rst|ack tcp sequence 0 log group 2
//			LOCAL accept
//			log group 1 snaplen 2048
//			reject with icmpx port-unreachable
//		}
//	}
//
// LOCAL is 127.0.0.0/8, ::1 and the namespace's own addresses. A segment with RST
// and ACK and the sequence number 0 is how a closed port answers (RFC 9293 section
// 3.10.7.1). Refused is what arrives, not what is sent: a packet that is dropped on
// its way out would give its sender EPERM, which no network does.
type rules struct {
	conn  *nftables.Conn
	table *nftables.Table
}

// lay loads the rules, all or none.
func lay(c Config, captured, names uint16) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("load rules (kernel modules nf_tables, nft_redir, nft_reject_inet, nft_log): %w", err)
	}
	r := rules{conn, conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "egressaudit"})}
	r.lead(c, captured, names)
	r.refuse()
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("load rules (kernel modules nf_tables, nft_redir, nft_reject_inet, nft_log): %w", err)
	}
	return nil
}

func (r *rules) chain(name string, of nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) func(...[]expr.Any) {
	c := r.conn.AddChain(&nftables.Chain{Name: name, Table: r.table, Type: of, Hooknum: hook, Priority: priority})
	return func(parts ...[]expr.Any) {
		rule := &nftables.Rule{Table: r.table, Chain: c}
		for _, p := range parts {
			rule.Exprs = append(rule.Exprs, p...)
		}
		r.conn.AddRule(rule)
	}
}

func (r *rules) lead(c Config, captured, names uint16) {
	add := r.chain("lead", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	add(protocol(unix.IPPROTO_UDP), port(53), redirect(names))
	add(protocol(unix.IPPROTO_TCP), port(53), redirect(names))
	for _, to := range c.Through {
		add(destined(netip.PrefixFrom(to.Addr(), to.Addr().BitLen())), protocol(unix.IPPROTO_TCP), port(to.Port()), redirect(captured))
	}
	for _, own := range Clients() {
		add(destined(own), accept())
	}
	add(protocol(unix.IPPROTO_TCP), redirect(captured))
}

func (r *rules) refuse() {
	add := r.chain("refuse", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	add(protocol(unix.IPPROTO_TCP), closedPort(), tell(Closed))
	for _, own := range Clients() {
		add(destined(own), accept())
	}
	add(tell(Refused))
	add(reject(unix.NFT_REJECT_ICMPX_PORT_UNREACH))
}

func equal(b ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b} }

func protocol(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal(number)}
}

func family(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal(number)}
}

func transport(offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length}
}

func bigEndian(port uint16) []byte { return binary.BigEndian.AppendUint16(nil, port) }

func port(number uint16) []expr.Any { return []expr.Any{transport(2, 2), equal(bigEndian(number)...)} }

// destined matches a destination's address.
func destined(to netip.Prefix) []expr.Any {
	number, offset := byte(unix.NFPROTO_IPV4), uint32(16)
	if to.Addr().Is6() {
		number, offset = unix.NFPROTO_IPV6, 24
	}
	size := to.Addr().BitLen() / 8
	mask := make([]byte, size)
	for i := range to.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return append(family(number),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(size)},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: mask, Xor: make([]byte, size)},
		equal(to.Masked().Addr().AsSlice()...))
}

// closedPort matches the answer of a port where nobody listens.
func closedPort() []expr.Any {
	const fin, syn, rst, ack = 1, 2, 4, 16
	return []expr.Any{
		transport(13, 1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{fin | syn | rst | ack}, Xor: []byte{0}},
		equal(rst | ack),
		transport(4, 4), equal(0, 0, 0, 0),
	}
}

func redirect(to uint16) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: 1, Data: bigEndian(to)}, &expr.Redir{RegisterProtoMin: 1, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED}}
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

func reject(code byte) []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: code}}
}

// tell has the beginning of a packet given to Watch.
func tell(why Why) []expr.Any {
	return []expr.Any{&expr.Log{Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_SNAPLEN, Group: uint16(why), Snaplen: snap}}
}
