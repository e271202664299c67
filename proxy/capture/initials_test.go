package capture

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

// TestVectors: the packets of RFC 9001 appendix A.2 and A.3, RFC 9369 appendix A.2
// and A.3 are read, and made again octet by octet.
func TestVectors(t *testing.T) {
	message, err := hex.DecodeString(vectorCrypto)
	require.NoError(t, err)
	for _, c := range []struct {
		why                    string
		version                uint32
		clientKey, iv          string
		clientBegin, clientEnd string
		server                 string
	}{
		{"RFC 9001", version1, "1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c",
			"c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9bd8bab936b47d92ec356c0bab7df5976d27cd449f63300099f399",
			"e221af44860018ab0856972e194cd934",
			"cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb38cc5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc42158407dd074ee"},
		{"RFC 9369", version2, "8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f",
			"d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485dd04de806071bf03dceebfa162e75d6c96058bdbfb127cdfcbf903388e99ad04",
			"",
			"dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698baeea26b91eb761d9b89237bbf87263017915358230035f7fd3945d88965cf17f9af6e16886c61bfc703106fbaf3cb4cfa52382dd16a393e42757507698075b2c984c707f0a0812d8cd5a6881eaf21ceda98f4bd23f6fe1a3e2c43edd9ce7ca84bed8521e2e140"},
	} {
		t.Run(c.why, func(t *testing.T) {
			require.Equal(t, c.clientKey, hex.EncodeToString(expand(expand(initialSecret(c.version, idA), "client in", 32), prefixOf(c.version)+"key", 16)))
			k := newKeys(c.version, idA)
			require.Equal(t, c.iv, hex.EncodeToString(k.client.iv[:]))

			// A.2: packet number 2 in four octets.
			payload := append(bytes.Clone(message), make([]byte, 1162-len(message))...)
			first := byte(0xc3)
			if c.version == version2 {
				first = 0xd3
			}
			h := header(nil, first, c.version, idA, nil)
			h = append(h, 0, 0x44, 0x9e, 0, 0, 0, 2)
			sealed := k.client.seal(h, 4, payload)
			require.Equal(t, c.clientBegin, hex.EncodeToString(sealed[:64]))
			require.Equal(t, 1200, len(sealed))
			if c.clientEnd != "" {
				require.Equal(t, c.clientEnd, hex.EncodeToString(sealed[1184:]))
			}
			r, decided := feed(t, sealed)
			require.True(t, decided)
			require.Equal(t, "example.com", r.Hello().ServerName)
			require.Equal(t, c.version, r.Version())

			server, err := hex.DecodeString(c.server)
			require.NoError(t, err)
			answer := r.Answer(server)
			require.Equal(t, Greeted, answer.Kind)
			require.Equal(t, "f067a5502a4262b5", hex.EncodeToString(answer.ConnID))
		})
	}
}

// vectorCrypto is the CRYPTO frame of RFC 9001 appendix A.2.
const vectorCrypto = "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e0403050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff"

func TestHello(t *testing.T) {
	m := clientHello(t, "a.example", "h3", "hq")
	n := len(m)
	other := bytes.Clone(m)
	other[20]++
	var bytewise []byte
	for i := range n / 4 {
		bytewise = append(bytewise, crypto(m, i*4, min(i*4+1, n))...)
	}
	one := func(frames ...[]byte) []byte { return initial(shot{dcid: idA, scid: idB, frames: join(frames...)}) }
	name := func(id []byte) []byte { return initial(shot{dcid: id, frames: crypto(m, 0, n)}) }
	ping, ack := []byte{framePing, 0, 0}, []byte{frameAck, 5, 0, 1, 0, 1, 2}
	for _, c := range []struct {
		why       string
		datagrams [][]byte
		want      hello.Reason
	}{
		{"one frame", [][]byte{one(crypto(m, 0, n))}, hello.None},
		{"backwards, among others", [][]byte{one(ping, crypto(m, 200, n), ack, crypto(m, 90, 200), ping, crypto(m, 0, 90))}, hello.None},
		{"overlapping", [][]byte{one(crypto(m, 0, 120), crypto(m, 50, 150), crypto(m, 20, n))}, hello.None},
		{"an empty frame", [][]byte{one(crypto(m, 0, 0), crypto(m, 0, n))}, hello.None},
		{"over three datagrams, the last first", [][]byte{one(crypto(m, 150, n)), one(crypto(m, 0, 50)), one(crypto(m, 50, 150))}, hello.None},
		{"sent twice", [][]byte{one(crypto(m, 0, 100)), one(crypto(m, 0, 100)), one(crypto(m, 100, n))}, hello.None},
		{"in coalesced packets", [][]byte{join(one(crypto(m, 0, 100)), one(crypto(m, 100, n)))}, hello.None},
		{"behind a 0-RTT packet", [][]byte{join(zeroRTT(idA), one(crypto(m, 0, n)))}, hello.None},
		{"with junk behind it", [][]byte{join(one(crypto(m, 0, n)), []byte("\xc0rest"))}, hello.None},
		{"0-RTT first", [][]byte{zeroRTT(idA), one(crypto(m, 0, n))}, hello.None},
		{"one octet of destination", [][]byte{name([]byte{7})}, hello.None},
		{"none at all", [][]byte{name(nil)}, hello.None},
		{"twenty octets of destination", [][]byte{name(make([]byte, 20))}, hello.None},
		{"version 2", [][]byte{initial(shot{version: version2, dcid: idA, frames: crypto(m, 0, n)})}, hello.None},
		{"draft 29", [][]byte{initial(shot{version: versionDraft29, dcid: idA, frames: crypto(m, 0, n)})}, hello.None},
		{"the rest behind a Retry: new address, token, keys", [][]byte{one(crypto(m, 0, 99)), initial(shot{dcid: idB, token: []byte("t"), frames: crypto(m, 0, n)})}, hello.None},
		{"the rest to the server's ID, keys of the first", [][]byte{one(crypto(m, 0, 99)), initial(shot{keyID: idA, dcid: idB, frames: crypto(m, 99, n)})}, hello.None},
		{"the rest in a second version, keys of the first ID", [][]byte{one(crypto(m, 0, 99)), initial(shot{version: version2, keyID: idA, dcid: idB, frames: crypto(m, 99, n)})}, hello.None},
		{"the version refused, then another", [][]byte{zeroRTT(idA), initial(shot{version: version2, dcid: idA, frames: crypto(m, 0, n)})}, hello.None},

		{"a gap", [][]byte{one(crypto(m, 0, 100), crypto(m, 101, n))}, hello.TimedOut},
		{"pieces that contradict each other", [][]byte{one(crypto(m, 0, 100)), one(crypto(other, 0, n))}, hello.Malformed},
		{"more gaps than anybody needs", [][]byte{one(bytewise)}, hello.TooLong},
		{"a piece far away", [][]byte{one(appendVarint(appendVarint([]byte{frameCrypto}, maxHello), 1), []byte{0})}, hello.TooLong},
		{"a tag that is wrong", [][]byte{flip(one(crypto(m, 0, n)))}, hello.TimedOut},
		{"another connection's packet behind it is nobody's", [][]byte{join(one(crypto(m, 0, 100)), initial(shot{dcid: idB, frames: crypto(m, 0, n)}))}, hello.TimedOut},
		{"a frame that Initials may not hold", [][]byte{one([]byte{0x08, 0}, crypto(m, 0, n))}, hello.TimedOut},
		{"a version nobody knows", [][]byte{header([]byte{}, 0xc0, 0x5a5a5a5a, idA, idB)}, hello.Malformed},
		{"no QUIC", [][]byte{[]byte("\x00\x01\x00\x00stun")}, hello.NotTLS},
		{"a short header alone", [][]byte{[]byte("\x40 somebody's 1-RTT")}, hello.NotTLS},
	} {
		t.Run(c.why, func(t *testing.T) {
			r, _ := feed(t, c.datagrams...)
			r.End(hello.TimedOut)
			require.Equal(t, c.want, r.Hello().Reason)
			if c.want == hello.None {
				require.Equal(t, "a.example", r.Hello().ServerName)
				require.Equal(t, []string{"h3", "hq"}, r.Hello().ALPN)
				require.EqualValues(t, tls.VersionTLS13, r.Hello().Version)
			}
			require.Equal(t, c.want != hello.NotTLS, r.QUIC())
		})
	}
}

// TestEveryOrder: a hello in pieces of any size, overlapping and in any order,
// gives its name.
func TestEveryOrder(t *testing.T) {
	m := clientHello(t, "a.example")
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var datagrams [][]byte
		for at := 0; at < len(m); {
			to := min(at+1+random.IntN(120), len(m))
			datagrams = append(datagrams, initial(shot{dcid: idA, frames: crypto(m, max(0, at-random.IntN(9)), to)}))
			at = to
		}
		random.Shuffle(len(datagrams), func(i, j int) { datagrams[i], datagrams[j] = datagrams[j], datagrams[i] })
		r, decided := feed(t, datagrams...)
		require.True(t, decided)
		require.Equal(t, "a.example", r.Hello().ServerName)
	}
}

// TestOwns: behind the decision, what a client sends is the same hello or another
// one; a name cannot be smuggled in behind one that was judged.
func TestOwns(t *testing.T) {
	m, evil := clientHello(t, "a.example"), clientHello(t, "evil.example")
	n := len(m)
	for _, c := range []struct {
		why      string
		datagram []byte
		want     bool
	}{
		{"the hello again", initial(shot{dcid: idA, frames: crypto(m, 0, n)}), true},
		{"an acknowledgement to the server's ID", initial(shot{keyID: idA, dcid: idB, frames: []byte{frameAck, 0, 0, 0, 0}}), true},
		{"the second ClientHello", initial(shot{keyID: idA, dcid: idB, frames: crypto(append(bytes.Clone(m), evil...), n, n+40)}), true},
		{"the same in a second version", initial(shot{version: version2, keyID: idA, dcid: idB, frames: crypto(m, 0, n)}), true},
		{"1-RTT", []byte("\x41 whatever"), true},
		{"0-RTT", zeroRTT(idB), true},
		{"another connection", initial(shot{dcid: idB, frames: crypto(evil, 0, len(evil))}), false},
		{"another connection in a second version", initial(shot{version: version2, dcid: idB, frames: crypto(evil, 0, len(evil))}), false},
		{"another hello under the same keys", initial(shot{dcid: idA, frames: crypto(evil, 0, len(evil))}), false},
		{"coalesced behind its own", join(initial(shot{dcid: idA, frames: crypto(m, 0, n)}), initial(shot{dcid: idB, frames: crypto(evil, 0, len(evil))})), false},
		{"the hello after a Retry", initial(shot{dcid: idB, token: []byte("t"), frames: crypto(m, 0, n)}), false},
		{"a version nobody knows", header(nil, 0xc0, 0x5a5a5a5a, idA, idB), false},
	} {
		t.Run(c.why, func(t *testing.T) {
			r, decided := feed(t, initial(shot{dcid: idA, scid: idB, frames: crypto(m, 0, n)}))
			require.True(t, decided)
			require.Equal(t, c.want, r.Owns(c.datagram))
			require.Equal(t, c.want, r.Owns(c.datagram), "and again")
			require.Equal(t, "a.example", r.Hello().ServerName)
		})
	}
}

func TestAnswer(t *testing.T) {
	m := clientHello(t, "a.example")
	fromServer := func(frames []byte) []byte {
		return serverInitial(shot{keyID: idA, dcid: idB, scid: []byte("srv"), frames: frames})
	}
	list := func(versions ...uint32) (b []byte) {
		b = header(nil, 0x80, 0, idB, idA)
		for _, v := range versions {
			b = append(b, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
		}
		return b
	}
	for _, c := range []struct {
		why      string
		datagram []byte
		want     Answer
	}{
		{"a ServerHello", fromServer(crypto(m, 0, 60)), Answer{Kind: Greeted, ConnID: []byte("srv")}},
		{"in version 2, that the server chose", serverInitial(shot{version: version2, keyID: idA, dcid: idB, scid: []byte("srv"), frames: crypto(m, 0, 60)}), Answer{Kind: Greeted, ConnID: []byte("srv")}},
		{"an acknowledgement says nothing yet", fromServer([]byte{frameAck, 0, 0, 0, 0}), Answer{}},
		{"a handshake that is refused", fromServer([]byte{frameClose, 0x41, 0x28, 6, 0}), Answer{Kind: Closed, Code: 0x128}},
		{"other versions", list(version2, greased), Answer{Kind: Negotiation}},
		{"a negotiation that lists ours is none", list(version2, version1), Answer{Kind: Junk}},
		{"a negotiation cut short", list(version2)[:20], Answer{Kind: Junk}},
		{"a Retry", append(header(nil, 0xf0, version1, idB, []byte("new")), "token and 16 octets of tag"...), Answer{Kind: Retry}},
		{"under keys that do not come from our ID", serverInitial(shot{keyID: idB, dcid: idB, frames: crypto(m, 0, 60)}), Answer{Kind: Junk}},
		{"our own packet thrown back", initial(shot{keyID: idA, dcid: idB, frames: crypto(m, 0, 60)}), Answer{Kind: Junk}},
		{"to somebody else", serverInitial(shot{keyID: idA, dcid: idA, frames: crypto(m, 0, 60)}), Answer{Kind: Junk}},
		{"Handshake packets, overtaken", handshake(idB), Answer{}},
		{"and the Initial behind them", join(handshake(idB), fromServer(crypto(m, 0, 60))), Answer{Kind: Greeted, ConnID: []byte("srv")}},
		{"a stateless reset, or noise", []byte("\x41 noise that is long enough"), Answer{Kind: Junk}},
		{"a page", []byte("<html>blocked</html>"), Answer{Kind: Junk}},
		{"nothing", nil, Answer{Kind: Junk}},
	} {
		t.Run(c.why, func(t *testing.T) {
			r, decided := feed(t, initial(shot{dcid: idA, scid: idB, frames: crypto(m, 0, len(m))}))
			require.True(t, decided)
			require.Equal(t, c.want, r.Answer(c.datagram))
		})
	}
}

// TestAnswerUnread: of versions that are not read, the server's header tells.
func TestAnswerUnread(t *testing.T) {
	strange := header(nil, 0xc0, 0x5a5a5a5a, idA, idB)
	r, _ := feed(t, strange)
	require.Equal(t, Answer{Kind: Greeted, ConnID: idA}, r.Answer(header(nil, 0xc0, 0x5a5a5a5a, idB, idA)))
	require.Equal(t, Junk, r.Answer(header(nil, 0xc0, 0x6a6a6a6a, idB, idA)).Kind)
	require.Equal(t, Junk, r.Answer(header(nil, 0xc0, 0x5a5a5a5a, idA, idB)).Kind)

	g, _ := feed(t, []byte("\xc3Q046P\x76\xd8\x63\xb7\x54\xf7\xab\x32\x00\x00\x00\x01012345678901"))
	require.True(t, g.QUIC())
	require.Equal(t, Negotiation, g.Answer(header(nil, 0x80, 0, nil, idA)).Kind)
	require.Equal(t, Closed, g.Answer([]byte("\x0aPRST")).Kind)
	require.Equal(t, Greeted, g.Answer([]byte("\x40 and so on")).Kind)
}

// TestRefusal: the refusal is a CONNECTION_CLOSE that opens under the client's
// keys, or a negotiation that leaves nothing; a real client's reading of both is
// tested in test/quic.
func TestRefusal(t *testing.T) {
	m := clientHello(t, "a.example")
	for _, version := range []uint32{version1, version2, versionDraft29} {
		d := initial(shot{version: version, dcid: idA, scid: idB, frames: crypto(m, 0, len(m))})
		r, _ := feed(t, d)
		got, ok := r.Refusal()
		require.True(t, ok)
		require.Less(t, len(got), len(d))
		require.Equal(t, Answer{Kind: Closed, Code: connectionRefused}, r.Answer(got))
	}
	strange := header(nil, 0xc0, 0x5a5a5a5a, idA, idB)
	r, _ := feed(t, strange)
	got, ok := r.Refusal()
	require.True(t, ok)
	require.Equal(t, Answer{Kind: Negotiation}, r.Answer(got))
	for _, d := range [][]byte{[]byte("\x41 short"), []byte("\x00"), nil, zeroRTT(idA)} {
		r, _ := feed(t, d)
		_, ok = r.Refusal()
		require.False(t, ok)
	}
}

func BenchmarkInitials(b *testing.B) {
	m := clientHello(b, "a.example", "h3")
	half := len(m) / 2
	flight := [][]byte{
		initial(shot{dcid: idA, scid: idB, frames: crypto(m, half, len(m))}),
		initial(shot{dcid: idA, scid: idB, frames: crypto(m, 0, half)}),
	}
	later := initial(shot{keyID: idA, dcid: idB, frames: []byte{frameAck, 0, 0, 0, 0}})
	b.Run("hello", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var r Initials
			for _, d := range flight {
				r.Feed(d)
			}
		}
	})
	b.Run("later", func(b *testing.B) {
		b.ReportAllocs()
		r, _ := feed(b, flight...)
		for b.Loop() {
			r.Owns(later)
		}
	})
}
