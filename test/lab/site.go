package lab

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Signer is who signs a site's certificate.
type Signer string

// The signers.
const (
	Public    Signer = ""          // the lab's CA: World.CAPEM
	Inspector Signer = "inspector" // a corporate device's: World.InspectorPEM
)

// ForeignCA is a site behind a device that breaks TLS open: a client that
// trusts only the lab's CA refuses its certificate.
var ForeignCA = Site{Signer: Inspector}

// Site is a web server: TLS to a ClientHello, its certificate made for the
// server name asked for, and plain HTTP/1.1 to anything else. It answers
//
//	/bytes/N    N bytes
//	/status/N   the status N
//	/ws         a WebSocket that sends back every message
//	else        one line with its name, and what it was sent
//
// The zero Site works.
type Site struct {
	Signer    Signer
	Expired   bool          // the certificate
	WrongName bool          // a certificate for another name
	MaxTLS    uint16        // tls.VersionTLS12, say; 0 is TLS 1.3
	Retry     bool          // demands P-384, so that most clients get a HelloRetryRequest
	Location  string        // answers every request with 307 to this and the path
	Delay     time.Duration // before each answer

	cut *MidStream
}

func (s Site) serve(c *conn) {
	first, err := c.r.Peek(1)
	if err != nil {
		return
	}
	c.saw("hello")
	if first[0] != handshakeRecord {
		s.speak(c, c, c.r)
		return
	}
	t := tls.Server(c, c.world.tlsConfig(s, c.name))
	if err := t.Handshake(); err != nil {
		c.end(Close)
		return
	}
	s.speak(c, t, bufio.NewReader(t))
	if s.cut == nil {
		t.Close()
	}
}

func (w *World) tlsConfig(s Site, name string) *tls.Config {
	config := &tls.Config{
		MaxVersion: s.MaxTLS,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			i := issue{name: name, expired: s.Expired}
			if h.ServerName != "" {
				i.name = normal(h.ServerName)
			}
			if s.WrongName {
				i.name = "wrong.host.invalid"
			}
			return w.signer(s.Signer).certificate(i)
		},
	}
	if s.Retry {
		config.CurvePreferences = []tls.CurveID{tls.CurveP384}
	}
	return config
}

// speak answers requests on rw, which is c or TLS over c.
func (s Site) speak(c *conn, rw net.Conn, r *bufio.Reader) {
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		c.sawRequest(req)
		if req.Header.Get("Expect") != "" {
			io.WriteString(rw, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		received, err := io.Copy(io.Discard, req.Body)
		if err != nil || !c.world.wait(s.Delay) {
			return
		}
		if s.cut != nil {
			s.cut.answer(c, rw)
			return
		}
		if req.URL.Path == "/ws" {
			echoMessages(rw, r, req)
			return
		}
		last := req.Close || c.absolute
		if s.answer(c.name, req, received, last).Write(rw) != nil || last {
			return
		}
	}
}

// answer is the response to one request, after which the connection is closed
// if it is the last.
func (s Site) answer(name string, req *http.Request, received int64, last bool) *http.Response {
	res := &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Request: req, Close: last,
		Header: http.Header{"Content-Type": {"text/plain"}, "Server": {"lab"}},
	}
	text := fmt.Sprintf("%s: %s, %d bytes received\n", name, req.Method, received)
	res.Body, res.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	if s.Location != "" {
		res.StatusCode = http.StatusTemporaryRedirect
		res.Header.Set("Location", strings.TrimSuffix(s.Location, "/")+req.URL.Path)
		return res
	}
	kind, arg, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	n, err := strconv.ParseInt(arg, 10, 64)
	switch {
	case err != nil || n < 0:
	case kind == "bytes":
		res.Body, res.ContentLength = io.NopCloser(io.LimitReader(stuff{}, n)), n
	case kind == "status" && n >= 200 && n <= 999:
		res.StatusCode = int(n)
	}
	return res
}

// answer sends an answer whose body is cut short.
func (b *MidStream) answer(c *conn, rw net.Conn) {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", b.After+1<<20)
	if _, err := io.WriteString(rw, head); err != nil {
		return
	}
	if _, err := io.CopyN(rw, stuff{}, b.After); err == nil {
		c.end(b.End)
	}
}

// stuff is an endless reader of the letter x.
type stuff struct{}

var filling = strings.Repeat("x", 64<<10)

func (stuff) Read(p []byte) (int, error) { return copy(p, filling), nil }
