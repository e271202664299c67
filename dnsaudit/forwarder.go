package dnsaudit

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/egressaudit/egressaudit/policy"
)

// maxQuestions is how many questions may wait for an answer at once; what comes
// beyond is answered SERVFAIL, and recorded as denied by our own limit.
const maxQuestions = 8192

// ForwarderConfig says whom a Forwarder asks, for whom, and whom it tells.
// Upstreams and Sink are needed.
type ForwarderConfig struct {
	// Upstreams are asked in this order; the next one when one is silent, cannot
	// be reached, or answers SERVFAIL, REFUSED or NOTIMP.
	Upstreams []Upstream
	// Sink takes one observation for each question, from several goroutines at
	// once.
	Sink policy.Sink
	// Canary is the name whose questions are the trial's own: they are refused, and
	// recorded as such.
	Canary policy.Name
	// Clients may ask; nil: loopback. All others get no answer; the canary alone is
	// taken from this host too.
	Clients []netip.Prefix
	// Allowed addresses are not taken for a sinkhole.
	Allowed []netip.Prefix
	// BlockPages are addresses that are one, beside those that can be nobody's.
	BlockPages []netip.Prefix
	// Timeout is for a question, every upstream and retry included; 0: 5s.
	Timeout time.Duration
	// Cache answers again from memory, while the TTL of an answer lasts, what was
	// answered to the same packet (letter case and ID apart).
	Cache bool
	// StripECH takes the ech parameter out of HTTPS and SVCB records, so that
	// server names stay visible. Signatures over such records fail then, and AD is
	// cleared.
	StripECH bool
	// Rate is how many questions a second one client (an IPv4 address, an IPv6
	// /64) may ask, bursts of one second's worth included; 0: no limit.
	Rate float64
	// Connections are those of clients by TCP at once; 0: 1024. One address has an
	// eighth of them.
	Connections int
	// Memory is told of every address that an answer gives; may be nil.
	Memory *Memory
	// Roots are whom the certificates of "tls" upstreams must come from; nil: the
	// system's.
	Roots *x509.CertPool
}

// Stats counts, since the start. Every question that was read ends as exactly
// one observation, or in Unrecorded.
type Stats struct {
	Questions  uint64 // read from clients, denied ones included
	Malformed  uint64 // packets answered with FORMERR
	Unknown    uint64 // packets of another opcode, answered with NOTIMP
	Dropped    uint64 // packets without an answer: answers themselves, or no DNS
	Strangers  uint64 // packets and connections from nobody's clients, dropped
	Denied     uint64 // questions that we refused: zone transfers, rate, limit
	Ignored    uint64 // packets from upstreams that answered no question: late or forged
	Truncated  uint64 // answers larger than the client takes over UDP
	Unrecorded uint64 // observations that Sink did not take
}

// counters are Stats as they grow.
type counters struct {
	questions, malformed, unknown, dropped, strangers, denied, ignored, truncated, unrecorded atomic.Uint64
}

// Forwarder is a forwarding name server that records every question. It passes
// packets on as they are, both ways, but for the ID: unknown types, EDNS options
// and the case of letters too. It neither recurses nor validates.
type Forwarder struct {
	config    ForwarderConfig
	timeout   time.Duration
	clients   []netip.Prefix
	upstreams []*upstream
	usual     map[string][]way // while all upstreams are well
	cache     *cache           // nil: none
	rate      *rate            // nil: no limit
	counts    *counters
	waiting   atomic.Int64

	riddle atomic.Pointer[string] // the name that Loop asks for; nil: it does not
	solved atomic.Bool            // and somebody asked us for it

	closing chan struct{} // closed when no more questions are read
	cut     chan struct{} // closed when questions are not waited for any longer
	cutOnce sync.Once

	mu      sync.Mutex
	closed  bool
	serving sync.WaitGroup
	probing sync.WaitGroup
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// NewForwarder makes a Forwarder; it asks nobody yet. The error is ErrNoServers
// where there are no upstreams; else it tells what of c cannot be used.
func NewForwarder(c ForwarderConfig) (*Forwarder, error) {
	f := &Forwarder{
		config: c, timeout: c.Timeout, clients: c.Clients, counts: new(counters),
		closing: make(chan struct{}), cut: make(chan struct{}), usual: make(map[string][]way),
	}
	switch {
	case len(c.Upstreams) == 0:
		return nil, ErrNoServers
	case c.Sink == nil:
		return nil, errors.New("a forwarder without a sink records nothing")
	case c.Timeout < 0:
		return nil, fmt.Errorf("DNS timeout %v: less than nothing", c.Timeout)
	case c.Rate < 0:
		return nil, fmt.Errorf("DNS rate %v: less than nothing", c.Rate)
	case c.Timeout == 0:
		f.timeout = defaultTimeout
	}
	if f.clients == nil {
		f.clients = loopback
	}
	if c.Cache {
		f.cache = newCache()
	}
	if c.Rate > 0 {
		f.rate = newRate(c.Rate)
	}
	return f, f.addUpstreams()
}

func (f *Forwarder) addUpstreams() error {
	for _, u := range f.config.Upstreams {
		u, err := u.check()
		if err != nil {
			return err
		}
		f.upstreams = append(f.upstreams, newUpstream(u, f.timeout, f.config.Roots, f.counts))
	}
	for _, via := range []string{viaUDP, viaTCP} {
		f.usual[via], _ = ways(f.upstreams, via, time.Time{})
	}
	return nil
}

// Stats counts what was seen so far.
func (f *Forwarder) Stats() Stats {
	c := f.counts
	return Stats{
		Questions: c.questions.Load(), Malformed: c.malformed.Load(), Unknown: c.unknown.Load(),
		Dropped: c.dropped.Load(), Strangers: c.strangers.Load(), Denied: c.denied.Load(),
		Ignored: c.ignored.Load(), Truncated: c.truncated.Load(), Unrecorded: c.unrecorded.Load(),
	}
}

// Serve answers questions from udp, which must be a *net.UDPConn, and from tcp,
// until Shutdown, which makes it return nil, or an error. It closes both. Either
// may be nil. It may be called for several pairs at once, such as sockets that
// share a port by SO_REUSEPORT: each is read to its end. What arrives after the
// last read is lost with the socket, as is all that waits in one for a Serve that
// begins after Shutdown. An upstream that is one of the listeners is refused.
func (f *Forwarder) Serve(udp net.PacketConn, tcp net.Listener) error {
	var servers []interface{ serve() error }
	var doors []net.Addr
	if udp != nil {
		defer udp.Close()
		conn, ok := udp.(*net.UDPConn)
		if !ok {
			return fmt.Errorf("serve DNS on %v: not a UDP socket", udp.LocalAddr())
		}
		servers, doors = append(servers, newUDPDoor(f, conn)), append(doors, udp.LocalAddr())
	}
	if tcp != nil {
		defer tcp.Close()
		servers, doors = append(servers, newTCPDoor(f, tcp)), append(doors, tcp.Addr())
	}
	for _, d := range doors {
		if err := f.Refuses(d); err != nil {
			return err
		}
	}
	if !f.begin() {
		return nil
	}
	defer f.serving.Done()
	ended := make(chan error, len(servers))
	for _, s := range servers {
		go func() { ended <- s.serve() }()
	}
	var first error
	for range servers {
		if err := <-ended; err != nil && first == nil {
			first = err
			f.close()
		}
	}
	return first
}

func (f *Forwarder) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.serving.Add(1)
	}
	return !f.closed
}

func (f *Forwarder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		close(f.closing)
	}
}

// Refuses says why the Forwarder does not serve at an address: an upstream is
// that very address, so that every question would come back.
func (f *Forwarder) Refuses(door net.Addr) error {
	at, err := netip.ParseAddrPort(door.String())
	if err != nil {
		return fmt.Errorf("serve DNS on %v: %w", door, err)
	}
	for _, u := range f.upstreams {
		to := u.Addr
		if to.Port() == at.Port() && (to.Addr() == at.Addr().Unmap() || at.Addr().IsUnspecified() && ownAddress(to.Addr())) {
			return fmt.Errorf("resolver %q: that is our own listener", u.text)
		}
	}
	return nil
}

// Loop asks each upstream for a name that nobody can have, and says which of them
// asked us for it in turn: with such an upstream one question would be asked for
// ever. The Forwarder must be serving. What an upstream says else is no matter here:
// each is waited for a second at most, and all of them for as long as ctx says.
func (f *Forwarder) Loop(ctx context.Context) error {
	for _, u := range f.upstreams {
		riddle := fmt.Sprintf("%016x.loop.egressaudit.invalid", rand.Uint64())
		f.solved.Store(false)
		f.riddle.Store(&riddle)
		each, cancel := context.WithTimeout(ctx, maxPatience)
		_, _ = exchange(each, u.Upstream, f.config.Roots, ask(riddle+".", dns.TypeA, false))
		cancel()
		f.riddle.Store(nil)
		if f.solved.Load() {
			return fmt.Errorf("resolver %q: it asks us again", u.text)
		}
	}
	return nil
}

func ownAddress(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	all, _ := net.InterfaceAddrs() // where they are unknown, the rest still holds
	return slices.ContainsFunc(all, func(i net.Addr) bool {
		p, err := netip.ParsePrefix(i.String())
		return err == nil && p.Addr() == a.WithZone("")
	})
}

// Shutdown stops reading, answers what was read, and returns when Serve is about
// to. When ctx ends before, questions that still wait are answered SERVFAIL and
// recorded as abandoned by us. Nothing of the Forwarder runs on afterwards. It may
// be called again.
func (f *Forwarder) Shutdown(ctx context.Context) {
	f.close()
	cut := func() { f.cutOnce.Do(func() { close(f.cut) }) }
	stop := context.AfterFunc(ctx, cut)
	f.serving.Wait()
	stop()
	cut()
	f.probing.Wait()
	for _, u := range f.upstreams {
		u.streams.shut()
		if u.sockets != nil {
			u.sockets.shut()
		}
	}
}

// admits says whether packets from client are read at all: those of clients that
// may ask, and those from this host, which may be the canary.
func (f *Forwarder) admits(client netip.AddrPort, door net.Addr) bool {
	if f.welcome(client.Addr()) {
		return true
	}
	at, err := netip.ParseAddrPort(door.String())
	return !f.config.Canary.IsZero() && (client.Addr().Unmap().IsLoopback() || err == nil && client.Addr().Unmap() == at.Addr().Unmap())
}

func (f *Forwarder) canary(q *query) bool {
	return !f.config.Canary.IsZero() && q.name == f.config.Canary.String()
}

func (f *Forwarder) welcome(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(f.clients, func(p netip.Prefix) bool { return p.Contains(a) })
}
