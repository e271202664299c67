package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// connect owns a CONNECT from the moment its connection was taken over: dial
// first, answer with the true status, then carry the bytes. pending is what the
// client sent right behind the request. The tunnel, once it is open, goes on in
// a goroutine of its own, whose stack is as small as its work.
func (p *Proxy) connect(client *net.TCPConn, pending []byte, target string, via []string) {
	t := &tunnel{p: p, client: client, o: p.begin(policy.KindConnection, "connect", addrOf(client.RemoteAddr()))}
	switch {
	case !t.open(target, via):
		t.refuse()
	case t.accept():
		go t.carry(pending)
		return
	}
	t.end()
	lastWord(client)
	client.Close()
	p.busy.leave()
}

// open judges the request and opens the way; where there is none, o has the
// verdict.
func (t *tunnel) open(target string, via []string) bool {
	p, o := t.p, &t.o
	name, listed, err := p.asked(o, target)
	t.name = name
	if err == nil && name.Within(canaryDomain) {
		o.Origin = policy.OriginCanary
	}
	if v, why := p.refusal(o, name, listed, p.looped(via), err); v.Outcome != "" {
		fail(o, v, why)
		return false
	}
	if t.entered = p.carried.enter(o.Client.Addr()); !t.entered {
		fail(o, denied(policy.ConnectionLimitReached), nil)
		return false
	}
	t.watch()
	t.route = p.open(o, aim{name: name, port: o.Port, listed: listed, via: via})
	t.opened()
	return t.route.conn != nil
}

// canaryDomain is where the names of canaries are. RFC 6761 section 6.4: nobody
// has a name under invalid.
const canaryDomain = "canary.egressaudit.invalid"

// refusal is our own decision about a request, before anything is looked up;
// the zero Verdict lets it through.
func (p *Proxy) refusal(o *policy.Observation, name policy.Name, listed, looped bool, err error) (policy.Verdict, detail) {
	switch {
	case !p.admits(o.Client):
		return denied(policy.HTTPRequestDenied), detail{"why": "this client may not use the proxy (--clients)"}
	case err != nil:
		return denied(policy.HTTPRequestError), detail{"why": cause(err)}
	case looped:
		return failed(policy.StageParent, policy.ProxyLoopDetected, policy.BySelf, policy.Certain), nil
	case o.Origin == policy.OriginCanary:
		return denied(policy.HTTPRequestDenied), detail{"why": "canary"}
	case p.enforce && !listed:
		return denied(policy.HTTPRequestDenied), detail{"why": "in no catalog, and the mode is enforce"}
	}
	return policy.Verdict{}, nil
}

// cause is what an error says behind the words it wraps.
func cause(err error) string {
	if errors.Is(err, policy.ErrName) {
		if i := strings.LastIndex(err.Error(), `": `); i >= 0 {
			return printable(err.Error()[i+3:])
		}
	}
	return printable(err.Error())
}

// looped says whether a request with these Via fields came from ourselves.
func (p *Proxy) looped(via []string) bool {
	for _, v := range via {
		if strings.Contains(v, p.via()) {
			return true
		}
	}
	return false
}

// refuse answers a CONNECT that gets no tunnel. Go's clients show nothing but
// the reason phrase, so it says all.
func (t *tunnel) refuse() {
	o := &t.o
	at := o.Asked
	if o.Port != 0 {
		at = policy.JoinPort(o.Asked, o.Port)
	}
	body := fmt.Sprintf("egressaudit: %s: %s at stage %s, by %s%s\n", at, o.Error, o.Stage, o.By, evidence(o.Detail))
	t.client.SetWriteDeadline(time.Now().Add(t.p.limits.HeaderTimeout))
	fmt.Fprintf(t.client, "HTTP/1.1 %d egressaudit: %s %s\r\nProxy-Status: %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status(o.Verdict), o.Error, at, proxyStatus(o), len(body), body)
}

// lastWord ends our side of a connection and lets the client read what was said:
// closing with its bytes unread would reset the connection.
func lastWord(c *net.TCPConn) {
	c.CloseWrite()
	c.SetReadDeadline(time.Now().Add(lastWordTime))
	io.CopyN(io.Discard, c, lastWordBytes)
}

const (
	lastWordTime  = time.Second
	lastWordBytes = 64 << 10
)

// proxyStatus is the Proxy-Status field (RFC 9209) for a verdict.
func proxyStatus(o *policy.Observation) string {
	name := ""
	if o.Error != "" {
		name = "; error=" + string(o.Error)
	}
	return fmt.Sprintf("egressaudit%s; details=%q", name, fmt.Sprintf("stage=%s by=%s%s", o.Stage, o.By, evidence(o.Detail)))
}

// evidence puts the most telling fact in words.
func evidence(d map[string]any) string {
	for _, key := range []string{"rcode", "status", "errno", "why"} {
		if v, ok := d[key]; ok {
			return fmt.Sprintf(" (%s %v)", key, v)
		}
	}
	return ""
}

// established is what a client of CONNECT waits for.
const established = "HTTP/1.1 200 Connection established\r\n\r\n"
