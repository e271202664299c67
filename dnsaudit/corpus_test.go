package dnsaudit

import (
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// capture is a packet that somebody else has captured, and what tshark says of
// it.
type capture struct {
	File     string
	Class    string `json:"cls"` // valid, odd, malformed
	Response int    `json:"qr"`
	Opcode   int
	QName    string

	pkt []byte
}

// captures reads the foreign packets. They lie beside the checkout, or where
// EGRESSAUDIT_CORPORA says; where that is set, they must be there.
func captures(t *testing.T) []capture {
	t.Helper()
	root, demanded := os.LookupEnv("EGRESSAUDIT_CORPORA")
	if !demanded {
		root = filepath.Join("..", "..", "shared", "corpora")
	}
	text, err := os.ReadFile(filepath.Join(root, "dns", "index.json"))
	if err != nil && !demanded {
		t.Skipf("no foreign packets: %v (set EGRESSAUDIT_CORPORA to their folder)", err)
	}
	require.NoError(t, err)
	var all []capture
	require.NoError(t, json.Unmarshal(text, &all))
	require.NotEmpty(t, all, "nothing was read from %s", root)
	for i := range all {
		all[i].pkt, err = os.ReadFile(filepath.Join(root, "dns", all[i].File))
		require.NoError(t, err)
	}
	t.Logf("%d packets", len(all))
	return all
}

// Every foreign packet sent by a client, over UDP and TCP: valid questions reach
// the upstream, and its answers the client, octet for octet; no other packet
// does, and none stops the forwarder.
func TestCorpusFromClients(t *testing.T) {
	all, alive := captures(t), packed(t, asking("alive.example.", dns.TypeA))
	for _, network := range []string{"udp", "tcp"} {
		seen := make(chan []byte, 16)
		d := forward(t, ForwarderConfig{}, raw(t, func(pkt []byte, _ string) [][]byte {
			seen <- pkt
			return [][]byte{oddAnswer(pkt)}
		}))
		forwarded := 0
		for _, c := range all {
			conn := d.dial(t, network)
			send(t, conn, c.pkt)
			_, dr := readQuery(c.pkt)
			valid := c.Class == "valid" && c.Response == 0 && c.Opcode == 0
			require.False(t, valid && dr != enter, "%s: a valid question is refused", c.File)
			require.False(t, dr == enter && (c.Response != 0 || c.Opcode != 0), "%s: no question is passed on", c.File)
			switch dr {
			case enter:
				forwarded++
				got, asked := receive(t, conn), <-seen
				require.Equal(t, c.pkt[2:], asked[2:], c.File)
				want := withID(oddAnswer(asked), binary.BigEndian.Uint16(c.pkt))
				if o := d.next(t); c.QName != "<Root>" {
					require.Equal(t, bare(dns.CanonicalName(dns.Fqdn(c.QName))), o.Name, c.File)
				}
				require.Equal(t, want, got, c.File)
			case malformed, unknownOpcode:
				require.Len(t, receive(t, conn), headerLen, c.File)
			}
			require.Empty(t, seen, c.File)
			d.empty(t)
			conn.Close()
			d.ask(t, network, alive) // whatever it was, it neither stops nor delays the next question
			require.Equal(t, alive[2:], (<-seen)[2:], c.File)
			require.Equal(t, "alive.example", d.next(t).Name, c.File)
		}
		require.Greater(t, forwarded, 25)
		t.Logf("%s: %d questions passed on, %+v", network, forwarded, d.Stats())
	}
}

// Every foreign answer sent by an upstream that was asked its question: it
// reaches the client octet for octet, or TC where it is too large.
func TestCorpusFromUpstreams(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		passed := 0
		var answer atomic.Pointer[[]byte]
		d := forward(t, ForwarderConfig{Timeout: 20 * time.Second}, raw(t, func(pkt []byte, _ string) [][]byte {
			return [][]byte{withID(*answer.Load(), binary.BigEndian.Uint16(pkt))}
		}))
		for _, c := range captures(t) {
			question, ok := questionOf(c)
			if !ok {
				continue
			}
			answer.Store(&c.pkt)
			got := d.ask(t, network, question)
			require.Equal(t, withID(c.pkt, binary.BigEndian.Uint16(question)), got, c.File)
			o := d.next(t)
			require.NotEmpty(t, o.RCode, c.File)
			if c.Class == "valid" {
				require.NotContains(t, o.Detail, "malformed", c.File)
			}
			passed++
		}
		require.Greater(t, passed, 100)
		t.Logf("%s: %d answers", network, passed)
	}
}

// questionOf is a question that c is an answer to, with room for it; false where
// c is none to one that may be asked.
func questionOf(c capture) ([]byte, bool) {
	if len(c.pkt) < headerLen || c.pkt[2]&(flagQR|opcode) != flagQR || binary.BigEndian.Uint16(c.pkt[4:]) != 1 {
		return nil, false
	}
	end, ok := plainName(c.pkt, headerLen)
	if !ok || end+4 > len(c.pkt) {
		return nil, false
	}
	q := append([]byte{0xBE, 0xEF, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1}, c.pkt[headerLen:end+4]...)
	kind := binary.BigEndian.Uint16(c.pkt[end:])
	return append(q, 0, 0, byte(dns.TypeOPT), 0xFF, 0xFF, 0, 0, 0, 0, 0, 0), kind != dns.TypeAXFR && kind != dns.TypeIXFR
}

// FuzzHandler sends any octets to a forwarder whose upstream answers with others:
// nothing panics, every question is one observation, and no answer over UDP is
// larger than its client takes.
func FuzzHandler(f *testing.F) {
	f.Add(packed(f, asking("a.example.", dns.TypeA)), packed(f, answered(asking("a.example.", dns.TypeA), 0, "a.example. 60 A 192.0.2.1")))
	f.Add(packed(f, asking("a.example.", dns.TypeHTTPS)), packed(f, answered(asking("a.example.", dns.TypeHTTPS), 0, `a.example. 60 HTTPS 1 . alpn=h3 ech="AEX+DQA="`)))
	f.Add([]byte{}, []byte{})
	book := &notebook{more: make(chan struct{}, 1<<24)}
	fw, err := NewForwarder(ForwarderConfig{
		Upstreams: []Upstream{{Addr: closedPort(f)}}, Sink: book.sink, StripECH: true, Cache: true, Memory: NewMemory(16),
	})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, pkt, answer []byte) {
		q, now := fw.receive(pkt, netip.MustParseAddrPort("127.0.0.1:9"), viaUDP)
		if q == nil {
			require.LessOrEqual(t, len(now), len(pkt))
			return
		}
		require.Nil(t, now)
		w := newWaiter(q)
		if len(answer) >= headerLen+len(q.question) {
			answer[2] = answer[2]&^opcode | flagQR
			copy(answer[4:6], "\x00\x01")
			copy(answer[headerLen:], q.question)
		}
		r := result{silent: true}
		fw.cache = newCache()
		if w.answeredBy(answer, false) {
			r = result{packet: answer, from: "fuzz"}
			fw.cache.keep(q, r, q.begun)
		}
		o, reply := fw.observe(q, r)
		require.LessOrEqual(t, len(reply), q.size)
		require.GreaterOrEqual(t, len(reply), headerLen)
		require.Equal(t, q.name, o.Name)
		require.NotEmpty(t, o.Outcome)
		text, err := json.Marshal(o)
		require.NoError(t, err)
		require.True(t, json.Valid(text))
		if again, ok := fw.cache.find(q, q.begun); ok {
			require.Len(t, again.packet, len(answer))
		}
	})
}
