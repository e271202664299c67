package proxy

import (
	"bufio"
	"context"
	"errors"
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

	"github.com/egressaudit/egressaudit/policy"
)

// patience is how long a test waits for what must come: it costs nothing when
// all is well.
const patience = 5 * time.Second

// rig is a proxy on loopback, which reaches every name at loopback.
type rig struct {
	t       *testing.T
	proxy   *Proxy
	address string
	served  chan error

	mu   sync.Mutex
	seen []policy.Observation
	news chan struct{}
}

// newRig starts a proxy; change may alter its configuration.
func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, served: make(chan error, 1), news: make(chan struct{}, 1)}
	c := Config{
		Index: listing(443, "*.example.com"), Sink: r.take,
		Resolve: resolveTo("127.0.0.1"), Allowed: prefixes("127.0.0.0/8", "::1/128"), Probe: ProbeNever,
		Limits: Limits{AnswerTimeout: 300 * time.Millisecond, ConnectTimeout: time.Second, ParentTimeout: time.Second, Tunnels: 1000},
	}
	if change != nil {
		change(&c)
	}
	r.proxy = New(c)
	l := listen(t)
	r.address = l.Addr().String()
	go func() { r.served <- r.proxy.Serve(l) }()
	t.Cleanup(r.shutdown)
	return r
}

// shutdown cuts what is open.
func (r *rig) shutdown() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r.proxy.Shutdown(ctx)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// resolveTo answers every name with the addresses.
func resolveTo(addrs ...string) func(context.Context, policy.Name) policy.Resolution {
	res := policy.Resolution{RCode: "NOERROR", Upstream: "test"}
	for _, a := range addrs {
		res.Addrs = append(res.Addrs, netip.MustParseAddr(a))
	}
	return func(context.Context, policy.Name) policy.Resolution { return res }
}

// enforcing lists site.example.com at the port, and lets nothing else pass.
func enforcing(port int) func(*Config) {
	return func(c *Config) { c.Enforce, c.Index = true, listing(port, "*.example.com") }
}

// listing is an index of the hosts at one port.
func listing(port int, hosts ...string) *policy.Index {
	r := &policy.Requirement{ID: "all", Port: uint16(port)}
	for _, h := range hosts {
		p, err := policy.ParsePattern(h)
		if err != nil {
			panic(err)
		}
		r.Hosts = append(r.Hosts, p)
	}
	return policy.NewIndex(&policy.Catalog{Name: "test", Requirements: []*policy.Requirement{r}})
}

func (r *rig) take(o *policy.Observation) error {
	r.mu.Lock()
	r.seen = append(r.seen, *o)
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default:
	}
	return nil
}

// closing waits for n closing records, and returns all there are.
func (r *rig) closing(n int) []policy.Observation {
	r.t.Helper()
	late := time.After(patience)
	for {
		var out []policy.Observation
		r.mu.Lock()
		for _, o := range r.seen {
			if !o.Open {
				out = append(out, o)
			}
		}
		r.mu.Unlock()
		if len(out) >= n {
			return out
		}
		select {
		case <-r.news:
		case <-late:
			require.FailNow(r.t, "records are missing", "%d of %d: %+v", len(out), n, out)
		}
	}
}

// one waits for the closing record of the only connection.
func (r *rig) one() policy.Observation {
	r.t.Helper()
	return r.closing(1)[0]
}

// site runs serve for each connection, which is closed when it returns; it
// returns the port.
func site(t testing.TB, serve func(*net.TCPConn)) int {
	t.Helper()
	l := listen(t)
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				serve(c.(*net.TCPConn))
			})
		}
	})
	return l.Addr().(*net.TCPAddr).Port
}

// dial connects to the proxy.
func (r *rig) dial() *net.TCPConn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.address)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { c.Close() })
	require.NoError(r.t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

// say sends a text to the proxy, and reads a response to method.
func (r *rig) say(method, text string) (*net.TCPConn, *bufio.Reader, *http.Response) {
	r.t.Helper()
	c := r.dial()
	_, err := io.WriteString(c, text)
	require.NoError(r.t, err)
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	require.NoError(r.t, err)
	return c, in, resp
}

// connect asks for a tunnel to host and port, and gets it.
func (r *rig) connect(host string, port int) (*net.TCPConn, *bufio.Reader) {
	r.t.Helper()
	c, in, resp := r.say(http.MethodConnect, fmt.Sprintf("CONNECT %s:%d HTTP/1.1\r\nHost: x\r\n\r\n", host, port))
	require.Equal(r.t, http.StatusOK, resp.StatusCode)
	return c, in
}

// through makes every destination reached through a parent that handles
// connections by serve.
func through(t testing.TB, serve func(*net.TCPConn)) func(*Config) {
	u := &url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", site(t, serve)), User: url.UserPassword("alice", "s3cret")}
	return func(c *Config) { c.Parent = func(*url.URL) (*url.URL, error) { return u, nil } }
}

// origin answers each request with text.
func origin(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.Copy(io.Discard, req.Body)
			io.WriteString(c, text)
		}
	}
}

var errTest = errors.New("something else")
