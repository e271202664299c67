package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// handle is the first of ours to see a request that net/http let through.
func (p *Proxy) handle(w http.ResponseWriter, r *http.Request) {
	d := r.Context().Value(doorKey{}).(*door)
	if !p.busy.enter() {
		return
	}
	defer p.busy.leave()
	d.claim()
	p.front.ServeHTTP(&responseWriter{w, d}, r)
}

// request is one absolute-form request on its way through.
type request struct {
	p     *Proxy
	door  *door
	o     policy.Observation
	route route
	sent  time.Time
	up    *upload
	wire  *wire
	leave func()
	watch *time.Timer // for a destination's silence
	late  *time.Timer // ends the waiting for a destination after the client's end
	done  func()      // ends the waiting

	firstByte atomic.Int64 // milliseconds; net/http's goroutine says it
	left      atomic.Int64 // nanoseconds from the beginning to the client's end

	mu     sync.Mutex
	heard  bool // nothing is owed any more
	closed bool // the closing record is made
}

type routeKey struct{}

// maxAnswerHeader is more than clients take (curl 300 KiB, browsers 256), so that
// what is too long is so for them, too.
const maxAnswerHeader = 384 << 10

// newTransport makes what carries absolute-form requests. Each request has a
// connection of its own, opened before: an attempt is never hidden behind a
// retry, and what the destination answered is what the client gets.
func (p *Proxy) newTransport() *http.Transport {
	return &http.Transport{
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswerHeader,
		Proxy: func(r *http.Request) (*url.URL, error) {
			return r.Context().Value(routeKey{}).(*request).route.parent, nil
		},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return ctx.Value(routeKey{}).(*request).wire, nil
		},
	}
}

// roundTrip owns one absolute-form request from here to its record, which is
// made when the answer's body has ended. It always returns a response: the
// destination's, or ours about why there is none.
func (p *Proxy) roundTrip(r *http.Request) *http.Response {
	d := r.Context().Value(doorKey{}).(*door)
	x := &request{p: p, door: d, o: p.begin(policy.KindRequest, "http", addrOf(d.RemoteAddr())), leave: func() {}}
	x.o.Protocol, x.o.SNIState, x.o.Method = "http", policy.SNINotTLS, printable(r.Method)
	name, listed, err := p.askedURL(&x.o, r.URL)
	if err == nil && name.Within(canaryDomain) {
		x.o.Origin = policy.OriginCanary
	}
	if v, why := p.refusal(&x.o, name, listed, p.looped(r.Header["Via"]), err); v.Outcome != "" {
		fail(&x.o, v, why)
		return x.refuse(r)
	}
	from := x.o.Client.Addr()
	if !p.carried.enter(from) {
		fail(&x.o, denied(policy.ConnectionLimitReached), nil)
		return x.refuse(r)
	}
	x.leave = func() { p.carried.leave(from) }
	stop := x.watchClient(r.Context())
	x.route = p.open(&x.o, aim{name: name, port: x.o.Port, listed: listed, plain: true})
	stop()
	if x.route.conn == nil {
		return x.refuse(r)
	}
	return x.forward(r)
}

// askedURL reads the target of an absolute-form request into o; listed says
// whether a catalog has it.
func (p *Proxy) askedURL(o *policy.Observation, u *url.URL) (n policy.Name, listed bool, err error) {
	port := u.Port()
	if port == "" {
		port = "80"
	}
	o.Asked, o.Host = printable(u.Hostname()), printable(u.Host)
	if u.Scheme != "http" {
		return n, false, fmt.Errorf("%q is not forwarded in absolute form, only http is: use CONNECT", u.Scheme)
	}
	if u.User != nil {
		return n, false, errors.New("user information does not belong into a request's target")
	}
	host := u.Hostname()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	n, number, err := policy.ParseTarget(host + ":" + port)
	if err != nil {
		return n, false, err
	}
	o.Asked, o.Port = n.String(), number
	return n, p.meant(o, n), nil
}

// watchClient notes when the client leaves while the way is still being opened.
func (x *request) watchClient(ctx context.Context) (stop func()) {
	var mu sync.Mutex
	var after time.Duration
	undo := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		after = time.Since(x.o.Begun)
	})
	return func() {
		undo()
		mu.Lock()
		defer mu.Unlock()
		if after > 0 {
			note(&x.o, detail{"client_left_ms": after.Milliseconds()})
		}
	}
}

// outgoing is r as it goes on, on a wire of its own.
func (x *request) outgoing(r *http.Request) *http.Request {
	trace := &httptrace.ClientTrace{GotFirstResponseByte: func() {
		if !x.sent.IsZero() {
			x.firstByte.Store(time.Since(x.sent).Milliseconds())
		}
	}}
	ctx := httptrace.WithClientTrace(context.WithValue(x.patience(r.Context()), routeKey{}, x), trace)
	out := r.Clone(ctx)
	out.Close = false
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", "") // else net/http would add its own
	}
	if x.route.parent != nil {
		out.Header.Add("Via", x.p.via())
	}
	x.up = &upload{ReadCloser: out.Body, client: x.door.TCPConn, patience: x.p.limits.IdleTimeout}
	if out.Body != nil && out.Body != http.NoBody {
		out.Body = x.up
	}
	x.wire = &wire{Conn: x.route.conn, patience: x.p.limits.IdleTimeout}
	return out
}

// forward sends the request on its connection and hands back the answer, with
// its body watched.
func (x *request) forward(r *http.Request) *http.Response {
	out := x.outgoing(r)
	x.sent = time.Now()
	owed := x.o
	owed.Detail = nil
	x.mu.Lock()
	x.watch = time.AfterFunc(x.p.limits.AnswerTimeout, func() { x.watchSilence(owed) })
	x.mu.Unlock()
	resp, err := x.p.transport.RoundTrip(out)
	x.hear()
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
		err = errors.New("an upgrade that nobody asked for")
	}
	if err != nil {
		x.route.conn.Close()
		x.unanswered(err, r.Context().Err() != nil)
		return x.refuse(r)
	}
	x.o.Status = resp.StatusCode
	x.answered(resp)
	if x.o.Error == policy.ParentAuthRequired { // the client has nothing to authenticate to
		resp.Body.Close()
		return x.refuse(r)
	}
	resp.Body = &watched{ReadCloser: resp.Body, x: x, wanted: resp.ContentLength}
	return resp
}

// patience is how long the destination is waited for. net/http ends a request's
// context when the client ends its side, but it may only have half-closed: so
// each next octet has some more time then.
func (x *request) patience(client context.Context) context.Context {
	ctx, cancel := context.WithCancel(context.WithoutCancel(client))
	x.late = time.AfterFunc(time.Hour, cancel)
	x.late.Stop()
	left := context.AfterFunc(client, func() {
		x.left.Store(int64(time.Since(x.o.Begun)))
		x.late.Reset(x.p.limits.AnswerTimeout)
	})
	cut := context.AfterFunc(x.p.life, cancel)
	x.done = func() {
		left()
		cut()
		x.late.Stop()
		cancel()
	}
	return ctx
}

// abort ends the client's connection by a reset: an answer that broke off must
// not look like a whole one.
func (x *request) abort() {
	x.door.SetLinger(0)
	x.door.TCPConn.Close()
}

// confidence is likely at most behind a parent, for it may have been that.
func (x *request) confidence() policy.Confidence {
	if x.route.parent != nil {
		return policy.Likely
	}
	return policy.Certain
}

// unanswered judges a request without an answer that HTTP allows.
func (x *request) unanswered(err error, clientLeft bool) {
	end := time.Now()
	begun, cutAt, cut := x.wire.state()
	if left := time.Duration(x.left.Load()); left > 0 {
		end = x.o.Begun.Add(left)
	}
	silent := x.silence(end)
	if cut != nil {
		err = cut // net/http says EOF where it was a reset
	}
	how, soon := ending(err), silent < x.p.limits.AnswerTimeout
	if cut != nil && (how == closeFIN || how == closeRST) && cutAt.Before(end) {
		clientLeft = false // only behind the destination
	}
	switch {
	case begun && x.route.parent != nil && how != "error" && !clientLeft:
		// nobody passes half a status line on
		fail(&x.o, failed(policy.StageParent, policy.ConnectionTerminated, policy.ByParent, policy.Certain), detail{"close": how})
	case clientLeft && soon:
		x.o.Verdict = abandoned(policy.StageHello)
	case clientLeft, errors.Is(err, os.ErrDeadlineExceeded), !soon && (how == closeFIN || how == closeRST): // whoever had enough of it
		fail(&x.o, failed(policy.StageHello, policy.ConnectionReadTimeout, policy.ByNetwork, x.confidence()), detail{"silent_ms": silent.Milliseconds()})
	case how == closeFIN || how == closeRST:
		fail(&x.o, failed(policy.StageHello, policy.ConnectionTerminated, policy.ByNetwork, x.confidence()), detail{"close": how})
	default:
		fail(&x.o, failed(policy.StageHello, policy.HTTPProtocolError, policy.ByNetwork, x.confidence()), nil)
	}
	if x.route.suspect {
		x.p.blameResolver(&x.o)
	}
}

// answered judges an answer by its header.
func (x *request) answered(resp *http.Response) {
	if x.route.parent != nil {
		if v, d := x.p.parentPage(resp); v.Outcome != "" {
			fail(&x.o, v, d)
			return
		}
	}
	if c, d := x.p.blockPage(pageOf(resp), x.o.Name); c != "" {
		fail(&x.o, failed(policy.StageData, policy.HTTPBlockPage, policy.ByNetwork, c), d)
		if x.route.suspect {
			x.p.blameResolver(&x.o)
		}
		return
	}
	x.o.Verdict = okVerdict
}

// refuse makes our own response about why there is none.
func (x *request) refuse(r *http.Request) *http.Response {
	code := status(x.o.Verdict)
	x.o.Status = code
	x.finish()
	body := fmt.Sprintf("egressaudit: %s: %s at stage %s, by %s%s\n", x.o.Host, x.o.Error, x.o.Stage, x.o.By, evidence(x.o.Detail))
	return &http.Response{
		StatusCode: code, ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{
			"Proxy-Status": {proxyStatus(&x.o)}, "Content-Type": {"text/plain"},
			"Content-Length": {strconv.Itoa(len(body))}, "Connection": {"close"},
		},
		ContentLength: int64(len(body)),
		Body:          io.NopCloser(strings.NewReader(body)),
	}
}

// finish makes the request's one record.
func (x *request) finish() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return
	}
	x.closed = true
	if x.done != nil {
		x.done()
	}
	if x.up != nil {
		x.o.BytesUp = x.up.n.Load()
	}
	x.o.FirstByteMS = x.firstByte.Load()
	x.p.record(&x.o)
	x.leave()
}

// serveOrigin answers what is neither CONNECT nor absolute-form: somebody takes
// the proxy for a web server.
func (p *Proxy) serveOrigin(w http.ResponseWriter, r *http.Request) {
	d := r.Context().Value(doorKey{}).(*door)
	o := p.begin(policy.KindRequest, "http", addrOf(d.RemoteAddr()))
	o.Protocol, o.SNIState, o.Method, o.Host = "http", policy.SNINotTLS, printable(r.Method), printable(r.Host)
	o.Status = http.StatusBadRequest
	fail(&o, denied(policy.HTTPRequestError), detail{"why": "neither CONNECT nor an absolute-form target"})
	p.record(&o)
	w.Header().Set("Proxy-Status", proxyStatus(&o))
	http.Error(w, "egressaudit is a forward proxy: set HTTPS_PROXY and HTTP_PROXY to this address, do not browse to it", http.StatusBadRequest)
}
