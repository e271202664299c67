package proxy

import (
	"context"
	"crypto/x509"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"time"

	"github.com/rs/zerolog"

	"github.com/egressaudit/egressaudit/policy"
)

// Config is what a Proxy works by. Index, Resolve and Sink are needed.
type Config struct {
	// Index says which endpoints are listed.
	Index *policy.Index
	// Enforce passes only what Index lists; otherwise everything passes but the
	// guarded addresses.
	Enforce bool
	// Resolve looks a host name up. It is called by many goroutines at once.
	Resolve func(context.Context, policy.Name) policy.Resolution
	// Memory tells what a client meant by a bare address; it never allows anything.
	// nil: nothing is known of any.
	Memory Memory
	// Parent says through which proxy a destination is reached, nil for none
	// (the shape of httpproxy.Config.ProxyFunc). A nil func: never through one.
	Parent func(*url.URL) (*url.URL, error)
	// Sink takes the observations.
	Sink policy.Sink
	// Clients may use the proxy; nil means loopback alone.
	Clients []netip.Prefix
	// Allowed addresses are neither guarded nor taken for a sinkhole.
	Allowed []netip.Prefix
	// BlockPages are addresses that false answers of the resolver lead to: a sinkhole,
	// and not dialled.
	BlockPages []netip.Prefix
	// CapturedDirect has captured connections go around Parent: clients that know of
	// no proxy would go there without it, too.
	CapturedDirect bool
	// ParentByName says that Parent knows names, too: of captured connections, which
	// have an address, the first bytes are then waited for, up to a second, and the
	// server name or Host in them leads around Parent as well as the address.
	ParentByName bool
	// Through are destinations that the operator named one by one: dialled directly
	// for captured connections, whatever guard, mode and parent say.
	Through []netip.AddrPort
	// Own are listeners of the program beside those that Serve is given: nobody is
	// led there.
	Own []netip.AddrPort
	// PrivateAllowed lifts the guard from private and shared ranges, for clients
	// that could go there anyway.
	PrivateAllowed bool
	// KeepClient dials, for what comes by TPROXY, from the client's own address.
	KeepClient bool
	// RefuseQUIC refuses every UDP flow, so that clients turn to TCP.
	RefuseQUIC bool
	// Canary is the name whose connections are recorded as the trial's own.
	Canary policy.Name
	// Probe says when a certificate is looked at by a handshake of our own.
	Probe ProbeMode
	// Roots are who the public trusts; nil: no certificate is judged.
	Roots *x509.CertPool
	// Limits bound what clients can make the proxy hold.
	Limits Limits
	// Log takes what concerns the operator: nothing about single destinations.
	Log zerolog.Logger
}

// Memory is what DNS lately said. Its methods are called by many goroutines at once.
type Memory interface {
	// Names are the names that a was the answer to, the latest first.
	Names(a netip.Addr, now time.Time) []string
	// Elsewhere says that name has other addresses than a, and not that one.
	Elsewhere(name string, a netip.Addr, now time.Time) bool
	// Unlinked says that name has the address a, and by no private link.
	Unlinked(name string, a netip.Addr, now time.Time) bool
}

// oblivion is the Memory of nothing.
type oblivion struct{}

func (oblivion) Names(netip.Addr, time.Time) []string         { return nil }
func (oblivion) Elsewhere(string, netip.Addr, time.Time) bool { return false }
func (oblivion) Unlinked(string, netip.Addr, time.Time) bool  { return false }

// ProbeMode says when the proxy makes a TLS handshake of its own.
type ProbeMode string

// The modes of --probe-certificates.
const (
	ProbeNever   ProbeMode = "never"
	ProbeSuspect ProbeMode = "suspect"
	ProbeAlways  ProbeMode = "always"
)

// Limits bound time and memory. Zero fields have the defaults of DefaultLimits.
type Limits struct {
	Header         int           // octets of a request's header
	HeaderTimeout  time.Duration // for a request's header to arrive
	FirstBytes     int           // octets read for a client's first message
	FirstTimeout   time.Duration // for a client's first message, where it is held (enforce)
	ConnectTimeout time.Duration // for a dial, over all addresses
	ParentTimeout  time.Duration // for the parent's answer to CONNECT
	AnswerTimeout  time.Duration // a destination silent for longer counts as silent; nothing is cut
	IdleTimeout    time.Duration // a tunnel without a byte either way is closed
	Tunnels        int           // connections at once, in all
	ClientTunnels  int           // connections at once, of one client address
}

// descriptors is what one tunnel can hold at most: two sockets, and two pipes
// while bulk flows both ways.
const descriptors = 6

// reserved descriptors are for listeners, ledger, resolver and runtime.
const reserved = 128

// DefaultLimits derives the number of tunnels from the descriptors that the
// process may open.
func DefaultLimits(openFiles uint64) Limits {
	n := int((min(openFiles, math.MaxInt32) - min(openFiles/2, reserved)) / descriptors)
	return Limits{
		Header: 64 << 10, HeaderTimeout: 10 * time.Second,
		FirstBytes: 64 << 10, FirstTimeout: 10 * time.Second,
		ConnectTimeout: 10 * time.Second, ParentTimeout: 2 * time.Minute,
		AnswerTimeout: 5 * time.Second, IdleTimeout: 15 * time.Minute,
		Tunnels: n, ClientTunnels: n,
	}
}

// or fills the zero fields of l from d.
func (l Limits) or(d Limits) Limits {
	pick(&l.Header, d.Header)
	pick(&l.HeaderTimeout, d.HeaderTimeout)
	pick(&l.FirstBytes, d.FirstBytes)
	pick(&l.FirstTimeout, d.FirstTimeout)
	pick(&l.ConnectTimeout, d.ConnectTimeout)
	pick(&l.ParentTimeout, d.ParentTimeout)
	pick(&l.AnswerTimeout, d.AnswerTimeout)
	pick(&l.IdleTimeout, d.IdleTimeout)
	pick(&l.Tunnels, d.Tunnels)
	pick(&l.ClientTunnels, l.Tunnels)
	return l
}

func pick[T comparable](field *T, otherwise T) {
	var zero T
	if *field == zero {
		*field = otherwise
	}
}

// Map is l as it stands in the ledger's start record.
func (l Limits) Map() map[string]any {
	return map[string]any{
		"header": l.Header, "header_timeout_ms": l.HeaderTimeout.Milliseconds(),
		"first_bytes": l.FirstBytes, "first_timeout_ms": l.FirstTimeout.Milliseconds(),
		"connect_timeout_ms": l.ConnectTimeout.Milliseconds(), "parent_timeout_ms": l.ParentTimeout.Milliseconds(),
		"answer_timeout_ms": l.AnswerTimeout.Milliseconds(), "idle_timeout_ms": l.IdleTimeout.Milliseconds(),
		"tunnels": l.Tunnels, "client_tunnels": l.ClientTunnels,
	}
}

// CheckParent refuses a parent that cannot be gone through.
func CheckParent(u *url.URL) error {
	switch {
	case u.Scheme != "http":
		return fmt.Errorf("%q: only http:// proxies can be gone through (did you mean %q?)", u.Redacted(), "http://"+u.Host)
	case u.Hostname() == "":
		return fmt.Errorf("%q: the host is missing (write http://HOST:PORT)", u.Redacted())
	}
	if _, err := policy.ParseName(u.Hostname()); err != nil {
		return fmt.Errorf("%q: %w", u.Redacted(), err)
	}
	return nil
}
