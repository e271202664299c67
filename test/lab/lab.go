package lab

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"time"
)

// World is a running lab. It is safe for use by several goroutines at once.
type World struct {
	ctx         context.Context
	cancel      context.CancelFunc
	running     sync.WaitGroup // every goroutine
	public      *authority
	inspector   *authority
	credentials *url.Userinfo
	parent      net.Listener
	names       *nameServer
	block       byte              // sites live in 127.block.0.0/16
	ports       map[uint16]uint16 // a port and its stand-in

	homing sync.Mutex // held while a name gets its address
	homes  map[string]netip.Addr

	mu    sync.Mutex
	rules rules
	turns map[target]int
	open  map[io.Closer]bool // listeners and connections; nil when closed
	seen  []Sighting
}

// Start plays a script until Close. It fails when the script does not hold
// together, or a socket cannot be had.
func Start(s Script) (*World, error) {
	rs, err := compile(s)
	if err != nil {
		return nil, fmt.Errorf("lab script: %w", err)
	}
	w := &World{
		credentials: s.Credentials,
		block:       byte(1 + rand.IntN(254)),
		ports:       map[uint16]uint16{},
		rules:       rs,
		turns:       map[target]int{},
		homes:       map[string]netip.Addr{},
		open:        map[io.Closer]bool{},
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	if err := w.start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("start the lab: %w", err)
	}
	return w, nil
}

func (w *World) start() (err error) {
	if w.public, err = newAuthority("Lab", "Lab Public Root CA"); err != nil {
		return err
	}
	if w.inspector, err = newAuthority("Example Corp", "Example Corp TLS Inspection CA"); err != nil {
		return err
	}
	if err := w.settle(); err != nil { // first of all: whoever is served reads the ports
		return err
	}
	if w.parent, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		return err
	}
	w.accept(w.parent, w.servePeer)
	w.names, err = w.serveDNS()
	return err
}

// Close ends every connection and listener, and waits for all goroutines. It
// may be called twice.
func (w *World) Close() {
	w.cancel()
	w.mu.Lock()
	open := w.open
	w.open = nil
	w.mu.Unlock()
	for c := range open {
		c.Close()
	}
	if open != nil && w.names != nil {
		w.names.close()
	}
	w.running.Wait()
}

// accept serves a listener's connections until the lab closes.
func (w *World) accept(l net.Listener, serve func(*conn)) {
	if !w.own(l) {
		return
	}
	w.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.running.Go(func() { w.handle(c.(*net.TCPConn), serve) })
		}
	})
}

func (w *World) handle(tcp *net.TCPConn, serve func(*conn)) {
	defer tcp.Close()
	if !w.own(tcp) {
		return
	}
	serve(w.newConn(tcp))
	w.mu.Lock()
	delete(w.open, tcp)
	w.mu.Unlock()
}

// own notes what Close has to close. When the lab is closed it closes it at
// once.
func (w *World) own(c io.Closer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		c.Close()
		return false
	}
	w.open[c] = true
	return true
}

// wait tells whether the lab still runs after d.
func (w *World) wait(d time.Duration) bool {
	if d <= 0 {
		return w.ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.ctx.Done():
		return false
	}
}

// behaviour is what happens to the next connection to name and port.
func (w *World) behaviour(name string, port uint16) Behaviour {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, b, ok := w.rules.find(name, port)
	if !ok {
		return NXDOMAIN
	}
	for {
		turns, ok := b.(InTurn)
		if !ok || len(turns) == 0 {
			return b
		}
		b = turns[min(w.turns[t], len(turns)-1)]
		w.turns[t]++
	}
}

// rule is what stands in the script for name and port, or behind its Answer;
// nil for nothing.
func (w *World) rule(name string, port uint16) Behaviour {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, b, _ := w.rules.find(name, port)
	if a, ok := b.(Answer); ok {
		return a.then()
	}
	return b
}

func (w *World) answer(name string) Answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rules.answer(name)
}

// Set changes a rule, or adds one, for connections from now on; the target is
// as in Script.Rules. A site that is reached directly cannot become or cease to
// be Refuse or Drop once it has an address.
func (w *World) Set(at string, b Behaviour) error {
	t, err := parseTarget(at)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rules[t] = b
	delete(w.turns, t)
	return nil
}

// DNS is where the name server listens, over UDP and TCP.
func (w *World) DNS() netip.AddrPort { return w.names.addr }

// CAPEM is the certificate of the CA that signs the sites, in PEM.
func (w *World) CAPEM() []byte { return w.public.pem() }

// WriteCA writes CAPEM to a file, with mode 0644.
func (w *World) WriteCA(path string) error { return os.WriteFile(path, w.CAPEM(), 0o644) }

// InspectorPEM is the certificate of the CA that signs sites with the Signer
// Inspector.
func (w *World) InspectorPEM() []byte { return w.inspector.pem() }

// Roots trusts the CA that signs the sites, and nobody else.
func (w *World) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(w.public.cert)
	return pool
}

func (w *World) signer(s Signer) *authority {
	if s == Inspector {
		return w.inspector
	}
	return w.public
}

// Door is where something was seen.
type Door string

// The doors.
const (
	DoorParent Door = "parent"
	DoorSite   Door = "site"
	DoorDNS    Door = "dns"
)

// Sighting is one thing that came to the lab. It is noted before the lab
// answers it.
type Sighting struct {
	Door    Door
	Method  string // parent: the request's; site: "accept" (direct ones), "hello" (its first bytes) or a request's; DNS: "A", "AAAA", ...
	Target  string // "host:port" as scripted, without stand-ins; for DNS the name
	Path    string // of a site's request
	User    string // of the Basic credentials that came to the parent
	Network string // DNS: "udp" or "tcp"
}

// Saw lists what came so far, in order.
func (w *World) Saw() []Sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Sighting(nil), w.seen...)
}

func (w *World) note(s Sighting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, s)
}

func (c *conn) target() string { return net.JoinHostPort(c.name, fmt.Sprint(c.port)) }

func (c *conn) saw(method string) {
	c.world.note(Sighting{Door: DoorSite, Method: method, Target: c.target()})
}

func (c *conn) sawRequest(req *http.Request) {
	c.world.note(Sighting{Door: DoorSite, Method: req.Method, Target: c.target(), Path: req.URL.Path})
}
