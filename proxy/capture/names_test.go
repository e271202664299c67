package capture

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// TestRelaySecondName: a second connection over the same socket is judged by its
// own name, whatever the first was, and has a record of its own.
func TestRelaySecondName(t *testing.T) {
	s := newStage(t, patient())
	good, evil, other := helloTo(t, "a.example", idA), helloTo(t, "evil.example", []byte("evil id")), helloTo(t, "b.example", []byte("other id"))
	s.ask(good)
	s.arrives(good)
	s.answers(greets(idA))
	s.ask(oneRTT(serverID))
	s.arrives(oneRTT(serverID))
	s.ask(evil)
	require.Equal(t, "evil.example", s.recorded().SNI)
	s.hears() // the refusal
	s.ask(oneRTT(serverID))
	s.arrives(oneRTT(serverID))
	s.ask(other)
	s.arrives(other)
	s.relay.Shutdown(t.Context())
	a, b := s.recorded(), s.recorded()
	require.Equal(t, []any{"a.example", policy.OK, "b.example", policy.Abandoned}, []any{a.SNI, a.Outcome, b.SNI, b.Outcome})
	s.quiet()
}

// TestRelayInterleaved: two connections that begin at once over one socket, their
// hellos in pieces, are two names.
func TestRelayInterleaved(t *testing.T) {
	s := newStage(t, patient())
	pieces := func(name string, id []byte) [2][]byte {
		m := clientHello(t, name)
		return [2][]byte{
			initial(shot{dcid: id, scid: id, frames: crypto(m, 0, 100)}), initial(shot{dcid: id, scid: id, frames: crypto(m, 100, len(m))}),
		}
	}
	a, b := pieces("a.example", []byte("first id")), pieces("b.example", []byte("second id"))
	for _, d := range [][]byte{a[0], b[0], b[1], a[1]} {
		s.ask(d)
	}
	for _, d := range [][]byte{b[0], b[1], a[0], a[1]} {
		s.arrives(d)
	}
	s.relay.Shutdown(t.Context())
	require.Equal(t, []string{"a.example", "b.example"}, []string{s.recorded().SNI, s.recorded().SNI})
	s.quiet()
}

// TestRelayManyNames: a client may go on with one socket for ever. Each of its
// connections passes and is recorded, and what is kept of them is bounded.
func TestRelayManyNames(t *testing.T) {
	s := newStage(t, patient())
	const many = 3 * maxVisits
	for i := range many {
		d := helloTo(t, fmt.Sprintf("n%d.example", i), fmt.Appendf(nil, "number %d", i))
		s.ask(d)
		s.arrives(d)
	}
	s.relay.mu.Lock()
	for _, f := range s.relay.flows {
		f.mu.Lock()
		require.LessOrEqual(t, len(f.visits), maxVisits)
		f.mu.Unlock()
	}
	s.relay.mu.Unlock()
	s.relay.Shutdown(t.Context())
	for i := range many {
		require.Equal(t, fmt.Sprintf("n%d.example", i), s.recorded().SNI)
	}
	s.quiet()
}

// TestRelayRetry: a Retry makes no second record.
func TestRelayRetry(t *testing.T) {
	s := newStage(t, patient())
	m := clientHello(t, "a.example", "h3")
	first := initial(shot{dcid: idA, scid: idB, frames: crypto(m, 0, len(m))})
	s.ask(first)
	s.arrives(first)
	s.answers(append(header(nil, 0xf0, version1, idB, []byte("retried")), "token and 16 octets of tag"...))
	again := initial(shot{dcid: []byte("retried"), scid: idB, token: []byte("token"), frames: crypto(m, 0, len(m))})
	s.ask(again)
	s.arrives(again)
	s.answers(greets([]byte("retried")))
	s.ask(oneRTT(serverID))
	s.arrives(oneRTT(serverID))
	s.relay.Shutdown(t.Context())
	require.Equal(t, policy.OK, s.recorded().Outcome)
	s.quiet()
}

// TestRelayNegotiation: a version that is refused, and the next try, are one
// record.
func TestRelayNegotiation(t *testing.T) {
	s := newStage(t, patient())
	strange := append(header(nil, 0xc0, 0x5a5a5a5a, idA, idB), "whatever"...)
	s.ask(strange)
	s.arrives(strange)
	s.answers(header(nil, 0x80, 0, idB, idA))
	first := helloTo(t, "a.example", idA)
	s.ask(first)
	s.arrives(first)
	s.answers(greets(idA))
	s.ask(oneRTT(serverID))
	s.arrives(oneRTT(serverID))
	s.relay.Shutdown(t.Context())
	o := s.recorded()
	require.Equal(t, policy.OK, o.Outcome)
	require.Equal(t, "a.example", o.SNI)
	s.quiet()
}
