package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy/hello"
)

// nameTime is how long the first bytes of a client are waited for, only to name a
// destination that could not be reached, or one that a name leads around the parent.
const nameTime = time.Second

// Origin says where a captured connection was going. An error says that nobody
// redirected it: its client came to the listener itself.
type Origin func(*net.TCPConn) (netip.AddrPort, error)

// ServeCaptured accepts on l, which it closes at the end, connections of clients
// that know of no proxy, until Shutdown; then it returns nil. Each goes on to the
// address that origin tells, and to no other: the name in its first bytes only
// tells who was meant. listener is its name in observations, redirect or tproxy.
// Of connections that fail, the client sees a reset.
//
// In enforce mode nothing goes out before the first bytes are judged, unless the
// address itself is listed. What is not listed is refused in its own protocol:
// TLS by a fatal alert, HTTP by 403, anything else by a reset.
func (p *Proxy) ServeCaptured(l net.Listener, listener string, origin Origin) error {
	a, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		return fmt.Errorf("listen on %q: %w", l.Addr(), err)
	}
	p.guard.listen(a)
	if !p.keep(l) {
		return l.Close()
	}
	defer p.accepting.Done()
	for pause := time.Duration(0); ; {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			p.take(c.(*net.TCPConn), listener, origin)
		case errors.Is(err, net.ErrClosed):
			return nil
		default: // no descriptors left, say: it passes
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			p.log.Error().Err(err).Dur("pause", pause).Msg("accept")
			time.Sleep(pause)
		}
	}
}

// keep remembers l for Shutdown; false when that was already.
func (p *Proxy) keep(l net.Listener) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closing {
		p.captures = append(p.captures, l)
		p.accepting.Add(1)
	}
	return !p.closing
}

// letGo closes the listeners of ServeCaptured.
func (p *Proxy) letGo() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = true
	for _, l := range p.captures {
		l.Close()
	}
}

// take owns one captured connection from here to its record.
func (p *Proxy) take(c *net.TCPConn, listener string, origin Origin) {
	if !p.busy.enter() {
		c.Close()
		return
	}
	t := &tunnel{p: p, client: c, o: p.begin(policy.KindConnection, listener, addrOf(c.RemoteAddr()))}
	go func() {
		if pending, ok := t.reach(origin); ok {
			t.carry(pending)
			return
		}
		t.end()
		if t.told {
			lastWord(c)
		} else {
			c.SetLinger(0)
		}
		c.Close()
		p.busy.leave()
	}()
}

// reach judges a captured connection and opens its way; where there is none, o has
// the verdict, and the client has been told. pending is what was read meanwhile.
func (t *tunnel) reach(origin Origin) (pending []byte, ok bool) {
	p, o := t.p, &t.o
	at, err := origin(t.client)
	if err == nil {
		t.name, err = policy.ParseName(at.Addr().Unmap().String())
	}
	if err != nil {
		t.stray(err)
		return nil, false
	}
	listed := t.destined(at)
	if !t.welcome() {
		return nil, false
	}
	if p.enforce && !listed && !t.through {
		if pending, ok = t.named(); !ok {
			return nil, false
		}
	}
	to := aim{name: t.name, port: o.Port, listed: true, direct: t.through || p.capturedDirect} // clients could go to private ranges anyway
	if parent, _ := p.parentFor(to); parent != nil && p.parentByName {
		to.said, pending = t.said(pending)
	}
	if p.keepClient && o.Listener == "tproxy" {
		to.from = o.Client.Addr()
	}
	t.watch()
	t.route = p.open(o, to)
	t.opened()
	if t.route.conn == nil {
		t.unreached(pending)
		return nil, false
	}
	return pending, true
}

// destined writes where the connection was going; listed says whether a catalog has
// the address itself.
func (t *tunnel) destined(at netip.AddrPort) (listed bool) {
	o := &t.o
	o.Asked, o.Port, o.Address = t.name.String(), at.Port(), netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	listed = t.p.meant(o, t.name)
	if t.through = t.p.guard.lets(o.Address); t.through {
		o.WouldDeny = false
	}
	return listed
}

// welcome counts the client in, unless it may not come or is one too many.
func (t *tunnel) welcome() bool {
	o := &t.o
	switch {
	case !t.p.admits(o.Client):
		fail(o, denied(policy.HTTPRequestDenied), detail{"why": "this client may not use the proxy (--clients)"})
	case !t.p.carried.enter(o.Client.Addr()):
		fail(o, denied(policy.ConnectionLimitReached), nil)
	default:
		t.entered = true
	}
	return t.entered
}

// stray is a connection that nobody redirected: the canary, or somebody who takes
// the listener for a destination.
func (t *tunnel) stray(err error) {
	o := &t.o
	at := addrOf(t.client.LocalAddr())
	o.Address = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	o.Port = o.Address.Port()
	t.name, _ = policy.ParseName(o.Address.Addr().Unmap().String()) // an address is a name
	o.Asked = t.name.String()
	t.p.meant(o, t.name)
	fail(o, denied(policy.DestinationProhibited), detail{"why": err.Error()})
	if !t.heard() {
		return
	}
	t.learn(nil)
	if n, bad := policy.ParseName(o.Name); bad == nil && n.Within(canaryDomain) {
		o.Origin = policy.OriginCanary
		fail(o, denied(policy.HTTPRequestDenied), detail{"why": "canary"})
	}
}

// heard says whether a stray's first bytes are waited for: those of this host, which
// may be the canary, and of clients, within the limits.
func (t *tunnel) heard() bool {
	o := &t.o
	from := o.Client.Addr()
	if !from.IsLoopback() && from != o.Address.Addr() && !t.p.admits(o.Client) {
		return false
	}
	if !t.p.carried.enter(from) {
		fail(o, denied(policy.ConnectionLimitReached), nil)
		return false
	}
	t.entered = true
	return true
}

// unreached names a destination to which there is no way, and judges again what
// that says of its name.
func (t *tunnel) unreached(pending []byte) {
	t.learn(pending)
	if t.route.suspect && t.o.Outcome == policy.Failed {
		t.p.blameResolver(&t.o)
	}
}

// captured says that the client knows of no proxy.
func (t *tunnel) captured() bool { return t.o.Listener == "redirect" || t.o.Listener == "tproxy" }

// sunk says whether a captured connection goes to a private address that DNS gave
// for a listed public name without a private link: to a sinkhole, if nothing
// answers there.
func (t *tunnel) sunk(o *policy.Observation) bool {
	addr, bare := t.name.Addr()
	return bare && t.captured() && len(o.Matches) > 0 && t.p.guard.judge(o.Address) == private &&
		t.p.memory.Unlinked(o.Name, addr, time.Now())
}

// learn takes the name from the client's first bytes, where no way is open for
// them.
func (t *tunnel) learn(pending []byte) {
	h, b, _ := t.message(pending, nameTime)
	t.know(h, b)
}

// know takes a first message that was read before there was a way.
func (t *tunnel) know(h hello.Hello, b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(b) > 0 {
		t.first = time.Now()
	}
	t.parsed, t.hello, t.astray = true, h, t.strays(h)
	t.describe(&t.o)
}

// strays says whether a captured connection names somebody whom DNS lately gave
// other addresses than the one it goes to.
func (t *tunnel) strays(h hello.Hello) bool {
	addr, bare := t.name.Addr()
	n, err := policy.ParseName(h.ServerName)
	return bare && err == nil && t.captured() && t.p.memory.Elsewhere(n.String(), addr, time.Now())
}

// named holds a client's first bytes until they are judged: whether a catalog has
// the name in them. What it refuses has been told to the client; who leaves before,
// or is held when all is cut, was not refused.
func (t *tunnel) named() (b []byte, ok bool) {
	h, b, left := t.message(nil, t.p.limits.FirstTimeout)
	name, err := nameIn(h)
	if err == nil && len(t.p.index.Load().Match(nil, name, t.o.Port)) > 0 {
		return b, true
	}
	t.know(h, b)
	switch {
	case left:
		fail(&t.o, abandoned(policy.StagePolicy), nil)
	case h.Reason == hello.TimedOut && t.p.life.Err() != nil:
		fail(&t.o, abandoned(policy.StagePolicy), detail{"why": "drain"})
		t.o.By = policy.BySelf
	default:
		fail(&t.o, denied(policy.HTTPRequestDenied), detail{"why": "in no catalog, and the mode is enforce"})
		t.turnAway(h)
	}
	return nil, false
}

// nameIn is the name in a client's first message.
func nameIn(h hello.Hello) (policy.Name, error) {
	if h.Protocol == hello.HTTP {
		return hostName(h.Host)
	}
	return policy.ParseName(h.ServerName) // there is one in a whole hello alone
}

// said reads the name in a client's first message, behind b, where the way goes by
// names: for a short time, for the destination may be who speaks first.
func (t *tunnel) said(b []byte) (name policy.Name, read []byte) {
	h, b, _ := t.message(b, nameTime)
	name, err := nameIn(h)
	if _, bare := name.Addr(); err != nil || bare {
		return policy.Name{}, b
	}
	return name, b
}

// turnAway refuses a client in its own protocol.
func (t *tunnel) turnAway(h hello.Hello) {
	t.client.SetWriteDeadline(time.Now().Add(lastWordTime))
	switch t.told = true; h.Protocol {
	case hello.TLS:
		t.client.Write(accessDenied)
	case hello.HTTP:
		t.refuse()
	default:
		t.told = false
	}
}
