package capture

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

func TestRelayOutcomes(t *testing.T) {
	refused := serverInitial(shot{keyID: idA, dcid: idB, frames: []byte{frameClose, 0x41, 0x28, 6, 0}})
	gone := serverInitial(shot{keyID: idA, dcid: idB, frames: []byte{frameClose, connectionRefused, 0, 0}})
	for _, c := range []struct {
		why    string
		answer []byte
		again  bool // the client repeats itself
		want   policy.Verdict
		detail string
		value  any
	}{
		{"silence", nil, false, failed(policy.StageHello, policy.ConnectionReadTimeout, policy.ByNetwork, policy.Likely), "datagrams", 1},
		{"silence, although asked again", nil, true, failed(policy.StageHello, policy.ConnectionReadTimeout, policy.ByNetwork, policy.Certain), "datagrams", 2},
		{"a Retry, then silence", append(header(nil, 0xf0, version1, idB, idA), "token and 16 octets of tag"...), true, failed(policy.StageHello, policy.ConnectionReadTimeout, policy.ByNetwork, policy.Likely), "reply", "retry"},
		{"other versions", append(header(nil, 0x80, 0, idB, idA), 0x6b, 0x33, 0x43, 0xcf), false, failed(policy.StageHello, policy.ConnectionTerminated, policy.ByOrigin, policy.Likely), "reply", "version_negotiation"},
		{"an alert", refused, false, failed(policy.StageHello, policy.TLSAlertReceived, policy.ByOrigin, policy.Likely), "alert", "handshake_failure"},
		{"a refusal", gone, false, failed(policy.StageHello, policy.ConnectionTerminated, policy.ByOrigin, policy.Likely), "quic_error", int64(2)},
		{"something else", []byte("<html>"), false, failed(policy.StageHello, policy.NotTLSReply, policy.ByNetwork, policy.Likely), "reply", "junk"},
		{"a handshake that the client leaves", greets(idA), false, policy.Verdict{Outcome: policy.Abandoned, Stage: policy.StageHandshake, By: policy.ByClient}, "quic_version", "1"},
		{"an answer that the client refuses", greets(idA), true, policy.Verdict{Outcome: policy.Abandoned, Stage: policy.StageHandshake, By: policy.ByClient}, "quic_version", "1"},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, Limits{Hold: long, Answer: 100 * time.Millisecond, Open: long, Idle: 300 * time.Millisecond})
			first := helloTo(t, "a.example", idA)
			s.ask(first)
			s.arrives(first)
			if c.answer != nil {
				s.answers(c.answer)
			}
			if c.again {
				s.ask(first)
			}
			o := s.recorded()
			for o.Open {
				o = s.recorded()
			}
			require.Equal(t, c.want, o.Verdict)
			require.Equal(t, c.value, o.Detail[c.detail])
			require.Equal(t, "a.example", o.SNI)
		})
	}
}

// TestRelayOpen: what is silent, and what lives long, is told while it lives.
func TestRelayOpen(t *testing.T) {
	l := patient()
	l.Answer, l.Open = 20*time.Millisecond, 40*time.Millisecond
	s := newStage(t, l)
	first := helloTo(t, "a.example", idA)
	s.ask(first)
	o := s.recorded()
	require.True(t, o.Open)
	require.Equal(t, policy.ConnectionReadTimeout, o.Error)
	s.arrives(first)

	s = newStage(t, Limits{Hold: long, Answer: long, Open: 20 * time.Millisecond, Idle: long})
	s.ask(first)
	s.arrives(first)
	s.answers(greets(idA))
	s.ask(oneRTT(serverID))
	s.arrives(oneRTT(serverID))
	o = s.recorded()
	require.True(t, o.Open)
	require.Equal(t, policy.OK, o.Outcome)
}

// TestRelayUnreachable: an ICMP message is told from silence, and the client is
// told too.
func TestRelayUnreachable(t *testing.T) {
	s := newStage(t, patient())
	s.server.Close()
	first := helloTo(t, "a.example", idA)
	var r Initials
	require.True(t, r.Feed(first))
	s.ask(first)
	require.Equal(t, Answer{Kind: Closed, Code: connectionRefused}, r.Answer(s.hears()))
	s.relay.Shutdown(t.Context())
	o := s.recorded()
	require.Equal(t, failed(policy.StageConnect, policy.ConnectionRefused, policy.ByNetwork, policy.Certain), o.Verdict)
	require.Equal(t, "ECONNREFUSED", o.Detail["errno"])
}
