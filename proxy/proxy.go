package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/egressaudit/egressaudit/policy"
)

// Proxy is a forward proxy. It is made by New; its methods may be called by
// several goroutines at once.
type Proxy struct {
	index                  atomic.Pointer[policy.Index]
	enforce                bool
	keepClient, refuseQUIC bool
	capturedDirect         bool
	parentByName           bool
	resolve                func(context.Context, policy.Name) policy.Resolution
	memory                 Memory
	parent                 func(*url.URL) (*url.URL, error)
	sink                   policy.Sink
	clients                []netip.Prefix
	guard                  guard
	canary                 policy.Name
	limits                 Limits
	log                    zerolog.Logger
	prober                 *prober

	server    *http.Server
	transport *http.Transport

	session string // tells our connections from those of another run
	serial  atomic.Uint64

	signature signature // of the parent, on the answers that it forwards

	front http.Handler

	life    context.Context // ends when what is open is cut
	cutAll  context.CancelFunc
	waiting *lobby // connections that net/http has: without a request, or between two
	carried *lobby // requests and tunnels, from when they look for a way
	busy    gate   // handlers, tunnels: whoever still has a record to make

	accepting sync.WaitGroup // ServeCaptured

	mu       sync.Mutex
	tunnels  map[*tunnel]struct{}
	captures []net.Listener
	closing  bool
}

// New makes a Proxy; c's zero fields have their documented defaults.
func New(c Config) *Proxy {
	p := &Proxy{
		enforce: c.Enforce, keepClient: c.KeepClient, refuseQUIC: c.RefuseQUIC, capturedDirect: c.CapturedDirect, parentByName: c.ParentByName && c.Parent != nil, resolve: c.Resolve, memory: c.Memory, parent: c.Parent, sink: c.Sink,
		clients: c.Clients, canary: c.Canary, log: c.Log,
		guard:   guard{allowed: c.Allowed, blockPages: c.BlockPages, through: c.Through, privateAllowed: c.PrivateAllowed},
		limits:  c.Limits.or(DefaultLimits(1024)),
		session: strconv.FormatUint(rand.Uint64(), 36),
		tunnels: map[*tunnel]struct{}{},
	}
	p.waiting, p.carried = newLobby(p.limits), newLobby(p.limits)
	p.index.Store(c.Index)
	for _, a := range c.Own {
		p.guard.listen(a)
	}
	if p.clients == nil {
		p.clients = loopbackRanges
	}
	if p.memory == nil {
		p.memory = oblivion{}
	}
	p.life, p.cutAll = context.WithCancel(context.Background())
	p.prober = newProber(p, c.Probe, c.Roots)
	p.transport = p.newTransport()
	p.front = p.frontend()
	p.server = p.newServer()
	return p
}

// List replaces what is listed: connections that begin from now on are judged by
// index.
func (p *Proxy) List(index *policy.Index) { p.index.Store(index) }

// Serve accepts on l, which it closes at the end, until Shutdown; then it
// returns nil. It may be called for several listeners. Clients beyond the first
// must be named (Config.Clients) where l is not on loopback: cmd sees to that.
func (p *Proxy) Serve(l net.Listener) error {
	a, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		return fmt.Errorf("listen on %q: %w", l.Addr(), err)
	}
	p.guard.listen(a)
	if err := p.server.Serve(doorway{l}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops accepting, waits for what is open until the context ends, then
// cuts it. When it returns, every connection has its record. A listener whose Close
// does not end Accept at once, since clients have knocked, is waited for.
func (p *Proxy) Shutdown(ctx context.Context) {
	stop := context.AfterFunc(ctx, p.cut)
	defer stop()
	p.letGo()
	if p.server.Shutdown(ctx) != nil {
		p.server.Close()
	}
	p.accepting.Wait()
	p.busy.close()
	p.cutAll()
}

// gate counts who still has a record to make. Once it is closed nobody enters: what
// comes then is cut off without having reached anything.
type gate struct {
	mu     sync.Mutex
	n      int
	closed bool
	empty  chan struct{} // closed when n is 0 after close
}

// enter counts one in, unless the gate is closed.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.n++
	}
	return !g.closed
}

// add counts one more in for somebody who is in.
func (g *gate) add() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n--; g.n == 0 && g.closed {
		close(g.empty)
	}
}

// close lets nobody in any more, and waits until all are out.
func (g *gate) close() {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return
	}
	g.closed, g.empty = true, make(chan struct{})
	if g.n == 0 {
		close(g.empty)
	}
	g.mu.Unlock()
	<-g.empty
}

// cut ends all tunnels, and all ways that are still being opened.
func (p *Proxy) cut() {
	p.cutAll()
	p.mu.Lock()
	all := slices.Collect(maps.Keys(p.tunnels))
	p.mu.Unlock()
	for _, t := range all {
		t.cut("drain")
	}
}

// Open is how many connections are open, those counted that still look for a way.
func (p *Proxy) Open() int { return p.carried.count() }

// track and untrack keep the tunnels that cut can reach.
func (p *Proxy) track(t *tunnel) {
	p.mu.Lock()
	p.tunnels[t] = struct{}{}
	p.mu.Unlock()
	if p.life.Err() != nil {
		t.cut("drain")
	}
}

func (p *Proxy) untrack(t *tunnel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tunnels, t)
}

// admits says whether a client may use the proxy at all.
func (p *Proxy) admits(client netip.AddrPort) bool {
	return within(p.clients, client.Addr().Unmap().WithZone(""))
}

// begin starts the observation of what client asked of a listener.
func (p *Proxy) begin(kind policy.Kind, listener string, client netip.AddrPort) policy.Observation {
	return policy.Observation{
		Kind: kind, Begun: time.Now(), Origin: policy.OriginClient, Listener: listener,
		ID:     p.session + "-" + strconv.FormatUint(p.serial.Add(1), 10),
		Client: netip.AddrPortFrom(client.Addr().Unmap(), client.Port()),
	}
}

// name sets the judged name and decides by the catalogs; listed says whether
// they have it.
func (p *Proxy) name(o *policy.Observation, n policy.Name, from policy.NameFrom) (listed bool) {
	o.Name, o.NameFrom = n.String(), from
	var room [8]*policy.Endpoint
	found := p.index.Load().Best(room[:0], n, o.Port)
	o.Matches = nil
	for _, e := range found {
		o.Matches = append(o.Matches, e.Match())
	}
	listed = len(found) > 0
	o.WouldDeny = !listed && !p.enforce
	return listed
}

// meant judges what a client asked for. A bare address goes by the name that DNS
// gave it for, which tells and allows nothing: listed is the address's own.
func (p *Proxy) meant(o *policy.Observation, n policy.Name) (listed bool) {
	addr, bare := n.Addr()
	if !bare {
		return p.name(o, n, policy.FromAsked)
	}
	listed = p.name(o, n, policy.FromAddress)
	names := p.memory.Names(addr, time.Now())
	if len(names) == 0 {
		return listed
	}
	if o.Resolved = names[0]; len(names) > 1 {
		note(o, detail{"resolved_also": names[1:]})
	}
	if r, err := policy.ParseName(o.Resolved); err == nil {
		would := o.WouldDeny
		p.name(o, r, policy.FromDNS)
		o.WouldDeny = would
	}
	return listed
}

// record hands o to the ledger. What the sink refuses it counts itself.
func (p *Proxy) record(o *policy.Observation) {
	o.Decision = policy.Allow
	if o.Outcome == policy.Denied {
		o.Decision, o.WouldDeny = policy.Deny, false
	}
	o.DurationMS = time.Since(o.Begun).Milliseconds()
	if err := p.sink(o); err != nil {
		p.log.Debug().Err(err).Str("id", o.ID).Msg("observation not recorded")
	}
}

// via names us in the Via field of what goes to a parent, so that a request that
// comes back is known (RFC 9110 section 7.6.3).
func (p *Proxy) via() string { return "1.1 egressaudit-" + p.session }
