package test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/dnsaudit"
	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy"
	"github.com/egressaudit/egressaudit/test/lab"
)

// patience is how long a test waits for what must come; reaching it is a
// failure, so it costs nothing when all is well.
const patience = 20 * time.Second

// rig is a proxy between the lab and a test's client.
type rig struct {
	t       *testing.T
	world   *lab.World
	proxy   *proxy.Proxy
	address string

	mu   sync.Mutex
	seen []policy.Observation
	news *sync.Cond
}

// options of a rig.
type options struct {
	rules    map[string]lab.Behaviour
	through  bool     // through the lab's parent
	parent   *url.URL // instead of the lab's
	listed   []string // endpoints, "host" or "host:port"; nil: all of example.com and what the lab has
	needs    []policy.Need
	change   func(*proxy.Config)
	password *url.Userinfo
}

func newRig(t *testing.T, o options) *rig {
	t.Helper()
	w, err := lab.Start(lab.Script{Rules: o.rules, Credentials: o.password})
	require.NoError(t, err)
	t.Cleanup(w.Close)
	r := &rig{t: t, world: w}
	r.news = sync.NewCond(&r.mu)
	resolver, err := dnsaudit.New(dnsaudit.Config{Servers: []dnsaudit.Upstream{{Addr: w.DNS()}}, Hosts: "/dev/null", Timeout: time.Second})
	require.NoError(t, err)
	c := proxy.Config{
		Index: index(t, o.listed, o.needs, w), Resolve: resolver.Resolve, Sink: r.take,
		Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, PrivateAllowed: true,
		Probe: proxy.ProbeSuspect, Roots: w.Roots(),
		Limits: proxy.Limits{AnswerTimeout: 300 * time.Millisecond, ConnectTimeout: 700 * time.Millisecond, ParentTimeout: time.Second, Tunnels: 1000},
	}
	if o.through {
		o.parent = w.Parent()
	}
	if o.parent != nil {
		c.Parent = func(*url.URL) (*url.URL, error) { return o.parent, nil }
	}
	if o.change != nil {
		o.change(&c)
	}
	r.proxy = proxy.New(c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.address = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- r.proxy.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		r.proxy.Shutdown(ctx)
		require.NoError(t, <-done)
	})
	return r
}

// index lists the hosts at every port that the lab stands in for.
func index(t *testing.T, hosts []string, needs []policy.Need, w *lab.World) *policy.Index {
	if hosts == nil {
		hosts = []string{"*.example.com"}
	}
	c := &policy.Catalog{Name: "test"}
	for _, port := range []uint16{443, 80, w.Port(443), w.Port(80)} {
		if port == 0 {
			continue
		}
		r := &policy.Requirement{ID: fmt.Sprint(port), Port: port, Needs: needs}
		for _, h := range hosts {
			p, err := policy.ParsePattern(h)
			require.NoError(t, err)
			r.Hosts = append(r.Hosts, p)
		}
		c.Requirements = append(c.Requirements, r)
	}
	return policy.NewIndex(c)
}

func (r *rig) take(o *policy.Observation) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, *o)
	r.news.Broadcast()
	return nil
}

// find waits for an observation that meets want.
func (r *rig) find(what string, want func(policy.Observation) bool) policy.Observation {
	r.t.Helper()
	late := time.AfterFunc(patience, r.news.Broadcast)
	defer late.Stop()
	begun := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for _, o := range r.seen {
			if want(o) {
				return o
			}
		}
		if time.Since(begun) >= patience {
			require.FailNow(r.t, "no observation", "%s among %+v", what, r.seen)
		}
		r.news.Wait()
	}
}

// closing waits for the closing record of a client's connection or request.
func (r *rig) closing() policy.Observation {
	r.t.Helper()
	return r.find("closing record", func(o policy.Observation) bool { return !o.Open && o.Origin == policy.OriginClient })
}

// target is where a test's client asks for a site: the stand-in port directly,
// the real one through the parent.
func (r *rig) target(host string, port uint16, through bool) string {
	if !through {
		port = r.world.Port(port)
	}
	return fmt.Sprintf("%s:%d", host, port)
}

// connect asks the proxy for a tunnel.
func (r *rig) connect(target string) (net.Conn, *http.Response) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.address)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { c.Close() })
	require.NoError(r.t, c.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target)
	require.NoError(r.t, err)
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	require.NoError(r.t, err)
	return &buffered{c.(*net.TCPConn), br}, resp
}

// buffered is a connection of which a reader has read some.
type buffered struct {
	*net.TCPConn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// client is how a test's TLS client is set up.
type client struct {
	version uint16
	lenient bool // accepts any certificate
	wait    time.Duration
}

// fetch makes a tunnel, a handshake and a request in it, and closes.
func (r *rig) fetch(target, host string, c client) (string, error) {
	r.t.Helper()
	raw, resp := r.connect(target)
	defer raw.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("CONNECT: %s", resp.Status)
	}
	if c.wait > 0 {
		raw.SetDeadline(time.Now().Add(c.wait))
	}
	conf := &tls.Config{ServerName: host, MinVersion: c.version, MaxVersion: c.version, InsecureSkipVerify: c.lenient, RootCAs: r.world.Roots()}
	t := tls.Client(raw, conf)
	if err := t.Handshake(); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(t, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host); err != nil {
		return "", err
	}
	b, err := io.ReadAll(t)
	return string(b), err
}
