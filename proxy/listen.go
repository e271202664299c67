package proxy

import (
	"bytes"
	"context"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// doorway wraps accepted connections into doors.
type doorway struct{ net.Listener }

func (d doorway) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &door{TCPConn: c.(*net.TCPConn)}, nil
}

// door is a client's connection as net/http sees it. net/http answers some
// requests itself, before any handler (a CONNECT to a host with a zone, a header
// too long); the door sees that answer go by and the request line that led to
// it, so that those are recorded too.
type door struct {
	*net.TCPConn
	p     *Proxy
	waits bool // counted in the lobby

	mu      sync.Mutex
	claimed bool // a handler has the request
	refused bool
	head    *head // the beginning of the request, until it is claimed
}

// head is the beginning of a request.
type head struct {
	n int
	b [1024]byte
}

var heads = sync.Pool{New: func() any { return new(head) }}

type doorKey struct{}

func (p *Proxy) newServer() *http.Server {
	return &http.Server{
		Handler:                      http.HandlerFunc(p.handle),
		ReadHeaderTimeout:            p.limits.HeaderTimeout,
		IdleTimeout:                  30 * time.Second,
		MaxHeaderBytes:               p.limits.Header,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(p.log, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			d := c.(*door)
			d.p = p
			return context.WithValue(ctx, doorKey{}, d)
		},
		ConnState: func(c net.Conn, s http.ConnState) {
			switch d := c.(*door); s {
			case http.StateNew:
				if d.waits = p.waiting.enter(d.party()); !d.waits {
					d.turnAway()
				}
			case http.StateIdle:
				d.rearm()
			case http.StateHijacked:
				d.leave()
			case http.StateClosed:
				d.leave()
				d.closed()
			}
		},
	}
}

// claim says that a handler has the request.
func (d *door) claim() {
	d.mu.Lock()
	d.claimed = true
	d.forget()
	d.mu.Unlock()
}

// rearm waits for the next request on the same connection.
func (d *door) rearm() {
	d.mu.Lock()
	d.claimed = false
	d.forget()
	d.mu.Unlock()
}

func (d *door) forget() {
	if d.head != nil {
		d.head.n = 0
		heads.Put(d.head)
		d.head = nil
	}
}

func (d *door) Read(b []byte) (int, error) {
	n, err := d.TCPConn.Read(b)
	d.mu.Lock()
	if !d.claimed && n > 0 {
		if d.head == nil {
			d.head = heads.Get().(*head)
		}
		d.head.n += copy(d.head.b[d.head.n:], b[:n])
	}
	d.mu.Unlock()
	return n, err
}

func (d *door) Write(b []byte) (int, error) {
	d.mu.Lock()
	first := !d.claimed && !d.refused
	d.refused = d.refused || first
	d.mu.Unlock()
	if first {
		d.refusal(b)
	}
	d.SetWriteDeadline(time.Now().Add(d.p.limits.IdleTimeout)) // a client that does not read is left
	return d.TCPConn.Write(b)
}

// refusal records what net/http answered by itself, b being the answer.
func (d *door) refusal(b []byte) {
	if !d.p.busy.enter() {
		return
	}
	defer d.p.busy.leave()
	code := 0
	if f := bytes.Fields(b[:min(len(b), 64)]); len(f) > 1 {
		code, _ = strconv.Atoi(string(f[1]))
	}
	o := d.observe()
	fail(&o, denied(policy.HTTPRequestError), detail{"status": code, "why": "no request that HTTP allows"})
	d.p.record(&o)
}

// leave counts d out, if it was counted in.
func (d *door) leave() {
	if d.waits {
		d.p.waiting.leave(d.party())
	}
}

// party is who waits by d.
func (d *door) party() netip.Addr {
	if c := addrOf(d.RemoteAddr()); d.p.admits(c) {
		return c.Addr().Unmap()
	}
	return netip.Addr{}
}

// turnAway ends a connection that has no request yet, where too many wait: without
// it, clients that say nothing would take all descriptors.
func (d *door) turnAway() {
	if d.p.busy.enter() {
		o := d.observe()
		fail(&o, denied(policy.ConnectionLimitReached), detail{"why": "too many connections without a request"})
		d.p.record(&o)
		d.p.busy.leave()
	}
	d.TCPConn.Close()
}

// closed records a request that ended before its header did.
func (d *door) closed() {
	d.mu.Lock()
	partial := !d.claimed && !d.refused && d.head != nil
	d.mu.Unlock()
	if !partial || !d.p.busy.enter() {
		return
	}
	defer d.p.busy.leave()
	o := d.observe()
	fail(&o, abandoned(policy.StagePolicy), detail{"why": "the request's header did not end"})
	d.p.record(&o)
}

// observe begins an observation from the request line, as far as there is one.
func (d *door) observe() policy.Observation {
	o := d.p.begin(policy.KindConnection, "connect", addrOf(d.RemoteAddr()))
	o.Origin, o.Protocol, o.SNIState = policy.OriginClient, "none", policy.SNINotTLS
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.head == nil {
		return o
	}
	line, _, _ := bytes.Cut(d.head.b[:d.head.n], []byte("\n"))
	f := strings.Fields(string(line))
	if len(f) < 2 {
		return o
	}
	if f[0] != http.MethodConnect {
		o.Kind, o.Listener, o.Method = policy.KindRequest, "http", printable(f[0])
		return o
	}
	d.p.asked(&o, f[1])
	return o
}

// asked reads a CONNECT target into o: what is no host and port stays as text.
func (p *Proxy) asked(o *policy.Observation, target string) (n policy.Name, listed bool, err error) {
	n, o.Port, err = policy.ParseTarget(target)
	if err != nil {
		o.Asked = printable(presentable(target))
		return n, false, err
	}
	o.Asked = n.String()
	return n, p.meant(o, n), nil
}

// presentable is what of a target that is no host and port may be told: neither
// credentials nor path and query. Where an @ follows a slash, it ends a password or
// stands in a query, and nothing tells which: then it is nothing at all.
func presentable(target string) string {
	if scheme, rest, ok := strings.Cut(target, "://"); ok && !strings.ContainsAny(scheme, "/?#") {
		target = rest
	}
	end := strings.IndexAny(target+"/", "/?#")
	if strings.Contains(target[end:], "@") {
		return ""
	}
	return target[strings.LastIndexByte(target[:end], '@')+1 : end]
}

func addrOf(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort()
	}
	return netip.AddrPort{}
}
