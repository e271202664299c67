package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
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
	ledger   *ledger.Writer
	proxy    *proxy.Proxy
	listener net.Listener
	served   chan error
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
	config, shown, err := p.config(env)
	if err != nil {
		return nil, err
	}
	t := &trial{catalogs: catalogs, index: policy.NewIndex(catalogs...), drain: p.drain, served: make(chan error, 1)}
	if t.listener, err = listen(s.listen, len(config.Clients) > 0); err != nil {
		return nil, err
	}
	canary, err := policy.ParseName(randomLabel() + ".canary.egressaudit.invalid")
	if err == nil {
		t.session = policy.Session{
			Version: version(), Scopes: r.scopes, Regions: r.regions, Mode: p.mode, Parent: shown,
			Listeners: []string{"connect " + t.listener.Addr().String()},
			Canary:    canary.String(), NoProxy: s.noProxy, Limits: p.limits.Map(),
		}
		for _, c := range catalogs {
			t.session.Catalogs = append(t.session.Catalogs, c.Ref())
		}
		err = t.openLedger(env, p)
	}
	if err != nil {
		t.listener.Close()
		return nil, err
	}
	config.Index, config.Canary, config.Log, config.PrivateAllowed = t.index, canary, s.log, s.privateAllowed
	config.Sink = func(o *policy.Observation) error {
		if s.observe != nil {
			s.observe(o)
		}
		return t.ledger.Append(o)
	}
	t.proxy = proxy.New(config)
	go func() { t.served <- t.proxy.Serve(t.listener) }()
	return t, t.sing()
}

// config is the proxy's, as far as flags say it.
func (p *path) config(env environ) (c proxy.Config, parent string, err error) {
	c = proxy.Config{Enforce: p.mode == "enforce", Probe: proxy.ProbeMode(p.probe), Limits: p.limits}
	if c.Allowed, err = prefixes("allow-address", p.allow); err != nil {
		return c, "", err
	}
	if c.Clients, err = prefixes("clients", p.clients); err != nil {
		return c, "", err
	}
	if c.Roots, err = roots(p.trust); err != nil {
		return c, "", err
	}
	up, err := parentOf(p.parent, env)
	if err != nil {
		return c, "", err
	}
	c.Parent = up.choose
	var servers []netip.AddrPort
	if p.resolver != "" {
		if servers, err = dnsaudit.ParseServers(p.resolver); err != nil {
			return c, "", fmt.Errorf("--resolver: %w", err)
		}
	}
	resolver, err := dnsaudit.New(dnsaudit.Config{Servers: servers, Timeout: p.dnsWait})
	if err != nil {
		return c, "", err
	}
	c.Resolve = resolver.Resolve
	return c, up.shown, nil
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
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return nil, fmt.Errorf("--proxy %q: %w (take another port, or 0 for any free one)", address, err)
	}
	return l, nil
}

func (t *trial) openLedger(env environ, p *path) (err error) {
	t.path = p.ledger
	if t.path == "" {
		t.path = "egressaudit-" + time.Now().UTC().Format("20060102T150405Z") + ".jsonl"
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

// end stops the proxy and closes the ledger; childStatus is that of run's
// command, nil for none. What could not be recorded is the error.
func (t *trial) end(drain context.Context, childStatus *int) error {
	canary := t.sing()
	t.proxy.Shutdown(drain)
	<-t.served
	stop := t.session
	stop.ChildStatus = childStatus
	return errors.Join(canary, t.ledger.Stop(&stop))
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
