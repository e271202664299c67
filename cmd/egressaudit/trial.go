package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/egressaudit/egressaudit/dnsaudit"
	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/proxy"
)

// trial is one recording: a proxy on its listener, and the ledger it writes.
type trial struct {
	session  policy.Session
	catalogs []*policy.Catalog
	index    *policy.Index
	path     string // of the ledger
	fresh    bool   // the ledger was made by this trial
	ledger   *ledger.Writer
	proxy    *proxy.Proxy
	listener net.Listener
	served   chan struct{} // closed when the proxy accepts no more
	broken   error         // why, where nobody told it to; good after served
	drain    time.Duration
}

// settings are what a trial is begun with, beside its flags.
type settings struct {
	listen         string
	privateAllowed bool
	noProxy        []string
	observe        func(*policy.Observation) // sees each observation, too; may be nil
	log            zerolog.Logger
}

// begin reads all that flags name, binds the listener, opens the ledger and
// serves. Nothing is written before everything was found right.
func begin(env environ, r *required, p *path, s settings) (*trial, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	catalogs, err := r.load()
	if err != nil {
		return nil, err
	}
	config, up, err := p.config(env)
	if err != nil {
		return nil, err
	}
	t := &trial{catalogs: catalogs, index: policy.NewIndex(catalogs...), drain: p.drain, served: make(chan struct{})}
	if t.listener, err = listen(s.listen, len(config.Clients) > 0); err != nil {
		return nil, err
	}
	config.Canary, _ = policy.ParseName(randomLabel() + ".canary.egressaudit.invalid") // always a name
	t.describe(r, p, up.shown, config.Canary, s.noProxy)
	if err = up.checkLoop(t.listener.Addr().String()); err == nil {
		err = t.openLedger(p)
	}
	if err != nil {
		t.listener.Close()
		return nil, err
	}
	t.serve(config, s)
	if err := t.sing(); err != nil {
		t.discard()
		return nil, err
	}
	return t, nil
}

// describe says under which circumstances is observed, for the ledger.
func (t *trial) describe(r *required, p *path, parent string, canary policy.Name, noProxy []string) {
	t.session = policy.Session{
		Version: version(), Scopes: r.scopes, Regions: r.filled(), Mode: p.mode, Parent: parent,
		Listeners: []string{"connect " + t.listener.Addr().String()},
		Canary:    canary.String(), NoProxy: noProxy, Limits: p.limits.Map(),
	}
	for _, c := range t.catalogs {
		t.session.Catalogs = append(t.session.Catalogs, c.Ref())
	}
}

// serve starts the proxy.
func (t *trial) serve(config proxy.Config, s settings) {
	config.Index, config.Log, config.PrivateAllowed = t.index, s.log, s.privateAllowed
	config.Sink = func(o *policy.Observation) error {
		if s.observe != nil {
			s.observe(o)
		}
		return t.ledger.Append(o)
	}
	t.proxy = proxy.New(config)
	go func() {
		defer close(t.served)
		t.broken = t.proxy.Serve(t.listener)
	}()
}

// config is the proxy's, as far as flags say it.
func (p *path) config(env environ) (c proxy.Config, up upstream, err error) {
	c = proxy.Config{Enforce: p.mode == "enforce", Probe: proxy.ProbeMode(p.probe), Limits: p.limits}
	if c.Allowed, err = prefixes("allow-address", p.allow); err != nil {
		return c, up, err
	}
	if c.Clients, err = prefixes("clients", p.clients); err != nil {
		return c, up, err
	}
	if c.Roots, err = roots(p.trust); err != nil {
		return c, up, err
	}
	if up, err = parentOf(p.parent, env); err != nil {
		return c, up, err
	}
	c.Parent = up.choose
	resolver, err := p.resolve(up.choose != nil, dnsaudit.Config{Timeout: p.dnsWait})
	if err != nil {
		return c, up, err
	}
	c.Resolve = resolver.Resolve
	return c, up, nil
}

// localServer is whom resolv.conf(5) asks where it names no server.
var localServer = dnsaudit.Upstream{Addr: netip.MustParseAddrPort("127.0.0.1:53")}

// resolve asks --resolver, or the system's servers. That none is known does no
// harm behind a parent, which looks names up itself: only the look-ups of what
// goes around it fail.
func (p *path) resolve(behindParent bool, c dnsaudit.Config) (*dnsaudit.Resolver, error) {
	if p.resolver != "" {
		servers, err := dnsaudit.ParseUpstreams(p.resolver)
		if err != nil {
			return nil, fmt.Errorf("--resolver: %w", err)
		}
		c.Servers = servers
	}
	r, err := dnsaudit.New(c)
	if errors.Is(err, dnsaudit.ErrNoServers) && behindParent {
		c.Servers = []dnsaudit.Upstream{localServer}
		return dnsaudit.New(c)
	}
	return r, err
}

// listen binds the proxy's address; beyond loopback only with --clients.
func listen(address string, named bool) (net.Listener, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("--proxy %q: write ADDRESS:PORT, such as 127.0.0.1:3128", address)
	}
	if !a.Addr().IsLoopback() && !named {
		return nil, fmt.Errorf("--proxy %q: others than this host could use the proxy (say who may: --clients CIDR)", address)
	}
	// Without keep-alives: what a firewall does to an idle connection is for the
	// trial to see.
	l, err := (&net.ListenConfig{KeepAlive: -1}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, refusedListen(address, err)
	}
	return l, nil
}

// refusedListen says why an address cannot be listened on, and what to take.
func refusedListen(address string, err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	told := fmt.Errorf("--proxy %q: %w", address, err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return hinted(told, "take another port, or 0 for any free one")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return hinted(told, "no interface of this host has it: take one that has, or 127.0.0.1")
	case errors.Is(err, os.ErrPermission):
		return hinted(told, "take a port above 1023, such as 3128")
	}
	return told
}

func (t *trial) openLedger(p *path) (err error) {
	if t.path = p.ledger; t.path == "" {
		if t.path, err = claim(time.Now()); err != nil {
			return err
		}
		t.fresh = true
	} else if _, err := os.Stat(t.path); errors.Is(err, fs.ErrNotExist) {
		t.fresh = true
	}
	name := p.trial
	if name == "" {
		name, _ = os.Hostname()
	}
	if t.ledger, err = ledger.Open(t.path, ledger.Options{Trial: name, Vantage: p.vantage}); err != nil {
		return err
	}
	start := t.session
	return t.ledger.Start(&start)
}

// claim makes the file of a ledger that was not named. Two trials that begin
// within one second get one each.
func claim(now time.Time) (string, error) {
	stem := "egressaudit-" + now.UTC().Format("20060102T150405Z")
	for n := 1; ; n++ {
		path := stem + ".jsonl"
		if n > 1 {
			path = fmt.Sprintf("%s-%d.jsonl", stem, n)
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		switch {
		case err == nil:
			return path, f.Close()
		case !errors.Is(err, fs.ErrExist):
			return "", hinted(fmt.Errorf("open ledger %q: %w", path, cause(err)), "name a place for it: --ledger FILE")
		}
	}
}

// end stops the proxy and closes the ledger; childStatus is that of run's
// command, nil for none. What could not be recorded is the error.
func (t *trial) end(drain context.Context, childStatus *int) error {
	canary := t.sing()
	t.proxy.Shutdown(drain)
	<-t.served
	stop := t.session
	stop.ChildStatus = childStatus
	return errors.Join(t.broken, canary, t.ledger.Stop(&stop))
}

// discard ends a trial that never came to anything, and takes its ledger away
// unless that was there before.
func (t *trial) discard() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	t.proxy.Shutdown(now)
	<-t.served
	t.ledger.Close()
	if t.fresh {
		os.Remove(t.path)
	}
}

// sing asks each listener for the canary's name, which the proxy refuses: the
// report demands to find that in the ledger.
func (t *trial) sing() error {
	c, err := net.DialTimeout("tcp", t.listener.Addr().String(), 5*time.Second)
	if err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	target := t.session.Canary + ":443"
	if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target); err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	if _, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodConnect}); err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	return nil
}

func randomLabel() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// split reads a comma-separated list.
func split(list string) []string {
	var out []string
	for _, s := range strings.Split(list, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}
