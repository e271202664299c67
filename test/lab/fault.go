package lab

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
)

func (Refuse) serve(c *conn) { c.end(Reset) }
func (Drop) serve(c *conn)   { c.end(Silence) }

func (b AtOnce) serve(c *conn) { c.end(Ending(b)) }

func (b AfterHello) serve(c *conn) {
	if c.readHello() == nil {
		c.end(Ending(b))
	}
}

func (b Alert) serve(c *conn) {
	if c.readHello() == nil {
		c.alert(b)
	}
}

func (b AfterServerHello) serve(c *conn) {
	config := c.world.tlsConfig(Site{MaxTLS: b.MaxTLS}, c.name)
	if err := tls.Server(&oneRecord{conn: c}, config).Handshake(); !errors.Is(err, errRecord) {
		return
	}
	switch {
	case b.Alert != 0:
		c.alert(b.Alert)
	case b.End == "":
		c.end(Close)
	default:
		c.end(b.End)
	}
}

// oneRecord lets one TLS record out and fails then.
type oneRecord struct{ *conn }

var errRecord = errors.New("one record was sent")

func (o *oneRecord) Write(p []byte) (int, error) {
	if len(p) < recordHeader {
		return 0, io.ErrShortWrite
	}
	n := recordHeader + int(binary.BigEndian.Uint16(p[3:]))
	if _, err := o.conn.Write(p[:min(n, len(p))]); err != nil {
		return 0, err
	}
	return 0, errRecord
}

func (b MidStream) serve(c *conn) { Site{cut: &b}.serve(c) }

func (b BlockPage) serve(c *conn) {
	if c.readHello() != nil {
		return
	}
	status, body := b.Status, b.Body
	if status == 0 {
		status = http.StatusForbidden
	}
	if body == "" {
		body = "<html><body><h1>Web page blocked</h1><p>Access to " + c.name + " is against company policy.</p></body></html>\n"
	}
	h := http.Header{"Content-Type": {"text/html"}, "Connection": {"close"}}
	if b.Location != "" {
		h.Set("Location", b.Location)
	}
	writeAnswer(c, status, h, body)
	c.end(Close)
}

func (b Slow) serve(c *conn) {
	if c.world.wait(b.For) {
		b.Then.serve(c)
	}
}

// serve is not reached: World.behaviour takes the turn before.
func (b InTurn) serve(c *conn) { b[len(b)-1].serve(c) }

func (b Func) serve(c *conn) { b(c) }

func (Echo) serve(c *conn) {
	if _, err := io.Copy(c, c); err == nil {
		c.end(Close)
	}
}

func (b Banner) serve(c *conn) {
	if _, err := c.Write(append(c.takeOwed(), b...)); err == nil {
		c.end(Silence)
	}
}

// alert sends a fatal alert in clear, and closes.
func (c *conn) alert(a Alert) {
	const alertRecord, fatal = 21, 2
	if _, err := c.Write([]byte{alertRecord, 3, 3, 0, 2, fatal, byte(a)}); err == nil {
		c.end(Close)
	}
}

// writeAnswer writes an HTTP/1.1 answer with a small body.
func writeAnswer(w io.Writer, status int, h http.Header, body string) error {
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Length: %d\r\n", status, http.StatusText(status), len(body))
	lines := writer{w: w}
	lines.print(head)
	h.Write(&lines)
	lines.print("\r\n" + body)
	return lines.flush()
}
