package dnsaudit

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/egressaudit/egressaudit/policy"
)

const (
	// defaultTimeout is contract's --dns-timeout.
	defaultTimeout = 5 * time.Second
	// maxPatience is how long a server is waited for before another is asked too.
	maxPatience = time.Second
	// resolutionDelay is how long AAAA may take after A has come (RFC 8305 section 3).
	resolutionDelay = 50 * time.Millisecond
)

// Config says whom a Resolver asks. The zero Config is the system's.
type Config struct {
	// Servers are asked in this order; nil: those of ResolvConf. Of several with
	// one address and port the first counts.
	Servers []Upstream
	// Hosts is the hosts(5) file; "": /etc/hosts, or where Windows has it. A
	// file that does not exist is an empty one.
	Hosts string
	// ResolvConf is read once, by New, and only where Servers is nil; "":
	// /etc/resolv.conf. The first three of its name servers count, nothing else
	// in it does.
	ResolvConf string
	// Timeout is for a whole look-up, every server and retry included; 0: 5s.
	Timeout time.Duration
	// Roots are whom the certificates of "tls" servers must come from; nil: the
	// system's.
	Roots *x509.CertPool
}

// Resolver looks names up in the hosts file, and then asks name servers. It is
// safe for use by several goroutines at once. It caches nothing: each Resolve
// that the hosts file does not answer asks the network again.
type Resolver struct {
	servers []netip.AddrPort
	asking  map[netip.AddrPort]Upstream
	roots   *x509.CertPool
	hosts   *hosts
	timeout time.Duration
	routes  *routes
}

// New makes a Resolver. It asks nobody yet. The error is ErrNoServers where
// no server is known; else it tells what of c cannot be used.
func New(c Config) (*Resolver, error) {
	r := &Resolver{asking: map[netip.AddrPort]Upstream{}, roots: c.Roots, routes: &routes{now: time.Now, probe: routed}}
	servers := c.Servers
	if servers == nil {
		var err error
		if servers, err = SystemServers(c.ResolvConf); err != nil {
			return nil, err
		}
	}
	for _, u := range servers {
		u, err := u.check()
		if err != nil {
			return nil, err
		}
		if _, again := r.asking[u.Addr]; !again {
			r.asking[u.Addr] = u
			r.servers = append(r.servers, u.Addr)
		}
	}
	switch {
	case len(r.servers) == 0:
		return nil, ErrNoServers
	case c.Timeout < 0:
		return nil, fmt.Errorf("DNS timeout %v: less than nothing", c.Timeout)
	case c.Timeout == 0:
		c.Timeout = defaultTimeout
	}
	r.timeout = c.Timeout
	var err error
	r.hosts, err = openHosts(c.Hosts)
	return r, err
}

// Servers are the name servers asked, in their order. The slice is the
// caller's.
func (r *Resolver) Servers() []netip.AddrPort { return slices.Clone(r.servers) }

// Resolve tells what the hosts file or else the network answers for name, A and
// AAAA asked at the same time. It returns within the Timeout, and at once
// when ctx ends; nothing of it runs on then. Of what it returns,
//
//   - Addrs has no address mapped into IPv6 and none twice; IPv6 comes first
//     where this host has a global IPv6 route, or no IPv4 one;
//   - CNAMEs are the targets in their order, lower case, without final dots: the
//     name asked is not among them, the last one has the addresses;
//   - RCode is NXDOMAIN as soon as one family is answered so and the other has
//     no address; NODATA where both have none; of several failures the most
//     telling one: NXDOMAIN, SERVFAIL, REFUSED, another code, silence, no
//     connection;
//   - Upstream is "ADDR:PORT" of the server whose answer is reported, "hosts"
//     for the hosts file and for localhost (RFC 6761 section 6.3), "" where none
//     answered and for an address, which is its own answer;
//   - Timeout says that silence is what is reported, not an error that came
//     back (connection refused);
//   - Detail tells everything else that went wrong, on success too: each server
//     that failed, a family that was not answered, an extended DNS error
//     (RFC 8914), a CNAME loop. Texts in it that a server chose are quoted.
//
// One family is enough for NOERROR. AAAA is given up 50 ms after A came, where
// this host has an IPv4 route; A is always waited for, since a host whose IPv6
// route leads nowhere needs it.
func (r *Resolver) Resolve(ctx context.Context, name policy.Name) policy.Resolution {
	if a, ok := name.Addr(); ok {
		return policy.Resolution{Addrs: []netip.Addr{a.Unmap()}, RCode: noError}
	}
	if name.IsZero() {
		return policy.Resolution{Detail: "no name to look up"}
	}
	if name.Within("localhost") {
		return r.fromHosts([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()})
	}
	if addrs := r.hosts.find(name); addrs != nil {
		return r.fromHosts(addrs)
	}
	return r.lookUp(ctx, name)
}

func (r *Resolver) fromHosts(addrs []netip.Addr) policy.Resolution {
	return policy.Resolution{Addrs: r.order(addrs), RCode: noError, Upstream: "hosts"}
}

// order sorts addresses of either family.
func (r *Resolver) order(addrs []netip.Addr) []netip.Addr {
	var v4, v6 []netip.Addr
	for _, a := range addrs {
		if a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	has4, has6 := r.routes.families()
	return order(v4, v6, has6 || !has4)
}

func (r *Resolver) lookUp(ctx context.Context, name policy.Name) policy.Resolution {
	inTime, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	v4, v6, late := r.both(inTime, name.String()+".")
	res := join(v4, v6, late)
	res.Addrs = r.order(res.Addrs)
	if res.RCode == "" && errors.Is(ctx.Err(), context.Canceled) {
		res.Timeout, res.Detail = false, "look-up given up: "+ctx.Err().Error()
	}
	return res
}

// both asks for A and AAAA at the same time; late says that AAAA was given up
// because A had come.
func (r *Resolver) both(ctx context.Context, name string) (v4, v6 family, late bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := func(kind uint16) <-chan family {
		done := make(chan family, 1)
		go func() { done <- r.ask(ctx, name, kind) }()
		return done
	}
	a, aaaa := begin(dns.TypeA), begin(dns.TypeAAAA)
	var delay <-chan time.Time
	for range 2 {
		select {
		case v4 = <-a:
			if has4, has6 := r.routes.families(); len(v4.best.addrs) > 0 && (has4 || !has6) {
				delay = time.After(resolutionDelay)
			}
		case v6 = <-aaaa:
			delay = nil
		case <-delay:
			cancel()
			v6 = <-aaaa
			late = !v6.best.last()
		}
	}
	return v4, v6, late
}

// ask walks the servers for one family. Packets get lost, and most where many are
// under way: a server that stays silent is asked again as long as there is time.
func (r *Resolver) ask(ctx context.Context, name string, kind uint16) family {
	w := walk{servers: r.servers, rounds: 2}
	if len(r.servers) == 1 {
		w.rounds = 3
	}
	w.patience = max(1, min(maxPatience, r.timeout/time.Duration(w.rounds*len(r.servers))))
	w.rounds = int(r.timeout / (w.patience * time.Duration(len(r.servers)))) // until the time is over
	w.ask = func(ctx context.Context, server netip.AddrPort, edns bool) (answer, error) {
		return exchange(ctx, r.asking[server], r.roots, ask(name, kind, edns))
	}
	return w.run(ctx)
}
