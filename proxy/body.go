package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// watched is an answer's body: it counts, sees an end that comes too early, and
// has the record made when it is closed.
type watched struct {
	io.ReadCloser
	x      *request
	wanted int64 // Content-Length, -1 where it is not known
	last   time.Time
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.ReadCloser.Read(b)
	w.x.o.BytesDown += int64(n)
	if n > 0 {
		w.last = time.Now()
		if w.x.left.Load() > 0 {
			w.x.late.Reset(w.x.p.limits.AnswerTimeout)
		}
	}
	if err != nil && err != io.EOF {
		w.brokeOff(err)
		w.x.abort()
	}
	return n, err
}

// brokeOff judges an answer that ended short of its framing.
func (w *watched) brokeOff(err error) {
	how := ending(err)
	switch {
	case w.x.o.Outcome != policy.OK || how == "" || errors.Is(err, context.Canceled) || errors.Is(err, os.ErrDeadlineExceeded):
		return // it failed already, the client went away, or we had enough
	case how == "error" && errnoOf(err) == 0: // chunks that are none
		fail(&w.x.o, failed(policy.StageData, policy.HTTPProtocolError, policy.ByNetwork, w.x.confidence()), nil)
		return
	}
	d := detail{"close": how, "wanted": w.wanted}
	if !w.last.IsZero() {
		d["idle_ms"] = time.Since(w.last).Milliseconds()
	}
	fail(&w.x.o, failed(policy.StageData, policy.ConnectionTerminated, policy.ByNetwork, w.x.confidence()), d)
}

func (w *watched) Close() error {
	err := w.ReadCloser.Close()
	w.x.finish()
	return err
}

// parentPage judges an answer that a parent gave instead of the origin: one that
// the parent owns up to, or one without the Via that whoever forwards an answer
// must add (RFC 9110 section 7.6.3), or a gateway's status. Parents that sign
// nothing are known by the answers they forward; of those a 4xx passes for the
// origin's.
func (p *Proxy) parentPage(resp *http.Response) (policy.Verdict, detail) {
	h, code := resp.Header, resp.StatusCode
	via := h.Get("Via") != ""
	if code < 400 {
		if resp.Request != nil {
			p.signature.learn(h.Get("Via"), resp.Request.URL.Host)
		}
		return policy.Verdict{}, nil
	}
	own := code == http.StatusProxyAuthRequired || h.Get("X-Squid-Error") != "" ||
		strings.Contains(h.Get("Proxy-Status"), "error=") || !via && proxyServer(h)
	gateway := code == http.StatusBadGateway || code == http.StatusGatewayTimeout
	unsigned := !via && code != http.StatusNetworkAuthenticationRequired && (code >= 500 || p.signature.known()) || gateway
	if !own && !unsigned {
		return policy.Verdict{}, nil
	}
	v, d := parentVerdict(resp)
	if !own {
		v.Confidence = policy.Likely
	}
	if !via {
		d["via"] = "none"
	}
	return v, d
}

// signature is how a parent signs the answers that it forwards: the last Via that
// answers of two different hosts bore. One host's own CDN signs that one alone.
type signature struct {
	mu    sync.Mutex
	hosts map[string]string // who signed, and for which host first
	sure  bool
}

// signers bounds how many are remembered.
const signers = 16

func (s *signature) learn(via, host string) {
	parts := strings.Split(via, ",")
	by := strings.TrimSpace(parts[len(parts)-1])
	s.mu.Lock()
	defer s.mu.Unlock()
	if by == "" || s.sure {
		return
	}
	if first, ok := s.hosts[by]; ok {
		s.sure = first != host
	} else if len(s.hosts) < signers {
		if s.hosts == nil {
			s.hosts = map[string]string{}
		}
		s.hosts[by] = host
	}
}

func (s *signature) known() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sure
}

// proxyServer says whether an answer's Server field names a forward proxy.
func proxyServer(h http.Header) bool {
	s := strings.ToLower(h.Get("Server"))
	return strings.Contains(s, "squid") || strings.Contains(s, "tinyproxy") || marked(s)
}

// page is what the header of an answer says about who wrote it.
type page struct {
	status                 int
	server, mark, location string
}

// pageOf reads an answer's header as hello.ReplyParser does.
func pageOf(resp *http.Response) page {
	g := page{status: resp.StatusCode, server: printable(resp.Header.Get("Server")), location: resp.Header.Get("Location")}
	for _, field := range []string{"X-Squid-Error", "X-Blocked-By", "X-Filter"} {
		if v := resp.Header.Get(field); g.mark == "" && (field == "X-Squid-Error" && v != "" || marked(strings.ToLower(v))) {
			g.mark = printable(field + ": " + v)
		}
	}
	return g
}

// blockPage says how sure it is that an answer is a device's and not the
// origin's: a redirect to another registrable domain that no catalog lists, or a
// refusal that bears a device's marks. "" takes it for the origin's.
func (p *Proxy) blockPage(g page, asked string) (policy.Confidence, detail) {
	d := detail{"status": g.status}
	if g.server != "" {
		d["server"] = g.server
	}
	switch code := g.status; {
	case code == http.StatusNetworkAuthenticationRequired:
		return policy.Likely, d
	case code == http.StatusForbidden || code == http.StatusUnavailableForLegalReasons:
		if g.mark != "" {
			d["mark"] = g.mark
		}
		if g.mark != "" || marked(strings.ToLower(g.server)) {
			return policy.Likely, d
		}
	case code >= 300 && code < 400:
		if to, ok := p.strangeRedirect(g.location, asked); ok {
			d["location"] = to
			return policy.Guess, d
		}
	}
	return "", nil
}

// strangeRedirect says whether an answer sends the client to a host of another
// registrable domain that no catalog lists.
func (p *Proxy) strangeRedirect(location, asked string) (string, bool) {
	u, err := url.Parse(location)
	if err != nil || u.Host == "" {
		return "", false
	}
	to, err := policy.ParseName(u.Hostname())
	from, err2 := policy.ParseName(asked)
	if err != nil || err2 != nil || from.Registrable() == "" || to.Registrable() == from.Registrable() || p.lists(to) {
		return "", false
	}
	return to.String(), true
}

// lists says whether a catalog has the host, for the web's ports.
func (p *Proxy) lists(n policy.Name) bool {
	x := p.index.Load()
	return len(x.Match(nil, n, 443))+len(x.Match(nil, n, 80)) > 0
}

// marks are the names by which filtering devices give themselves away. Via and
// X-Cache are not looked at: origins have caches of their own.
var marks = []string{"squid", "fortigate", "fortigat", "zscaler", "bluecoat", "mcafee", "web gateway", "ironport", "netskope",
	"paloalto", "sophos", "checkpoint", "websense", "forcepoint", "webfilter", "firewall", "barracuda", "umbrella"}

func marked(lower string) bool {
	return slices.ContainsFunc(marks, func(m string) bool { return strings.Contains(lower, m) })
}
