package lab

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// parentSide is what the parent itself does.
type parentSide interface {
	// reply plays it on a connection whose request is still unread.
	reply(c *conn)
}

// servePeer is one connection of the parent's clients: one request, CONNECT or
// absolute-form.
func (w *World) servePeer(c *conn) {
	head, err := c.head()
	if err != nil {
		return
	}
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil || !c.aim(req) {
		ParentStatus{Code: http.StatusBadRequest, SquidError: "ERR_INVALID_REQ 0"}.reply(c)
		return
	}
	user, password := basic(req.Header.Get("Proxy-Authorization"))
	w.note(Sighting{Door: DoorParent, Method: req.Method, Target: c.target(), User: user})
	if !w.admits(user, password) {
		ParentStatus{Code: http.StatusProxyAuthRequired, SquidError: "ERR_CACHE_ACCESS_DENIED 0"}.reply(c)
		return
	}
	b := w.behaviour(c.name, c.port)
	if slow, ok := b.(Slow); ok {
		if _, ok := slow.Then.(parentSide); ok && w.wait(slow.For) {
			b = slow.Then
		}
	}
	if p, ok := seenBy(b).(parentSide); ok {
		p.reply(c)
		return
	}
	if !c.absolute {
		c.establish(b, len(head))
	}
	b.serve(c)
}

// aim takes from a request where it goes.
func (c *conn) aim(req *http.Request) bool {
	hostport := req.RequestURI
	if req.Method != http.MethodConnect {
		c.absolute = true
		hostport = req.URL.Host
		if req.URL.Port() == "" {
			hostport = net.JoinHostPort(req.URL.Hostname(), "80")
		}
	}
	host, port, err := net.SplitHostPort(hostport)
	n, perr := strconv.ParseUint(port, 10, 16)
	c.name, c.port = normal(host), uint16(n)
	return err == nil && perr == nil && c.name != ""
}

// establish takes the CONNECT request from the connection and answers 200; to a
// Banner it leaves the 200 to send.
func (c *conn) establish(b Behaviour, head int) {
	c.r.Discard(head)
	c.owed = []byte("HTTP/1.1 200 Connection established\r\n\r\n")
	if _, ok := b.(Banner); !ok {
		c.Write(c.takeOwed())
	}
}

// seenBy is b as it shows through a parent like squid: what fails beyond it is
// the status that squid gives for it.
func seenBy(b Behaviour) Behaviour {
	const status = http.StatusServiceUnavailable
	switch b := b.(type) {
	case Refuse:
		return ParentStatus{Code: status, SquidError: "ERR_CONNECT_FAIL 111"}
	case Drop:
		return ParentStatus{Code: status, SquidError: "ERR_CONNECT_FAIL 110"}
	case Answer:
		switch {
		case b.Then != nil || b.own():
			return seenBy(b.then())
		case len(b.Addrs) > 0:
			return ParentStatus{Code: status, SquidError: "ERR_CONNECT_FAIL 111"}
		default:
			return ParentStatus{Code: status, SquidError: "ERR_DNS_FAIL 0"}
		}
	}
	return b
}

func (b ParentStatus) reply(c *conn) {
	h := http.Header{"Via": {"1.1 proxy.example.com (lab)"}, "Content-Type": {"text/html"}, "Connection": {"close"}}
	if b.Code == http.StatusProxyAuthRequired {
		h.Set("Proxy-Authenticate", `Basic realm="corporate proxy"`)
	}
	if b.SquidError != "" {
		h.Set("X-Squid-Error", b.SquidError)
	}
	if b.ProxyStatus != "" {
		h.Set("Proxy-Status", b.ProxyStatus)
	}
	c.r.Discard(c.r.Buffered())
	writeAnswer(c, b.Code, h, "<html><body><h1>"+strconv.Itoa(b.Code)+" "+http.StatusText(b.Code)+"</h1></body></html>\n")
	c.end(Close)
}

func (b ParentCut) reply(c *conn) {
	c.r.Discard(c.r.Buffered())
	io.WriteString(c, "HTTP/1.1 200 Connection est")
	c.end(Ending(b))
}

func (ParentSilence) reply(c *conn) { c.end(Silence) }

func (b ParentForward) reply(c *conn) {
	var d net.Dialer
	next, err := d.DialContext(c.world.ctx, "tcp", string(b))
	if err != nil {
		ParentStatus{Code: http.StatusBadGateway}.reply(c)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(next, c)
		next.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(c, next)
	c.Close()
	next.Close()
	<-done
}

func (ParentStatus) serve(c *conn)  { Site{}.serve(c) }
func (ParentCut) serve(c *conn)     { Site{}.serve(c) }
func (ParentSilence) serve(c *conn) { Site{}.serve(c) }
func (ParentForward) serve(c *conn) { Site{}.serve(c) }

// admits tells whether the credentials are those that the script demands.
func (w *World) admits(user, password string) bool {
	if w.credentials == nil {
		return true
	}
	want, _ := w.credentials.Password()
	return user == w.credentials.Username() && password == want
}

// basic reads the value of a Proxy-Authorization header; both are empty where
// it holds no Basic credentials.
func basic(value string) (user, password string) {
	scheme, text, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", ""
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", ""
	}
	user, password, _ = strings.Cut(string(b), ":")
	return user, password
}

// Parent is the URL of the corporate proxy, with the credentials that the
// script demands, if any.
func (w *World) Parent() *url.URL {
	return &url.URL{Scheme: "http", User: w.credentials, Host: w.parent.Addr().String()}
}
