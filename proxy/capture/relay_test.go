package capture

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// door takes datagrams on loopback as if they had gone to the server.
type door struct {
	*net.UDPConn
	to netip.AddrPort
}

func (d door) Read(b []byte) (n int, client, to netip.AddrPort, err error) {
	n, client, err = d.ReadFromUDPAddrPort(b)
	return n, client, d.to, err
}

// stage is a relay between a client and a server, all of them on loopback.
type stage struct {
	*testing.T
	relay          *Relay
	front          netip.AddrPort
	client, server *net.UDPConn
	upstream       netip.AddrPort // of the flow, once the server has seen it
	seen           chan policy.Observation
}

func udp(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
	return c
}

// newStage makes one that denies names that begin with "evil".
func newStage(t *testing.T, l Limits) *stage {
	s := &stage{T: t, client: udp(t), server: udp(t), seen: make(chan policy.Observation, 100)}
	s.relay = NewRelay(Config{
		Limits: l,
		Sink:   func(o *policy.Observation) error { s.seen <- *o; return nil },
		Judge: func(o *policy.Observation) bool {
			if strings.HasPrefix(o.SNI, "evil") {
				o.Verdict = policy.Verdict{Outcome: policy.Denied, Stage: policy.StagePolicy, Error: policy.HTTPRequestDenied, By: policy.BySelf, Confidence: policy.Certain}
				return false
			}
			return true
		},
	})
	s.relay.answer = func(netip.AddrPort) (*net.UDPConn, error) {
		return net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	}
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	s.front = addrPort(front.LocalAddr())
	served := make(chan error, 1)
	go func() { served <- s.relay.serve(door{front, addrPort(s.server.LocalAddr())}) }()
	t.Cleanup(func() {
		s.relay.Shutdown(t.Context())
		require.NoError(t, <-served)
		require.Zero(t, s.relay.Flows())
	})
	return s
}

func (s *stage) ask(b []byte) {
	s.Helper()
	_, err := s.client.WriteToUDPAddrPort(b, s.front)
	require.NoError(s, err)
}

// arrives demands that the server gets b next.
func (s *stage) arrives(b []byte) {
	s.Helper()
	buf := make([]byte, 2000)
	n, from, err := s.server.ReadFromUDPAddrPort(buf)
	require.NoError(s, err)
	require.Equal(s, b, buf[:n])
	s.upstream = from
}

func (s *stage) answers(b []byte) {
	s.Helper()
	_, err := s.server.WriteToUDPAddrPort(b, s.upstream)
	require.NoError(s, err)
	require.Equal(s, b, s.hears())
}

// hears is what the client gets next.
func (s *stage) hears() []byte {
	s.Helper()
	buf := make([]byte, 2000)
	n, _, err := s.client.ReadFromUDPAddrPort(buf)
	require.NoError(s, err)
	return buf[:n]
}

// recorded is the next observation.
func (s *stage) recorded() policy.Observation {
	s.Helper()
	select {
	case o := <-s.seen:
		return o
	case <-time.After(20 * time.Second):
		require.FailNow(s, "no observation")
		panic("not reached")
	}
}

// quiet demands that nothing more was recorded.
func (s *stage) quiet() {
	s.Helper()
	require.Empty(s, s.seen)
}

var serverID = []byte("the server")

func helloTo(t testing.TB, name string, id []byte) []byte {
	m := clientHello(t, name, "h3")
	return initial(shot{dcid: id, scid: idB, frames: crypto(m, 0, len(m))})
}

// greets is a server's Initial with handshake bytes, from the keys of an ID.
func greets(id []byte) []byte {
	return serverInitial(shot{keyID: id, dcid: idB, scid: serverID, frames: append([]byte{frameCrypto, 0, 40}, make([]byte, 40)...)})
}

func oneRTT(id []byte) []byte { return join([]byte{0x41}, id, []byte("sealed")) }

// long is a limit that no test reaches.
const long = time.Hour

func patient() Limits { return Limits{Hold: long, Answer: long, Open: long, Idle: long} }

func TestRelayCarries(t *testing.T) {
	s := newStage(t, patient())
	first := helloTo(t, "A.example.", idA)
	s.ask(first)
	s.arrives(first)
	s.answers(greets(idA))
	s.ask(oneRTT(serverID))
	s.arrives(oneRTT(serverID))
	s.answers(oneRTT(idB))
	s.ask(nil) // a datagram may be empty
	s.arrives([]byte{})
	s.ask(oneRTT([]byte("another ID"))) // or to an ID that the server gave unseen
	s.arrives(oneRTT([]byte("another ID")))
	s.quiet()
	s.relay.Shutdown(t.Context())
	o := s.recorded()
	require.Equal(t, policy.OK, o.Outcome)
	require.Equal(t, "a.example", o.SNI)
	require.Equal(t, policy.SNIPresent, o.SNIState)
	require.Equal(t, []string{"h3"}, o.ALPN)
	require.Equal(t, "quic", o.Protocol)
	require.Equal(t, "tproxy", o.Listener)
	require.Equal(t, "1.3", o.TLSVersion)
	require.Equal(t, policy.Allow, o.Decision)
	require.Equal(t, s.client.LocalAddr().String(), o.Client.String())
	require.Equal(t, s.server.LocalAddr().String(), o.Address.String())
	require.Equal(t, o.Address.Port(), o.Port)
	require.EqualValues(t, len(first)+len(oneRTT(serverID))+len(oneRTT([]byte("another ID"))), o.BytesUp)
	require.EqualValues(t, len(greets(idA))+len(oneRTT(idB)), o.BytesDown)
	require.Equal(t, "drain", o.Detail["why"])
	s.quiet()
}

// TestRelayHolds: nothing reaches the server before the name is judged, then all
// of it in order.
func TestRelayHolds(t *testing.T) {
	s := newStage(t, patient())
	m := clientHello(t, "a.example", "h3")
	early, one := zeroRTT(idA), initial(shot{dcid: idA, scid: idB, frames: crypto(m, 90, len(m))})
	two := initial(shot{dcid: idA, scid: idB, frames: crypto(m, 0, 90)})
	s.ask(early)
	s.ask(one)
	s.ask(two)
	s.arrives(early)
	s.arrives(one)
	s.arrives(two)
}

// TestRelayRefuses: the client is told at once, each time it tries; the server
// gets nothing, and the record does not wait.
func TestRelayRefuses(t *testing.T) {
	s := newStage(t, patient())
	evil := helloTo(t, "evil.example", idA)
	var r Initials
	require.True(t, r.Feed(evil))
	for range 2 {
		s.ask(evil)
		require.Equal(t, Answer{Kind: Closed, Code: connectionRefused}, r.Answer(s.hears()))
	}
	o := s.recorded()
	require.Equal(t, policy.Denied, o.Outcome)
	require.Equal(t, policy.Deny, o.Decision)
	require.Equal(t, "evil.example", o.SNI)
	s.relay.Shutdown(t.Context())
	s.quiet()
	require.NoError(t, s.server.SetReadDeadline(time.Unix(1, 0)))
	_, err := s.server.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// TestRelayLateName: in the end datagrams pass without a name, where that is
// allowed; one that comes later is judged again.
func TestRelayLateName(t *testing.T) {
	for _, c := range []struct {
		name string
		want policy.Outcome
	}{{"a.example", policy.Abandoned}, {"evil.example", policy.Denied}} {
		l := patient()
		l.Hold = 20 * time.Millisecond
		s := newStage(t, l)
		m := clientHello(t, c.name)
		half := initial(shot{dcid: idA, scid: idB, frames: crypto(m, 0, 100)})
		s.ask(half)
		s.arrives(half)
		rest := initial(shot{dcid: idA, scid: idB, frames: crypto(m, 100, len(m))})
		s.ask(rest)
		if c.want == policy.Denied {
			s.hears()
		} else {
			s.arrives(rest)
		}
		s.relay.Shutdown(t.Context())
		o := s.recorded()
		require.Equal(t, c.name, o.SNI)
		require.Equal(t, c.want, o.Outcome)
		s.quiet()
	}
}

// TestRelayOther: what is no QUIC is carried too, and any answer is one.
func TestRelayOther(t *testing.T) {
	s := newStage(t, patient())
	s.ask([]byte("\x00\x01stun"))
	s.arrives([]byte("\x00\x01stun"))
	s.answers([]byte("\x01\x01stun"))
	s.relay.Shutdown(t.Context())
	o := s.recorded()
	require.Equal(t, []any{policy.OK, "other", policy.SNINotTLS}, []any{o.Outcome, o.Protocol, o.SNIState})
}

// TestRelayLimits: one flow too many is turned away, and told.
func TestRelayLimits(t *testing.T) {
	l := patient()
	l.Client = 1
	s := newStage(t, l)
	first := helloTo(t, "a.example", idA)
	s.ask(first)
	s.arrives(first)
	other := udp(t)
	_, err := other.WriteToUDPAddrPort(first, s.front)
	require.NoError(t, err)
	o := s.recorded()
	require.Equal(t, policy.ConnectionLimitReached, o.Error)
	require.Equal(t, policy.Denied, o.Outcome)
	require.Equal(t, 1, s.relay.Flows())
}

// TestRelayStrayed: a datagram to the listener itself is dropped and counted.
func TestRelayStrayed(t *testing.T) {
	r := NewRelay(Config{})
	require.Error(t, r.serve(&strays{n: 3}))
	require.EqualValues(t, 3, r.Strayed())
}

// TestRelayCanary: what is sent to the listener itself is recorded where it says the
// trial's own name, once a datagram, and nothing else is.
func TestRelayCanary(t *testing.T) {
	mine, other := named(t, "c0ffee.canary.egressaudit.invalid"), named(t, "other.canary.egressaudit.invalid")
	hello, err := Canary(mine)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(hello), minInitial)
	stranger, err := Canary(other)
	require.NoError(t, err)
	var seen []policy.Observation
	r := NewRelay(Config{Canary: mine, Sink: func(o *policy.Observation) error { seen = append(seen, *o); return nil }})
	require.Error(t, r.serve(&strays{n: 5, says: [][]byte{stranger, nil, []byte("hello"), hello, flip(bytes.Clone(hello))}}))
	require.EqualValues(t, 5, r.Strayed())
	require.Len(t, seen, 1)
	o := seen[0]
	require.Equal(t, policy.OriginCanary, o.Origin)
	require.Equal(t, policy.Denied, o.Outcome)
	require.Equal(t, []string{mine.String(), mine.String(), "quic", "tproxy"}, []string{o.Name, o.SNI, o.Protocol, o.Listener})
	require.Zero(t, r.Flows())
}

func named(t *testing.T, s string) policy.Name {
	n, err := policy.ParseName(s)
	require.NoError(t, err)
	return n
}

// strays is a front where nothing was redirected: it reads what says has, last to
// first.
type strays struct {
	n    int
	says [][]byte
}

func (s *strays) Read(b []byte) (n int, client, to netip.AddrPort, err error) {
	if s.n--; s.n < 0 {
		return 0, client, to, errors.New("broken")
	}
	if s.n < len(s.says) {
		n = copy(b, s.says[s.n])
	}
	return n, client, to, ErrNotRedirected
}
func (s *strays) Close() error { return nil }
