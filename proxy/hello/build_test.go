package hello_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

// ext is one extension of a crafted ClientHello.
type ext struct {
	typ  uint16
	data []byte
}

// clientHello crafts a handshake message. No extensions means no block at all.
func clientHello(exts ...ext) []byte {
	var b cryptobyte.Builder
	b.AddUint8(1)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint16(0x0303)
		b.AddBytes(make([]byte, 32))
		b.AddUint8(0)
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint16(0x1301) })
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint8(0) })
		if exts == nil {
			return
		}
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, e := range exts {
				b.AddUint16(e.typ)
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(e.data) })
			}
		})
	})
	return b.BytesOrPanic()
}

// nameEntry is one entry of a server_name list.
type nameEntry struct {
	typ  uint8
	name string
}

func sni(entries ...nameEntry) ext {
	var b cryptobyte.Builder
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, e := range entries {
			b.AddUint8(e.typ)
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(e.name)) })
		}
	})
	return ext{0, b.BytesOrPanic()}
}

func host(name string) ext { return sni(nameEntry{0, name}) }

func alpn(names ...string) ext {
	var b cryptobyte.Builder
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, n := range names {
			b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(n)) })
		}
	})
	return ext{16, b.BytesOrPanic()}
}

func versions(vs ...uint16) ext {
	var b cryptobyte.Builder
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, v := range vs {
			b.AddUint16(v)
		}
	})
	return ext{43, b.BytesOrPanic()}
}

// Stand-ins for certificates, and what may follow them.
var (
	leaf      = []byte(strings.Repeat("\xff", 700))
	root      = []byte(strings.Repeat("\xfe", 300))
	helloDone = []byte{14, 0, 0, 0}
)

// chainMessage crafts a Certificate message, RFC 5246 section 7.4.2.
func chainMessage(certs ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddUint8(11)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, c := range certs {
				b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(c) })
			}
		})
	})
	return b.BytesOrPanic()
}

// certs is a whole Certificate message in records of 16 KiB.
func certs(chain ...[]byte) said { return said{false, recordsOf(16<<10, chainMessage(chain...))} }

// record frames a body.
func record(typ byte, body []byte) []byte {
	return append([]byte{typ, 3, 1, byte(len(body) >> 8), byte(len(body))}, body...)
}

// recordsOf frames msg in handshake records of at most n bytes.
func recordsOf(n int, msg []byte) (out []byte) {
	for len(msg) > 0 {
		k := min(n, len(msg))
		out = append(out, record(22, msg[:k])...)
		msg = msg[k:]
	}
	return out
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// tape is a connection whose other side has said everything beforehand.
type tape struct {
	in  io.Reader
	out bytes.Buffer
}

func (c *tape) Read(b []byte) (int, error)       { return c.in.Read(b) }
func (c *tape) Write(b []byte) (int, error)      { return c.out.Write(b) }
func (c *tape) Close() error                     { return nil }
func (c *tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *tape) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *tape) SetDeadline(time.Time) error      { return nil }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

// realHello is what crypto/tls sends first.
func realHello(config *tls.Config) []byte {
	c := &tape{in: bytes.NewReader(nil)}
	_ = tls.Client(c, config).Handshake() // ends for want of an answer
	return c.out.Bytes()
}

// parse feeds the pieces, and the end of the stream.
func parse(limit int, pieces ...[]byte) (h hello.Hello, decided bool) {
	p := hello.Parser{Limit: limit}
	for _, b := range pieces {
		decided = p.Feed(b)
	}
	p.End(hello.Truncated)
	return p.Hello(), decided
}

// bytewise cuts b into single bytes.
func bytewise(b []byte) (pieces [][]byte) {
	for i := range b {
		pieces = append(pieces, b[i:i+1])
	}
	return pieces
}
