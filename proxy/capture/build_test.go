package capture

import (
	"bytes"
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/require"
)

// clientHello is the handshake message that crypto/tls sends over QUIC.
func clientHello(t testing.TB, name string, protos ...string) []byte {
	t.Helper()
	c := tls.QUICClient(&tls.QUICConfig{TLSConfig: &tls.Config{ServerName: name, NextProtos: protos, MinVersion: tls.VersionTLS13}})
	c.SetTransportParameters([]byte{1, 1, 0})
	require.NoError(t, c.Start(t.Context()))
	defer c.Close()
	for {
		switch e := c.NextEvent(); e.Kind {
		case tls.QUICWriteData:
			return bytes.Clone(e.Data)
		case tls.QUICNoEvent:
			require.Fail(t, "crypto/tls said nothing")
		}
	}
}

// shot is one Initial packet to be made.
type shot struct {
	version uint32
	keyID   []byte // the connection ID that its keys come from; dcid when nil
	dcid    []byte
	scid    []byte
	token   []byte
	frames  []byte
}

// initial makes a client's Initial.
func initial(s shot) []byte { return initialBy(s, func(k *keys) *sealer { return k.client }) }

// serverInitial makes a server's.
func serverInitial(s shot) []byte { return initialBy(s, func(k *keys) *sealer { return k.server() }) }

func initialBy(s shot, side func(*keys) *sealer) []byte {
	if s.version == 0 {
		s.version = version1
	}
	if s.keyID == nil {
		s.keyID = s.dcid
	}
	first := byte(0xc0)
	if s.version == version2 {
		first = 0xd0
	}
	for len(s.frames) < 4 {
		s.frames = append(s.frames, framePadding)
	}
	h := header(nil, first, s.version, s.dcid, s.scid)
	h = append(appendVarint(h, uint64(len(s.token))), s.token...)
	h = appendVarint(h, uint64(1+len(s.frames)+tagSize))
	return side(newKeys(s.version, s.keyID)).seal(append(h, 0), 1, s.frames)
}

// crypto is a CRYPTO frame with the part of a message.
func crypto(message []byte, from, to int) []byte {
	b := appendVarint([]byte{frameCrypto}, uint64(from))
	b = appendVarint(b, uint64(to-from))
	return append(b, message[from:to]...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

var (
	idA = []byte("\x83\x94\xc8\xf0\x3e\x51\x57\x08")
	idB = []byte("another connection")[:12]
)

// feed gives datagrams to a reader and demands that it leaves them as they were.
func feed(t testing.TB, datagrams ...[]byte) (r *Initials, decided bool) {
	r = new(Initials)
	for _, d := range datagrams {
		before := bytes.Clone(d)
		decided = r.Feed(d)
		require.Equal(t, before, d, "the datagram was changed")
	}
	return r, decided
}

// zeroRTT and handshake are packets that cannot be opened.
func zeroRTT(dcid []byte) []byte   { return sealedLong(0xd0, dcid) }
func handshake(dcid []byte) []byte { return sealedLong(0xe0, dcid) }

func sealedLong(first byte, dcid []byte) []byte {
	body := []byte("0123456789 0123456789 0123456789 0123456789")
	return append(appendVarint(header(nil, first, version1, dcid, idB), uint64(len(body))), body...)
}

func flip(b []byte) []byte {
	b[len(b)-1] ^= 1
	return b
}

func prefixOf(version uint32) string {
	if version == version2 {
		return "quicv2 "
	}
	return "quic "
}
