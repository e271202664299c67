package proxy

import (
	"bufio"
	"net"
	"net/http"
	"strings"

	"github.com/elazarl/goproxy"
)

// This file alone knows goproxy. It takes a CONNECT apart from an absolute-form
// request, copies the latter's answer with its trailers and upgrades, and
// removes hop-by-hop fields. Every CONNECT is claimed by us, nothing is ever
// intercepted, and each request takes our own transport.

// frontend is what serves a client's request.
func (p *Proxy) frontend() http.Handler {
	g := goproxy.NewProxyHttpServer()
	g.Logger = quiet{}
	g.KeepAcceptEncoding = true
	g.Tr = p.transport
	g.ConnectDial = nil
	g.NonproxyHandler = http.HandlerFunc(p.serveOrigin)
	g.OnRequest().HandleConnectFunc(func(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		return &goproxy.ConnectAction{Action: goproxy.ConnectHijack, Hijack: p.claimTunnel}, host
	})
	g.OnRequest().DoFunc(func(r *http.Request, ctx *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		dropHopByHop(r.Header)
		ctx.RoundTripper = goproxy.RoundTripperFunc(func(r *http.Request, _ *goproxy.ProxyCtx) (*http.Response, error) {
			return p.roundTrip(r), nil
		})
		return r, nil
	})
	return g
}

// dropHopByHop removes what is meant for us alone (RFC 9110 section 7.6.1).
// Upgrades are among it: websockets come by CONNECT (RFC 6455 section 4.1).
func dropHopByHop(h http.Header) {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Te", "Upgrade"} {
		h.Del(name)
	}
}

// claimTunnel takes a CONNECT's connection over. It opens the way in net/http's
// goroutine, whose stack has grown already; the tunnel gets one of its own, so
// that this one, with its buffers and the request, can end.
func (p *Proxy) claimTunnel(r *http.Request, client net.Conn, _ *goproxy.ProxyCtx) {
	c := client.(*claimed)
	p.busy.add() // the handler has one too, so that it is not too late
	p.connect(c.TCPConn, c.pending, r.RequestURI, r.Header["Via"])
}

// quiet drops goproxy's warnings: what became of a request is in its record.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

// responseWriter makes goproxy's Hijack keep the bytes that a client sent right
// behind its request.
type responseWriter struct {
	http.ResponseWriter
	door *door
}

// claimed is a hijacked connection with what was read from it already.
type claimed struct {
	*net.TCPConn
	pending []byte
}

func (c *claimed) Read(b []byte) (int, error) {
	if len(c.pending) == 0 {
		return c.TCPConn.Read(b)
	}
	n := copy(b, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

// Hijack implements http.Hijacker.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	_, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	c := &claimed{TCPConn: w.door.TCPConn}
	if n := rw.Reader.Buffered(); n > 0 {
		b, _ := rw.Reader.Peek(n)
		c.pending = append(c.pending, b...)
	}
	return c, bufio.NewReadWriter(bufio.NewReaderSize(c, 16), rw.Writer), nil
}

// WriteHeader sends the header at once, as it came: its body may take long to
// begin.
func (w *responseWriter) WriteHeader(code int) {
	for _, name := range []string{"Content-Type", "Date"} {
		if h := w.Header(); len(h[name]) == 0 {
			h[name] = nil // else net/http would guess one
		}
	}
	w.ResponseWriter.WriteHeader(code)
	w.Flush()
}

// Write passes each piece on as it comes: what waited in a buffer for more would
// stall a stream.
func (w *responseWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	if err == nil {
		w.Flush()
	}
	return n, err
}

// Flush implements http.Flusher.
func (w *responseWriter) Flush() { http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap lets http.ResponseController through.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
