package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/policy/workload"
	"github.com/egressaudit/egressaudit/proxy"
)

// trial is one recording: what listens, and the ledger that it writes.
type trial struct {
	session  policy.Session
	catalogs []*policy.Catalog
	index    atomic.Pointer[policy.Index]
	path     string // of the ledger
	fresh    bool   // the ledger was made by this trial
	ledger   *ledger.Writer
	proxy    *proxy.Proxy
	listener net.Listener
	names    nameServer
	captures captures
	served   chan struct{} // closed when the proxy accepts no more
	broken   error         // why, where nobody told it to; good after served
	drain    time.Duration
	observe  func(*policy.Observation)
	isolated *isolation
	cluster  naming
	canaries chan string // how each canary that was recorded had come: connect, redirect, tproxy, tproxy/udp, udp or tcp
	ways     string      // what goes through the parent, for people; "" without one
	ballast  []byte
}

// settings are what a trial is begun with, beside its flags.
type settings struct {
	listen         string
	names          nameFlags
	captures       captureFlags
	isolated       *isolation       // whose sockets are listened on; nil: those that the flags name
	own            []netip.AddrPort // what else of us listens
	privateAllowed bool
	noProxy        []string
	observe        func(*policy.Observation) // sees each observation, too; may be nil
	api            *workload.API             // by which clients are named; nil: they are not
	ours           []workload.Selection      // pods whose traffic is not captured; needs api
	log            zerolog.Logger
}

// ballast is never touched, so that it takes no memory, but counts as used for the
// garbage collector: that runs once in some 1,500 tunnels then, not once in 250.
const ballast = 16 << 20

// begin reads all that flags name, binds the listeners, opens the ledger and
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
	t := &trial{catalogs: catalogs, drain: p.drain, observe: s.observe, served: make(chan struct{}), isolated: s.isolated, canaries: make(chan string, 64), ballast: make([]byte, ballast)}
	t.index.Store(policy.NewIndex(catalogs...))
	config.Canary, _ = policy.ParseName(randomLabel() + ".canary.egressaudit.invalid") // always a name
	if err := t.open(p, &config, s); err != nil {
		t.shut()
		return nil, err
	}
	t.ways = up.ways
	t.describe(r, p, up.shown, config.Canary, s.noProxy)
	if err = up.checkLoop(t.listener.Addr().String()); err == nil {
		err = t.openLedger(p)
	}
	if err != nil {
		t.shut()
		return nil, err
	}
	t.follow(s, env.lookup(nodeVariable))
	t.serve(config, s)
	if err := t.names.loops(); err != nil {
		t.discard()
		return nil, err
	}
	err = t.sing()
	if err == nil {
		err = t.captures.lead() // now that all answers
	}
	if err != nil {
		t.discard()
		return nil, err
	}
	return t, nil
}

// open binds the listeners.
func (t *trial) open(p *path, config *proxy.Config, s settings) (err error) {
	if t.isolated != nil {
		return t.isolated.open(t, p, config)
	}
	if err = proxyDoor.named(s.listen, len(config.Clients) > 0); err != nil {
		return err
	}
	if t.listener, err = proxyDoor.tcp(s.listen); err != nil {
		return err
	}
	config.Own = s.own
	if err = t.captures.open(s.captures, config); err != nil {
		return err
	}
	if s.names.address == "" {
		err = s.names.idle()
	} else {
		err = t.names.open(p, s.names, config, t.sink)
	}
	if err != nil {
		return err
	}
	return t.plan(s.captures, config.Clients)
}

// shut closes the listeners that nobody serves yet.
func (t *trial) shut() {
	if t.listener != nil {
		t.listener.Close()
	}
	t.names.shut()
	t.captures.shut()
}

// describe says under which circumstances is observed, for the ledger.
func (t *trial) describe(r *required, p *path, parent string, canary policy.Name, noProxy []string) {
	t.session = policy.Session{
		Version: version(), Scopes: r.scopes, Regions: r.filled(), Set: r.others(), Mode: p.mode, Parent: parent,
		Listeners:  slices.Concat([]string{"connect " + t.listener.Addr().String()}, t.captures.listeners(), t.names.listeners(), t.isolated.listeners()),
		BlindSpots: t.isolated.blind(), Canary: canary.String(), NoProxy: noProxy, Limits: p.limitMap(), Catalogs: refs(t.catalogs),
	}
}

func refs(catalogs []*policy.Catalog) []policy.CatalogRef {
	var out []policy.CatalogRef
	for _, c := range catalogs {
		out = append(out, c.Ref())
	}
	return out
}

// serve starts the proxy and the name server.
func (t *trial) serve(config proxy.Config, s settings) {
	config.Index, config.Log, config.PrivateAllowed = t.index.Load(), s.log, s.privateAllowed
	config.Sink = t.sink
	t.proxy = proxy.New(config)
	go func() {
		defer close(t.served)
		t.broken = t.proxy.Serve(t.listener)
	}()
	t.names.serve()
	t.captures.serve(t, s.captures.keepClient)
	t.isolated.serve(t)
}

// record hands an observation to whoever looks, and to the ledger.
func (t *trial) record(o *policy.Observation) error {
	if o.Kind == policy.KindQuery {
		t.match(o)
	}
	if t.observe != nil {
		t.observe(o)
	}
	err := t.ledger.Append(o)
	if o.Origin == policy.OriginCanary {
		select {
		case t.canaries <- cameBy(o):
		default: // somebody else's, with our name
		}
	}
	return err
}

// cameBy is how an observation came, as sing calls it.
func cameBy(o *policy.Observation) string {
	if o.Protocol == "quic" {
		return o.Listener + "/udp"
	}
	return cmp.Or(o.Listener, o.Transport)
}

// match tells which endpoints a question is about: it has no port.
func (t *trial) match(o *policy.Observation) {
	n, err := policy.ParseName(o.Name)
	if err != nil {
		return
	}
	var room [8]*policy.Endpoint
	for _, e := range t.index.Load().Best(room[:0], n, 0) {
		o.Matches = append(o.Matches, e.Match())
	}
}

// relist takes other catalogs from now on: another session in the same ledger, in
// which the caller sings.
func (t *trial) relist(catalogs []*policy.Catalog, r *required) error {
	if err := t.sing(); err != nil {
		return err
	}
	stop := t.session
	t.session.Catalogs, t.session.Scopes, t.session.Regions, t.session.Set = refs(catalogs), r.scopes, r.filled(), r.others()
	start := t.session
	if err := t.ledger.Renew(&stop, &start); err != nil {
		return err
	}
	t.catalogs = catalogs
	t.index.Store(policy.NewIndex(catalogs...))
	t.proxy.List(t.index.Load())
	return nil
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

// end stops the listeners and closes the ledger; childStatus is that of run's
// command, nil for none. What could not be recorded is the error.
func (t *trial) end(drain context.Context, childStatus *int) error {
	passed := t.captures.pass()
	canary := t.sing()
	if canary != nil { // the report counts canaries, and this one may be one too few
		canary = errors.Join(canary, t.ledger.Miss(1, canary.Error()))
	}
	names := t.stop(drain)
	unnamed := t.cluster.end() // before the ledger is
	stop := t.session
	more, refused := t.isolated.end(t.ledger)
	stop.BlindSpots = slices.Concat(stop.BlindSpots, more, t.captures.unseen(), t.captures.own.blind(), unnamed)
	stop.ChildStatus = childStatus
	return errors.Join(t.broken, names, canary, refused, passed, t.captures.release(), t.ledger.Stop(&stop))
}

// stop stops the listeners; the error is why one of them had ended before.
func (t *trial) stop(drain context.Context) error {
	var done sync.WaitGroup
	done.Go(func() { t.proxy.Shutdown(drain) })
	err := errors.Join(t.names.stop(drain), t.captures.stop(drain))
	done.Wait()
	<-t.served
	return err
}

// discard ends a trial that never came to anything, and takes its ledger away
// unless that was there before.
func (t *trial) discard() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	t.stop(now)
	t.cluster.end()
	t.captures.release() // with an error to tell already
	t.ledger.Close()
	if t.fresh {
		os.Remove(t.path)
	}
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
