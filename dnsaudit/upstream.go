package dnsaudit

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

const tlsPort = 853

// Upstream is a recursive server that is asked. The zero Transport is
// "udp".
type Upstream struct {
	Addr netip.AddrPort
	// Transport is "udp" (and TCP where UDP does not do), "tcp" or "tls" (RFC
	// 7858).
	Transport string
	// ServerName is whom the certificate of a "tls" server must name; "": its
	// address.
	ServerName string
}

// String is what ParseUpstreams reads: "192.0.2.1:53", "tcp://192.0.2.1:53",
// "tls://192.0.2.1:853#dns.example".
func (u Upstream) String() string {
	switch {
	case u.Transport == viaTLS && u.ServerName != "":
		return "tls://" + u.Addr.String() + "#" + u.ServerName
	case u.Transport == viaTLS, u.Transport == viaTCP:
		return u.Transport + "://" + u.Addr.String()
	}
	return u.Addr.String()
}

// check is u with its address in normal form, and its transport named.
func (u Upstream) check() (Upstream, error) {
	at, err := usable(u.Addr)
	if !u.Addr.IsValid() || err != nil || !slices.Contains([]string{"", viaUDP, viaTCP, viaTLS}, u.Transport) {
		return u, fmt.Errorf("resolver %q: not an address and port of a server, and how to ask it", u)
	}
	u.Addr, u.Transport = at, cmp.Or(u.Transport, viaUDP)
	return u, nil
}

// ParseUpstreams reads "SERVER[,SERVER]...", the value of --resolver, in the order
// given and without repetitions. A server is ADDR[:PORT], and may have a scheme:
// "192.0.2.1,udp://192.0.2.1:53,tcp://[2001:db8::1],tls://192.0.2.2:853#dns.example".
// The port is 53 unless given, 853 for tls; an IPv6 address with a port stands in
// brackets, and may carry a zone. The name behind # is the one that the server's
// certificate must have, its address unless given. Names of servers are refused,
// since there is nobody yet to look them up; so are port 0 and addresses that no
// server can have.
func ParseUpstreams(list string) ([]Upstream, error) {
	var all []Upstream
	for part := range strings.SplitSeq(list, ",") {
		u, err := parseUpstream(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("resolver %q: %w", part, err)
		}
		if !slices.Contains(all, u) {
			all = append(all, u)
		}
	}
	return all, nil
}

func parseUpstream(s string) (u Upstream, err error) {
	u.Transport = viaUDP
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		u.Transport, s = strings.ToLower(scheme), rest
	}
	port := uint16(dnsPort)
	switch u.Transport {
	case viaUDP, viaTCP:
	case viaTLS:
		port = tlsPort
		name, named := "", false
		if s, name, named = strings.Cut(s, "#"); named {
			n, err := policy.ParseName(name)
			if err != nil {
				return u, fmt.Errorf("the name of its certificate: %w", err)
			}
			u.ServerName = n.String()
		}
	default:
		return u, fmt.Errorf("a server is asked by udp://, tcp:// or tls://, not by %q", u.Transport+"://")
	}
	if strings.Contains(s, "#") {
		return u, errors.New("a name behind # is for tls:// servers")
	}
	u.Addr, err = parseServer(s, port)
	return u, err
}

// Of a server that does not answer.
const (
	// unhealthyAfter is how many questions in a row a server fails before the
	// others are asked first.
	unhealthyAfter = 3
	// probeEvery is how often such a server gets a question beside another one.
	probeEvery = time.Second
)

// upstream is one server in use. Its fields are safe for use by several
// goroutines at once.
type upstream struct {
	Upstream
	text    string
	sockets *sockets
	streams *streams

	failures atomic.Int32 // in a row
	probed   atomic.Int64 // UnixNano of the last question while unhealthy
}

func newUpstream(u Upstream, timeout time.Duration, roots *x509.CertPool, counts *counters) *upstream {
	up := &upstream{Upstream: u, text: u.String()}
	up.streams = &streams{to: up, timeout: timeout, counts: counts}
	switch u.Transport {
	case viaUDP:
		up.sockets = &sockets{to: u.Addr, counts: counts}
	case viaTLS:
		up.streams.tls = u.tlsConfig(roots)
		up.streams.tls.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	return up
}

// tlsConfig is how a "tls" server is spoken to.
func (u Upstream) tlsConfig(roots *x509.CertPool) *tls.Config {
	c := &tls.Config{ServerName: u.ServerName, RootCAs: roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"dot"}}
	if u.ServerName == "" {
		c.ServerName = u.Addr.Addr().WithZone("").String()
	}
	return c
}

func (u *upstream) healthy() bool { return u.failures.Load() < unhealthyAfter }

// answered and failed are told of each way that came to an end.
func (u *upstream) answered() {
	if u.failures.Load() != 0 {
		u.failures.Store(0)
	}
}

func (u *upstream) failed(now time.Time) {
	if u.failures.Add(1) == unhealthyAfter {
		u.probed.Store(now.UnixNano())
	}
}

// due says, once in a while, that an unhealthy server is worth a question.
func (u *upstream) due(now time.Time) bool {
	last := u.probed.Load()
	return now.UnixNano()-last >= int64(probeEvery) && u.probed.CompareAndSwap(last, now.UnixNano())
}

// way is one way to ask one server.
type way struct {
	to  *upstream
	via string // viaUDP, or viaTCP for a stream of either kind
}

// ways are the ways for a question that came by a transport, in their order.
// beside is a server thought dead that is asked at the same time as the first,
// nil for none.
func ways(ups []*upstream, via string, now time.Time) (list []way, beside *upstream) {
	var well, ill []*upstream
	for _, u := range ups {
		switch {
		case u.healthy():
			well = append(well, u)
		case beside == nil && u.due(now):
			beside = u
			fallthrough
		default:
			ill = append(ill, u)
		}
	}
	if len(well) == 0 {
		beside = nil
	}
	rounds := 2
	if len(ups) == 1 {
		rounds = 3
	}
	order := append(well, ill...)
	for round := range rounds {
		for _, u := range order {
			list = u.ways(list, via, round)
		}
	}
	return list, beside
}

// ways appends how u is asked in a round: a client that came by TCP mostly did
// so for a large answer, and its question goes on by TCP first.
func (u *upstream) ways(list []way, via string, round int) []way {
	if round == 0 && (u.Transport != viaUDP || via == viaTCP) {
		list = append(list, way{u, viaTCP})
	}
	if u.Transport == viaUDP {
		list = append(list, way{u, viaUDP})
	}
	return list
}
