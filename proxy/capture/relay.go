package capture

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// Config is what a Relay works by. Judge and Sink are needed.
type Config struct {
	// Judge decides on a server name that a flow asks for: true lets it pass, and
	// for false Judge sets the Verdict and perhaps Detail. The observation has
	// Client, Address, Port, Protocol, SNI, SNIState, ALPN; Judge fills what
	// only the caller knows: ID where it is empty, Name, NameFrom, Matches,
	// WouldDeny. Where the name comes only after Limits.Hold, Judge is called
	// twice for the same observation. Calls come from many goroutines; they must
	// not wait, for the flows of a socket wait with them.
	Judge func(*policy.Observation) bool
	// Sink takes the observations: one for each name of a flow, when the flow ends
	// or the name is refused; before that, open ones as contract section 4 says.
	Sink policy.Sink
	// KeepClient dials from the client's address.
	KeepClient bool
	// Canary is the name of the trial's own sign of life, which is sent to the listener
	// itself; zero: none.
	Canary policy.Name
	// Limits bound time and memory.
	Limits Limits
}

// Limits bound a Relay. Zero fields have the values of DefaultLimits.
type Limits struct {
	Hold   time.Duration // for the name to come, before the first datagrams pass without one
	Answer time.Duration // a server silent for longer counts as silent
	Open   time.Duration // a flow that is answered and lives longer gets an open record
	Idle   time.Duration // a flow without a datagram either way ends
	Flows  int           // at once, in all; each has two descriptors
	Client int           // at once, of one client address; as many as in all when 0
}

// DefaultLimits are for observe mode. To enforce names, Hold should outlast a
// client's first repetition (1 s, RFC 9002 section 6.2.2).
func DefaultLimits() Limits {
	return Limits{
		Hold: 100 * time.Millisecond, Answer: 5 * time.Second, Open: 10 * time.Second, Idle: 2 * time.Minute, Flows: 4096,
	}
}

func (l Limits) or(d Limits) Limits {
	for _, f := range []struct{ field, otherwise *time.Duration }{
		{&l.Hold, &d.Hold}, {&l.Answer, &d.Answer}, {&l.Open, &d.Open}, {&l.Idle, &d.Idle},
	} {
		if *f.field == 0 {
			*f.field = *f.otherwise
		}
	}
	if l.Flows == 0 {
		l.Flows = d.Flows
	}
	if l.Client == 0 {
		l.Client = l.Flows
	}
	return l
}

// Relay carries the UDP flows of clients to where they were going. Its methods
// may be called at once.
type Relay struct {
	config Config
	limits Limits
	dial   func(client, to netip.AddrPort) (*net.UDPConn, error)
	answer func(from netip.AddrPort) (*net.UDPConn, error)

	strayed atomic.Uint64

	mu       sync.Mutex
	closed   bool
	front    map[front]struct{}
	flows    map[path]*flow
	clients  map[netip.Addr]int
	turned   int       // away since the last record of it
	toldFull time.Time // when that was made
	busy     sync.WaitGroup
}

// path is what datagrams of one flow have in common.
type path struct{ client, to netip.AddrPort }

// front is what PacketConn is to a Relay.
type front interface {
	Read(b []byte) (n int, client, to netip.AddrPort, err error)
	Close() error
}

// NewRelay makes a Relay.
func NewRelay(c Config) *Relay {
	r := &Relay{
		config: c, limits: c.Limits.or(DefaultLimits()), answer: AnswerFrom,
		front: map[front]struct{}{}, flows: map[path]*flow{}, clients: map[netip.Addr]int{},
	}
	r.dial = func(client, to netip.AddrPort) (*net.UDPConn, error) { return dialUDP(client, to, c.KeepClient) }
	return r
}

// dialUDP opens the socket of a flow.
func dialUDP(client, to netip.AddrPort, keep bool) (*net.UDPConn, error) {
	var d net.Dialer
	if keep {
		d.Control = KeepClientAddress(client.Addr())
	}
	c, err := d.Dial("udp", to.String())
	if err != nil {
		return nil, err
	}
	u := c.(*net.UDPConn)
	u.SetReadBuffer(readBuffer) // as much as the system allows
	return u, nil
}

// readBuffer holds what a server sends while others are served.
const readBuffer = 1 << 20

// Serve carries what p takes, until Shutdown; then it returns nil. It closes p.
// Datagrams that were sent to p itself are dropped and counted (Strayed); that of the
// canary is recorded.
func (r *Relay) Serve(p *PacketConn) error { return r.serve(p) }

func (r *Relay) serve(p front) error {
	if !r.enter(p) {
		return nil
	}
	defer r.leave(p)
	b := make([]byte, 64<<10)
	for {
		n, client, to, err := p.Read(b)
		switch {
		case errors.Is(err, ErrNotRedirected):
			r.stray(path{client, to}, b[:n])
		case err != nil:
			if r.isClosed() {
				return nil
			}
			return err
		default:
			r.take(path{client, to}, b[:n])
		}
	}
}

func (r *Relay) enter(p front) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		p.Close()
		return false
	}
	r.front[p] = struct{}{}
	return true
}

func (r *Relay) leave(p front) {
	p.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.front, p)
}

func (r *Relay) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// Strayed is the number of datagrams that no rule had redirected.
func (r *Relay) Strayed() uint64 { return r.strayed.Load() }

// Flows is the number of flows at the moment.
func (r *Relay) Flows() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.flows)
}

// Shutdown takes no more datagrams of clients and ends all flows: a flow has no end
// of its own that one could wait for. When it returns, each has its record.
func (r *Relay) Shutdown(context.Context) {
	r.mu.Lock()
	r.closed = true
	for p := range r.front {
		p.Close()
	}
	all := make([]*flow, 0, len(r.flows))
	for _, f := range r.flows {
		all = append(all, f)
	}
	r.mu.Unlock()
	for _, f := range all {
		f.end(drained)
	}
	r.busy.Wait()
}

// take gives a datagram to its flow, a new one where there is none.
func (r *Relay) take(at path, b []byte) {
	for {
		f := r.flow(at)
		if f == nil || f.fromClient(b) {
			return
		}
		// It ended just now; another takes its place.
	}
}

// flow finds or makes the flow of a path; nil where it is one too many, or at the
// end.
func (r *Relay) flow(at path) *flow {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flows[at]; f != nil {
		return f
	}
	if r.closed {
		return nil
	}
	if len(r.flows) >= r.limits.Flows || r.clients[at.client.Addr()] >= r.limits.Client {
		r.full(at)
		return nil
	}
	f := &flow{relay: r, path: at, last: time.Now()}
	f.mu.Lock() // against the timer
	f.timer = time.AfterFunc(r.limits.Hold, f.tick)
	f.mu.Unlock()
	r.flows[at] = f
	r.clients[at.client.Addr()]++
	r.busy.Add(1)
	return f
}

// forget takes an ended flow out.
func (r *Relay) forget(f *flow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.flows, f.path)
	a := f.path.client.Addr()
	if r.clients[a]--; r.clients[a] == 0 {
		delete(r.clients, a)
	}
	r.busy.Done()
}

// full records that flows are turned away, once a second and with their number:
// more would flood the ledger.
func (r *Relay) full(at path) {
	r.turned++
	now := time.Now()
	if now.Sub(r.toldFull) < time.Second {
		return
	}
	o := begin(at, now)
	o.Decision, o.Protocol, o.SNIState = policy.Deny, "other", policy.SNIUnparsed
	o.Verdict = policy.Verdict{Outcome: policy.Denied, Stage: policy.StagePolicy, Error: policy.ConnectionLimitReached, By: policy.BySelf, Confidence: policy.Certain}
	o.Detail = map[string]any{"datagrams": r.turned}
	r.turned, r.toldFull = 0, now
	r.sink(&o)
}

// sink hands an observation over; what is refused the sink counts itself.
func (r *Relay) sink(o *policy.Observation) { _ = r.config.Sink(o) }

// begin starts the observation of a flow.
func begin(at path, now time.Time) policy.Observation {
	return policy.Observation{
		Kind: policy.KindConnection, Begun: now, Origin: policy.OriginClient, Listener: "tproxy",
		Client: at.client, Address: at.to, Port: at.to.Port(),
	}
}
