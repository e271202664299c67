package lab

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"time"
)

const (
	recordHeader = 5
	maxHead      = 64 << 10
)

// conn is an accepted connection: to a site, or to the parent.
type conn struct {
	net.Conn // not *net.TCPConn: its WriteTo would pass r by
	tcp      *net.TCPConn
	r        *bufio.Reader
	world    *World
	name     string // the site's
	port     uint16
	owed     []byte // the 200 to CONNECT, while it is not sent
	absolute bool   // the next bytes are an absolute-form request
}

func (w *World) newConn(tcp *net.TCPConn) *conn {
	return &conn{Conn: tcp, tcp: tcp, r: bufio.NewReaderSize(tcp, maxHead), world: w}
}

func (c *conn) Read(p []byte) (int, error) { return c.r.Read(p) }

// CloseWrite ends the way to the client with a FIN.
func (c *conn) CloseWrite() error { return c.tcp.CloseWrite() }

func (c *conn) takeOwed() []byte {
	owed := c.owed
	c.owed = nil
	return owed
}

// end ends the connection when all that was written has arrived.
func (c *conn) end(e Ending) {
	c.delivered()
	switch e {
	case Reset:
		c.tcp.SetLinger(0)
		c.tcp.Close()
	case Close:
		c.tcp.CloseWrite()
		io.Copy(io.Discard, c)
	case Silence:
		io.Copy(io.Discard, c)
	}
}

// delivered waits until the client's kernel has all that was written: an RST
// throws away what is still on its way.
func (c *conn) delivered() {
	for range 5000 {
		if n, err := unsent(c.tcp); err != nil || n == 0 || !c.world.wait(time.Millisecond) {
			return
		}
	}
}

// readHello reads the client's first bytes: a whole ClientHello, over as many
// records as it has, the head of an HTTP request, or whatever one read gives.
func (c *conn) readHello() error {
	first, err := c.r.Peek(1)
	if err != nil {
		return err
	}
	switch {
	case first[0] == handshakeRecord:
		err = c.readRecords()
	case first[0] >= 'A' && first[0] <= 'Z':
		var head []byte
		if head, err = c.head(); err == nil {
			_, err = c.r.Discard(len(head))
		}
	default:
		_, err = c.r.Discard(c.r.Buffered())
	}
	if err == nil {
		c.saw("hello")
	}
	return err
}

const handshakeRecord = 22

// readRecords reads one handshake message.
func (c *conn) readRecords() error {
	const messageHeader = 4
	var message []byte
	for want := messageHeader; len(message) < want; {
		var h [recordHeader]byte
		if _, err := io.ReadFull(c.r, h[:]); err != nil {
			return err
		}
		fragment := make([]byte, binary.BigEndian.Uint16(h[3:]))
		if _, err := io.ReadFull(c.r, fragment); err != nil {
			return err
		}
		message = append(message, fragment...)
		if len(message) >= messageHeader {
			want = messageHeader + int(binary.BigEndian.Uint32(message)&0xffffff)
		}
	}
	return nil
}

// head is the head of an HTTP message with its empty line; it stays unread.
func (c *conn) head() ([]byte, error) {
	for n := 1; ; {
		if _, err := c.r.Peek(n); err != nil {
			return nil, err
		}
		b, _ := c.r.Peek(c.r.Buffered())
		if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
			return b[:i+4], nil
		}
		n = len(b) + 1
	}
}

// writer collects text and writes it at once, so that an answer is not torn.
type writer struct {
	w io.Writer
	b bytes.Buffer
}

func (w *writer) print(s string)                    { w.b.WriteString(s) }
func (w *writer) Write(p []byte) (int, error)       { return w.b.Write(p) }
func (w *writer) WriteString(s string) (int, error) { return w.b.WriteString(s) }

func (w *writer) flush() error {
	_, err := w.w.Write(w.b.Bytes())
	return err
}
