package capture

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy/hello"
)

// FuzzInitials: hostile datagrams neither panic nor are changed, and what is held
// stays within bounds. The script cuts the input into datagrams, and says whether
// one is sealed as frames first, so that the frames are fuzzed too.
func FuzzInitials(f *testing.F) {
	m := clientHello(f, "a.example", "h3")
	f.Add(initial(shot{dcid: idA, frames: crypto(m, 0, len(m))}), []byte{})
	f.Add(join(crypto(m, 40, len(m)), crypto(m, 0, 90)), []byte{0xff, 0xfe, 0xfe, 0xfe})
	f.Add(join(crypto(m, 40, 80), []byte{frameAckECN, 4, 0, 2, 0, 0, 0, 0, 0, 1, 1, 1}), []byte{31, 0x85, 2, 0xff})
	f.Add([]byte("\xc3Q046P\x76\xd8\x63\xb7\x54\xf7\xab\x32\x00\x00\x00\x01012345678901\xa0\x01\x00\x20CHLO\x01\x00\x00\x00SNI\x00\x03\x00\x00\x00abc"), []byte{})
	f.Add(header(nil, 0x80, 0, idB, idA), []byte{3})
	f.Fuzz(func(t *testing.T, data, cuts []byte) {
		r, k := new(Initials), newKeys(version1, idA)
		for _, c := range append(cuts, 0xfe) {
			n := min(int(c&0x7f)*10, len(data))
			d := bytes.Clone(data[:n])
			if c&0x80 != 0 && n >= 4 {
				h := appendVarint(append(header(nil, 0xc0, version1, idA, idB), 0), uint64(1+n+tagSize))
				d = k.client.seal(append(h, 0), 1, d)
			}
			before := slices.Clone(d)
			r.Owns(d)
			r.Answer(d)
			r.Feed(d)
			r.Refusal()
			require.Equal(t, before, d)
			data = data[n:]
		}
		r.End(hello.TimedOut)
		require.LessOrEqual(t, len(r.stream.buf), maxHello)
		require.LessOrEqual(t, len(r.stream.have), maxSpans+1)
		require.LessOrEqual(t, len(r.keys), maxKeys)
		require.Equal(t, r.Hello().Reason == hello.None, r.Hello().ServerName != "")
	})
}

// FuzzFlow: whatever client and server send over one flow, nothing panics, what is
// held is bounded, and no name is passed that was refused. The script cuts the
// input into datagrams and says who sends each.
func FuzzFlow(f *testing.F) {
	a, evil := helloTo(f, "a.example", idA), helloTo(f, "evil.example", []byte("evil id"))
	m := clientHello(f, "b.example")
	f.Add(join(a, greets(idA), oneRTT(serverID), evil), []byte{byte(len(a) / 4), 0x80, 3, 0xff})
	f.Add(join(initial(shot{dcid: idB, frames: crypto(m, 0, 99)}), a), []byte{40, 0x81, 0x7f})
	f.Fuzz(func(t *testing.T, data, cuts []byte) {
		records := 0
		r := NewRelay(Config{
			Limits: patient(), // no timer runs
			Judge:  func(o *policy.Observation) bool { return o.SNI != "evil.example" },
			Sink: func(o *policy.Observation) error {
				records++
				require.Equal(t, o.SNI != "evil.example", o.Decision == policy.Allow)
				return nil
			},
		})
		refused := errors.New("no sockets here")
		r.dial = func(_, _ netip.AddrPort) (*net.UDPConn, error) { return nil, refused }
		r.answer = func(netip.AddrPort) (*net.UDPConn, error) { return nil, refused }
		at := path{netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:443")}
		for _, c := range append(cuts, 0x7f) {
			n := min(int(c&0x7f)*4, len(data))
			if c&0x80 == 0 {
				r.take(at, data[:n])
			} else if flow := r.flow(at); flow != nil {
				flow.received(data[:n], nil)
			}
			data = data[n:]
			for _, flow := range r.flows {
				require.LessOrEqual(t, len(flow.visits), maxVisits)
				for _, v := range flow.visits {
					require.LessOrEqual(t, len(v.held), maxHeld)
					require.LessOrEqual(t, len(v.serverID), maxServerIDs)
				}
			}
		}
		r.Shutdown(t.Context())
		require.Zero(t, r.Flows())
	})
}
