package hello_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/cryptobyte"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

// accepted is what crypto/tls reads from the same bytes, nil when it refuses
// them.
func accepted(stream []byte) (seen *tls.ClientHelloInfo) {
	config := &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		seen = &tls.ClientHelloInfo{ServerName: info.ServerName, SupportedProtos: info.SupportedProtos}
		return nil, errors.New("enough")
	}}
	_ = tls.Server(&tape{in: bytes.NewReader(stream)}, config).Handshake()
	return seen
}

// realHellos are the hellos of many crypto/tls clients.
func realHellos(tb testing.TB) (out [][]byte) {
	for _, c := range []*tls.Config{
		{ServerName: "a.example"},
		{ServerName: "a.example", NextProtos: []string{"h2", "http/1.1"}},
		{ServerName: "127.0.0.1"}, // sent without a name
		{ServerName: "a.example", MaxVersion: tls.VersionTLS12},
		{ServerName: "a.example", MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}},
		{ServerName: "secret.example", MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: echConfigs(tb)},
	} {
		c.InsecureSkipVerify = true
		out = append(out, realHello(c))
	}
	return out
}

// echConfigs is a list of one fresh ECHConfig, RFC 9849 section 4.
func echConfigs(tb testing.TB) []byte {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(tb, err)
	var b cryptobyte.Builder
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint16(0xfe0d)
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			b.AddUint8(1)
			b.AddUint16(0x0020) // DHKEM(X25519, HKDF-SHA256)
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(key.PublicKey().Bytes()) })
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint16(1); b.AddUint16(1) })
			b.AddUint8(0)
			b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte("public.example")) })
			b.AddUint16(0)
		})
	})
	return b.BytesOrPanic()
}

func TestParserRealClients(t *testing.T) {
	var got []hello.Hello
	for _, b := range realHellos(t) {
		h, decided := everySplit(t, 0, b)
		require.True(t, decided)
		got = append(got, h)
	}
	v13 := func(name string, protos ...string) hello.Hello {
		h := named(name)
		h.Version, h.ALPN = tls.VersionTLS13, protos
		return h
	}
	nobody := nameless
	nobody.Version = tls.VersionTLS13
	ech := v13("public.example")
	ech.ECH = true
	require.Equal(t, []hello.Hello{v13("a.example"), v13("a.example", "h2", "http/1.1"), nobody, named("a.example"), v13("a.example"), ech}, got)
}

// foreignMajor says whether crypto/tls can have read a record whose version is
// not 3.x. It takes anything below 0x1000 before a version is agreed; OpenSSL
// and the rest do not, and neither do we.
func foreignMajor(stream []byte) bool {
	for len(stream) >= 5 {
		if stream[1] != 3 {
			return true
		}
		n := 5 + int(stream[3])<<8 + int(stream[4])
		stream = stream[min(n, len(stream)):]
	}
	return len(stream) > 1 && stream[1] != 3
}

// FuzzParse holds the parser against crypto/tls: where that takes a ClientHello,
// the name and protocols are the same. How the bytes are cut changes nothing.
func FuzzParse(f *testing.F) {
	for _, b := range realHellos(f) {
		f.Add(b, []byte{1, 4, 9})
		f.Add(recordsOf(16, b[5:]), []byte{200})
		f.Add(recordsOf(1, b[5:]), []byte{7, 7})
	}
	f.Add(join([]byte{21, 3, 1, 0, 2, 1, 112}, record(22, clientHello(host("a")))), []byte{3})
	f.Add(record(22, clientHello(host("a"), alpn("h2"), versions(0x0304))), []byte{})
	f.Add([]byte("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"), []byte{5, 9})
	f.Add([]byte("\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10"), []byte{2})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		before := slices.Clone(stream)
		got, _ := parse(0, stream)
		pieces, _ := parse(0, slice(stream, cuts)...)
		require.Equal(t, got, pieces, "cuts change the result")
		single, _ := parse(0, bytewise(stream)...)
		require.Equal(t, got, single, "single bytes change the result")
		require.Equal(t, before, stream, "the input was changed")
		require.Equal(t, got.ServerName != "", got.Reason == hello.None)

		want := accepted(stream)
		if want == nil || len(stream) > 64<<10 || foreignMajor(stream) {
			return
		}
		require.Equal(t, hello.TLS, got.Protocol)
		require.Equal(t, want.ServerName, got.ServerName)
		protos := want.SupportedProtos
		require.Equal(t, append([]string{}, protos[:min(32, len(protos))]...), append([]string{}, got.ALPN...))
	})
}

// slice cuts stream into pieces of the lengths given, and a rest.
func slice(stream, lengths []byte) (pieces [][]byte) {
	for _, n := range lengths {
		k := min(int(n), len(stream))
		pieces = append(pieces, stream[:k])
		stream = stream[k:]
	}
	return append(pieces, stream)
}

// FuzzReply demands that cuts change nothing and that what is claimed is bounded.
func FuzzReply(f *testing.F) {
	f.Add([]byte("HTTP/1.1 403 Forbidden\r\nServer: x\r\n\r\n"), []byte{3, 20})
	f.Add([]byte("\r\n<html>"), []byte{1})
	f.Add([]byte("220 a ESMTP\r\n"), []byte{4})
	f.Add([]byte("\x16\x03\x03"), []byte{1})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		reply := func(pieces ...[]byte) hello.Reply {
			var p hello.ReplyParser
			for _, b := range pieces {
				p.Feed(b)
			}
			p.End(hello.TimedOut)
			return p.Reply()
		}
		got := reply(stream)
		require.Equal(t, got, reply(slice(stream, cuts)...))
		require.Equal(t, got, reply(bytewise(stream)...))
		require.LessOrEqual(t, len(got.Server), 64)
		require.Equal(t, len(stream) == 0, got.Protocol == hello.Undecided)
		require.Equal(t, got.Protocol == hello.HTTP, got.Status != 0)
	})
}

// FuzzHandshake demands that cuts change nothing: the script is a list of turns,
// one byte for the side and length of each.
func FuzzHandshake(f *testing.F) {
	script := func(tape ...said) (turns, stream []byte) {
		for _, s := range tape {
			for part := range slices.Chunk(s.b, 127) {
				turn := byte(len(part)) << 1
				if s.client {
					turn |= 1
				}
				turns, stream = append(turns, turn), append(stream, part...)
			}
		}
		return turns, stream
	}
	for _, tape := range [][]said{
		{hi, greet12, ccs, done12},
		{hi, again, ccs, hi, greet13, down(30), up(25), up(53)},
		{hi, up(300), greet384, up(21), up(69)},
		{hi, warn(false, 1, 112), greet12, warn(true, 2, 48)},
		{hi, noTLS},
		{hi, greet12, certs(leaf, root), ccs, done12},
		{hi, greet12, warn(false, 1, 112), {false, recordsOf(9, chainMessage(leaf, root))}, ccs, done12},
	} {
		turns, stream := script(tape...)
		f.Add(false, turns, stream)
		f.Add(true, turns, stream)
	}
	f.Fuzz(func(t *testing.T, early bool, turns, stream []byte) {
		var tape []said
		for _, turn := range turns {
			k := min(int(turn>>1), len(stream))
			tape = append(tape, said{turn&1 == 1, stream[:k]})
			stream = stream[k:]
		}
		whole := hello.Handshake{EarlyData: early}
		follow(&whole, tape, 1<<20)
		for _, size := range []int{1, 2, 6} {
			pieces := hello.Handshake{EarlyData: early}
			follow(&pieces, tape, size)
			require.Equal(t, whole.Stage(), pieces.Stage())
			require.Equal(t, whole.Version(), pieces.Version())
			require.Equal(t, whole.Decided(), pieces.Decided())
			require.Equal(t, whole.ClientShort(), pieces.ClientShort())
			require.Equal(t, whole.Chain(), pieces.Chain())
		}
	})
}

// served are the certificates that crypto/tls reads from a server's stream, nil
// when it refuses what stands before the message behind them.
func served(stream []byte) (chain [][]byte) {
	config := &tls.Config{
		InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS12,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			chain = raw
			return errors.New("enough")
		},
	}
	_ = tls.Client(&tape{in: bytes.NewReader(stream)}, config).Handshake()
	return chain
}

// FuzzChain holds the reading of certificates against crypto/tls: where that
// takes them, they are the same. How the bytes are cut changes nothing.
func FuzzChain(f *testing.F) {
	key := ecdsaKey(f)
	for n := 1; n <= 3; n++ {
		target := serveTLS(f, &tls.Config{Certificates: []tls.Certificate{chainOf(f, key, n)}, MaxVersion: tls.VersionTLS12})
		flow, _ := visit(f, target, &tls.Config{InsecureSkipVerify: true})
		stream := serverSide(flow)
		require.Len(f, served(stream), n)
		f.Add(stream, []byte{200, 100, 3})
	}
	f.Add(join(greet12.b, recordsOf(9, join(chainMessage(leaf, root), helloDone))), []byte{})
	f.Add(join(greet12.b, record(22, join(chainMessage(leaf), helloDone))), []byte{})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		before := slices.Clone(stream)
		got := chainIn(stream)
		require.Equal(t, got, chainIn(slice(stream, cuts)...), "cuts change the result")
		require.Equal(t, got, chainIn(bytewise(stream)...), "single bytes change the result")
		require.Equal(t, before, stream, "the input was changed")
		require.LessOrEqual(t, len(got), 16)
		if want := served(stream); want != nil && len(want) <= 16 && len(stream) <= 64<<10 && !foreignMajor(stream) {
			require.Equal(t, want, got)
		}
	})
}
