package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy/capture"
)

// attemptDelay is when the next address is tried beside one that has not
// answered (RFC 8305 section 5).
const attemptDelay = 250 * time.Millisecond

// attempt is what became of one address.
type attempt struct {
	to   netip.AddrPort
	conn *net.TCPConn
	err  error
}

// dialing is how addresses are dialled.
type dialing struct {
	guarded bool
	from    netip.Addr // the client's, which stays the source; none: our own
}

// race connects to the first of the addresses that answers: families by turns,
// each attempt a little after the one before, all within the context's time.
// conn is nil where none answered; lost are the attempts that failed.
func (p *Proxy) race(ctx context.Context, to []netip.AddrPort, how dialing) (won attempt, lost []attempt) {
	if len(to) == 1 {
		a := p.dial(ctx, to[0], how)
		if a.err != nil {
			return attempt{}, []attempt{a}
		}
		return a, nil
	}
	to = interleave(to)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan attempt, len(to))
	next := time.NewTimer(0)
	defer next.Stop()
	for running := 0; running+len(to) > 0; {
		select {
		case <-next.C:
			if len(to) > 0 {
				first := to[0]
				to = to[1:]
				running++
				go func() { results <- p.dial(ctx, first, how) }()
				next.Reset(attemptDelay)
			}
		case a := <-results:
			running--
			if a.err == nil {
				go closeAll(results, running)
				return a, lost
			}
			lost = append(lost, a)
			next.Reset(0)
		}
	}
	return attempt{}, lost
}

// closeAll ends the attempts that came too late.
func closeAll(results <-chan attempt, n int) {
	for range n {
		if a := <-results; a.conn != nil {
			a.conn.Close()
		}
	}
}

// interleave orders addresses by turns of the families, beginning with the
// first one's.
func interleave(to []netip.AddrPort) []netip.AddrPort {
	var same, other []netip.AddrPort
	for _, a := range to {
		if a.Addr().Is4() == to[0].Addr().Is4() {
			same = append(same, a)
		} else {
			other = append(other, a)
		}
	}
	out := make([]netip.AddrPort, 0, len(to))
	for i := range max(len(same), len(other)) {
		if i < len(same) {
			out = append(out, same[i])
		}
		if i < len(other) {
			out = append(out, other[i])
		}
	}
	return out
}

// dial connects to one address. Keep-alives are off: what a firewall does to an
// idle connection is for the trial to see.
func (p *Proxy) dial(ctx context.Context, to netip.AddrPort, how dialing) attempt {
	d := net.Dialer{KeepAlive: -1, Control: func(network, address string, c syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		switch {
		case err != nil || how.guarded && p.guard.judge(a) > private:
			return errGuard
		case how.from.IsValid():
			return capture.KeepClientAddress(how.from)(network, address, c)
		}
		return nil
	}}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return attempt{to: to, err: err}
	}
	return attempt{to: to, conn: c.(*net.TCPConn)}
}

// dialVerdict is the verdict over failed attempts: the weightiest one's, so that
// a family without a route never hides what the other met.
func dialVerdict(stage policy.Stage, lost []attempt) (v policy.Verdict, of attempt, d detail) {
	best := -1
	for _, a := range lost {
		if one, weight := connectVerdict(stage, a.err); weight > best {
			best, v, of = weight, one, a
		}
	}
	d = detail{}
	if e := errnoName(of.err); e != "" {
		d["errno"] = e
	}
	if len(lost) > 1 {
		d["attempts"] = attempts(lost)
	}
	return v, of, d
}

// attempts tells each failed attempt, as "192.0.2.1:443 connection_refused".
func attempts(lost []attempt) []string {
	out := make([]string, len(lost))
	for i, a := range lost {
		v, _ := connectVerdict(policy.StageConnect, a.err)
		out[i] = a.to.String() + " " + string(v.Error)
	}
	return out
}

var errGuard = errors.New("address is guarded")
