package proxy

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// route is the way to a destination, as far as it got: its conn is nil where it
// failed, and then the observation has the verdict.
type route struct {
	conn    *net.TCPConn
	parent  *url.URL // nil: direct
	pending []byte   // what the destination sent together with the parent's answer
	read    int64    // octets read from conn so far: the parent's answer and pending
	suspect bool     // a private answer without a private link: a sinkhole, if nothing answers there
}

// aim is where a way shall lead.
type aim struct {
	name   policy.Name
	port   uint16
	listed bool        // a catalog has it
	plain  bool        // absolute-form HTTP: a parent is not asked for a tunnel
	via    []string    // the Via fields that came with the request
	direct bool        // around the parent
	said   policy.Name // what a captured client calls it; the zero Name: nobody knows
	from   netip.Addr  // the client's, where the destination is to see it
}

// open finds the way and goes it: parent or resolve, guard, connect. It writes
// what it finds into o, and does not end early when the client leaves: a cause
// that hides behind an impatient client is still wanted.
func (p *Proxy) open(o *policy.Observation, to aim) route {
	r := p.find(o, to)
	if r.conn == nil && p.life.Err() != nil && o.Outcome == policy.Failed {
		o.Verdict = abandoned(o.Stage) // it was us who had no time left
		o.By = policy.BySelf
		note(o, detail{"why": "drain"})
	}
	return r
}

func (p *Proxy) find(o *policy.Observation, to aim) route {
	parent, err := p.parentFor(to)
	if err != nil {
		return fail(o, failed(policy.StageParent, policy.ProxyInternalError, policy.BySelf, policy.Certain), detail{"parent": err.Error()})
	}
	if parent == nil && p.parent != nil {
		note(o, detail{"direct": true}) // NO_PROXY: the parent is not to blame
	}
	addr, literal := to.name.Addr()
	at := netip.AddrPortFrom(addr, to.port)
	switch {
	case literal && p.guard.judge(at) == blockPage:
		return fail(o, sinkholed(policy.Certain), detail{"addresses": []string{addr.String()}, "block_page": true})
	case parent != nil && localName(to.name), literal && !p.guard.dials(p.guard.judge(at), to.listed):
		return fail(o, denied(policy.DestinationProhibited), nil)
	case parent != nil:
		return p.openParent(o, parent, to)
	case literal:
		return p.dialAny(o, policy.StageConnect, []netip.AddrPort{at}, dialing{guarded: true, from: to.from})
	}
	return p.openDirect(o, to.name, to.port, to.listed)
}

// openDirect resolves name once, and dials only addresses that the guard has
// seen.
func (p *Proxy) openDirect(o *policy.Observation, name policy.Name, port uint16, listed bool) route {
	res := p.lookUp(o, name)
	if len(res.Addrs) == 0 {
		v, d := resolveVerdict(res)
		return fail(o, v, d)
	}
	var to []netip.AddrPort
	worst, allPrivate := public, true
	for _, a := range res.Addrs {
		ap := netip.AddrPortFrom(a, port)
		r := p.guard.judge(ap)
		if p.guard.dials(r, listed) {
			to = append(to, ap)
			allPrivate = allPrivate && r == private
		}
		worst = max(worst, r)
	}
	if len(to) == 0 {
		d := detail{"addresses": texts(res.Addrs), "resolver": res.Upstream}
		switch {
		case worst == blockPage:
			d["block_page"] = true
			fallthrough
		case listed && worst == local:
			return fail(o, sinkholed(policy.Certain), d)
		}
		return fail(o, denied(policy.DestinationProhibited), d)
	}
	linked := policy.PrivateLink(res.CNAMEs)
	r := p.dialAny(o, policy.StageConnect, to, dialing{guarded: true})
	r.suspect = allPrivate && listed && !linked
	if allPrivate && linked {
		note(o, detail{"private_link": true})
	}
	if r.suspect && r.conn == nil {
		p.blameResolver(o)
	}
	return r
}

// blameResolver turns the failure at a private address, which a listed public
// name resolved to, into what it most likely is.
func (p *Proxy) blameResolver(o *policy.Observation) {
	note(o, detail{"then": string(o.Error), "addresses": []string{o.Address.Addr().String()}})
	o.Verdict = sinkholed(policy.Likely)
}

func sinkholed(c policy.Confidence) policy.Verdict {
	return failed(policy.StageResolve, policy.DNSSinkhole, policy.ByResolver, c)
}

func (p *Proxy) lookUp(o *policy.Observation, name policy.Name) policy.Resolution {
	begun := time.Now()
	res := p.resolve(p.life, name)
	o.ResolveMS += time.Since(begun).Milliseconds()
	return res
}

// openParent connects to the parent and, for a tunnel, asks it for one.
func (p *Proxy) openParent(o *policy.Observation, parent *url.URL, aim aim) route {
	to, res, err := p.parentAddrs(o, parent)
	switch {
	case err != nil:
		return fail(o, failed(policy.StageParent, policy.ProxyInternalError, policy.BySelf, policy.Certain), detail{"parent": err.Error()})
	case len(to) == 0:
		v, d := resolveVerdict(res)
		v.Stage = policy.StageParent
		return fail(o, v, d)
	}
	r := p.dialAny(o, policy.StageParent, to, dialing{})
	r.parent = parent
	if r.conn == nil || aim.plain {
		return r
	}
	begun := time.Now()
	v, d := p.tunnelThrough(&r, policy.JoinPort(aim.name.String(), aim.port), aim.via)
	o.ConnectMS += time.Since(begun).Milliseconds()
	if v.Outcome != "" {
		r.conn.Close()
		return fail(o, v, d)
	}
	return r
}

func (p *Proxy) parentAddrs(o *policy.Observation, parent *url.URL) ([]netip.AddrPort, policy.Resolution, error) {
	host, err := policy.ParseName(parent.Hostname())
	if err != nil {
		return nil, policy.Resolution{}, err
	}
	port := parentPort(parent)
	if a, ok := host.Addr(); ok {
		return []netip.AddrPort{netip.AddrPortFrom(a, port)}, policy.Resolution{}, nil
	}
	res := p.lookUp(o, host)
	to := make([]netip.AddrPort, len(res.Addrs))
	for i, a := range res.Addrs {
		to[i] = netip.AddrPortFrom(a, port)
	}
	return to, res, nil
}

// dialAny dials, within the connect timeout in all.
func (p *Proxy) dialAny(o *policy.Observation, stage policy.Stage, to []netip.AddrPort, how dialing) route {
	ctx, cancel := context.WithTimeout(p.life, p.limits.ConnectTimeout)
	defer cancel()
	begun := time.Now()
	won, lost := p.race(ctx, to, how)
	o.ConnectMS += time.Since(begun).Milliseconds()
	if won.conn == nil {
		v, of, d := dialVerdict(stage, lost)
		o.Address = of.to
		return fail(o, v, d)
	}
	o.Address = won.to
	if len(lost) > 0 {
		note(o, detail{"attempts": attempts(lost)})
	}
	return route{conn: won.conn}
}

// parentFor asks which parent leads to the destination, nil for none. Either its
// address or its name leads around it.
func (p *Proxy) parentFor(to aim) (*url.URL, error) {
	if p.parent == nil || to.direct {
		return nil, nil
	}
	u := url.URL{Scheme: "https", Host: policy.JoinPort(to.name.String(), to.port)}
	if to.plain {
		u.Scheme = "http"
	}
	parent, err := p.parent(&u)
	if parent == nil || to.said.IsZero() {
		return parent, err
	}
	u.Host = policy.JoinPort(to.said.String(), to.port)
	return p.parent(&u)
}

// fail writes a verdict and its evidence into o.
func fail(o *policy.Observation, v policy.Verdict, d detail) route {
	o.Verdict = v
	note(o, d)
	return route{}
}

// note adds evidence to o.
func note(o *policy.Observation, d detail) {
	if len(d) == 0 {
		return
	}
	if o.Detail == nil {
		o.Detail = make(map[string]any, len(d))
	}
	maps.Copy(o.Detail, d)
}

func texts(addrs []netip.Addr) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}
