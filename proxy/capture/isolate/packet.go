package isolate

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// Why says what became of a packet that Watch tells of.
type Why uint16

// What became of it.
const (
	// Refused was no TCP and no DNS, and answered by ICMP.
	Refused Why = 1 + iota
	// Closed asked for a TCP port of the namespace's own loopback where nobody
	// listens. It may have meant the host's.
	Closed
)

// Packet is the beginning of an IP packet that went nowhere.
type Packet struct {
	Why      Why
	Protocol string // tcp, udp, icmp, or the number of the protocol
	From, To netip.AddrPort
	Payload  []byte // of UDP; valid until Watch's func returns
}

// protocols are the names of IP protocol numbers; IPv6 has its own ICMP.
var protocols = map[byte]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmp"}

// parse reads an IPv4 or IPv6 packet; false for what is none. An extension header
// of IPv6 counts as the protocol.
func parse(why Why, b []byte) (p Packet, ok bool) {
	var from, to netip.Addr
	var number byte
	switch {
	case len(b) >= 20 && b[0]>>4 == 4 && len(b) >= int(b[0]&15)*4 && b[0]&15 >= 5:
		from, to, number = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[9]
		b = b[int(b[0]&15)*4:]
	case len(b) >= 40 && b[0]>>4 == 6:
		from, to, number = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[6]
		b = b[40:]
	default:
		return p, false
	}
	p = Packet{Why: why, Protocol: protocols[number]}
	if p.Protocol == "" {
		p.Protocol = strconv.Itoa(int(number))
	}
	var source, port uint16
	if (p.Protocol == "tcp" || p.Protocol == "udp") && len(b) >= 8 {
		source, port = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		p.Payload = b[8:]
	}
	if p.Protocol != "udp" {
		p.Payload = nil
	}
	p.From, p.To = netip.AddrPortFrom(from, source), netip.AddrPortFrom(to, port)
	if why == Closed { // it is the answer that was seen
		p.From, p.To = p.To, p.From
	}
	return p, true
}
