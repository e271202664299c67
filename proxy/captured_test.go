package proxy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// redirected makes the rig take connections that were going to a port of
// 127.0.0.1, as if the kernel had redirected them; it returns a dialer. Port 0
// stands for a connection that nobody redirected.
func (r *rig) redirected(port int) func() *net.TCPConn {
	at := r.capture(port)
	return func() *net.TCPConn {
		c, err := net.Dial("tcp", at)
		require.NoError(r.t, err)
		r.t.Cleanup(func() { c.Close() })
		require.NoError(r.t, c.SetDeadline(time.Now().Add(patience)))
		return c.(*net.TCPConn)
	}
}

// turnedAway connects, and demands a reset before anything else.
func turnedAway(t *testing.T, at string) {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err == nil {
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		_, err = c.Read(make([]byte, 1))
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

// capture is redirected, and returns the address.
func (r *rig) capture(port int) string {
	l := listen(r.t)
	done := make(chan error, 1)
	go func() {
		done <- r.proxy.ServeCaptured(l, "redirect", func(*net.TCPConn) (netip.AddrPort, error) {
			if port == 0 {
				return netip.AddrPort{}, errors.New("it was not redirected")
			}
			return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)), nil
		})
	}()
	r.t.Cleanup(func() { r.shutdown(); require.NoError(r.t, <-done) })
	return l.Addr().String()
}

// TestCaptured: what was redirected goes on to where it was going, and is named by
// what it says.
func TestCaptured(t *testing.T) {
	get := "GET /secret HTTP/1.1\r\nHost: plain.example.com\r\n\r\n"
	for name, c := range map[string]struct {
		says, name string
		from       policy.NameFrom
		protocol   string
	}{
		"TLS":              {string(clientHello(host)), host, policy.FromSNI, "tls"},
		"TLS without name": {string(clientHello("")), "known.example.com", policy.FromDNS, "tls"},
		"HTTP":             {get, "plain.example.com", policy.FromHost, "http"},
		"something else":   {"\x00word", "known.example.com", policy.FromDNS, "other"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.Memory = known{"127.0.0.1": {"known.example.com"}} })
			port := site(t, func(s *net.TCPConn) { io.Copy(s, s) })
			conn := r.redirected(port)()
			io.WriteString(conn, c.says)
			_, err := io.ReadFull(conn, make([]byte, len(c.says)))
			require.NoError(t, err, "what went in came back")
			conn.Close()
			o := r.one()
			require.Equal(t, []any{"redirect", "127.0.0.1", c.name, c.from, c.protocol, uint16(port)},
				[]any{o.Listener, o.Asked, o.Name, o.NameFrom, o.Protocol, o.Port}, "%+v", o)
			require.Equal(t, fmt.Sprintf("127.0.0.1:%d", port), o.Address.String())
			require.EqualValues(t, len(c.says), o.BytesUp)
			require.NotContains(t, fmt.Sprint(o), "secret")
		})
	}
}

// TestCapturedServerFirst: nobody waits for a client that waits itself.
func TestCapturedServerFirst(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.FirstTimeout = time.Hour })
	port := site(t, func(s *net.TCPConn) { io.WriteString(s, "220 ready\r\n"); io.Copy(io.Discard, s) })
	conn := r.redirected(port)()
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "220 ready\r\n", line)
	conn.Close()
	require.Equal(t, policy.OK, r.one().Outcome)
}

// TestCapturedBody: plain HTTP that ends short of what it announced did not work,
// and a page of a device is still one. Answers are apart where the client asks again.
func TestCapturedBody(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	chunks := "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	lengthy := fmt.Sprintf("200 OK\r\nContent-Length: %d\r\n\r\n", len(long))
	for name, c := range map[string]struct {
		asks    string
		answers []string
		error   policy.Error
	}{
		"whole":                   {"GET", []string{"200 OK\r\nContent-Length: 4\r\n\r\nwhat"}, ""},
		"short":                   {"GET", []string{"200 OK\r\nContent-Length: 5\r\n\r\nwhat"}, policy.ConnectionTerminated},
		"two":                     {"GET", []string{"200 OK\r\nContent-Length: 4\r\n\r\nwhatHTTP/1.1 404 Not Found\r\n\r\n"}, ""},
		"to HEAD":                 {"HEAD", []string{"200 OK\r\nContent-Length: 5\r\n\r\n"}, ""},
		"to CONNECT":              {"CONNECT", []string{"200 OK\r\nContent-Length: 5\r\n\r\n"}, ""},
		"to the end":              {"GET", []string{"200 OK\r\n\r\nwhat"}, ""},
		"half a page":             {"GET", []string{"511 Sign In\r\nContent-Length: 5\r\n\r\nwhat"}, policy.HTTPBlockPage},
		"half a header":           {"GET", []string{"200 OK\r\nContent-Le"}, policy.ConnectionTerminated},
		"only an interim reply":   {"POST", []string{"100 Continue\r\n\r\n"}, policy.ConnectionTerminated},
		"chunks":                  {"GET", []string{chunks + "4\r\nwhat\r\n0\r\n\r\n"}, ""},
		"chunks, short":           {"GET", []string{chunks + "4\r\nwhat\r\n"}, policy.ConnectionTerminated},
		"a trailer":               {"GET", []string{chunks + "4\r\nwhat\r\n0\r\nX: y\r\n\r\n"}, ""},
		"half a trailer":          {"GET", []string{chunks + "4\r\nwhat\r\n0\r\nX: y\r\n"}, policy.ConnectionTerminated},
		"bulk":                    {"GET", []string{lengthy + long}, ""},
		"bulk, short":             {"GET", []string{lengthy + long[1:]}, policy.ConnectionTerminated},
		"bulk in chunks":          {"GET", []string{chunks + "100000\r\n" + long + "\r\n0\r\n\r\n"}, ""},
		"bulk in chunks, short":   {"GET", []string{chunks + "100000\r\n" + long + "\r\n"}, policy.ConnectionTerminated},
		"bulk in chunks, trailer": {"GET", []string{chunks + "100000\r\n" + long + "\r\n0\r\nX: y\r\n\r\n"}, ""},
		"second, whole":           {"GET", []string{"200 OK\r\nContent-Length: 4\r\n\r\nwhat", chunks + "0\r\n\r\n"}, ""},
		"second, short":           {"GET", []string{"200 OK\r\nContent-Length: 4\r\n\r\nwhat", "200 OK\r\nContent-Length: 5\r\n\r\nwhat"}, policy.ConnectionTerminated},
		"second, behind bulk": {"GET", []string{lengthy + long, chunks + "100000\r\n" + long + "\r\n0\r\n\r\n", "304 Not Modified\r\nContent-Length: 9\r\n\r\n",
			lengthy + long, "200 OK\r\nContent-Length: 5\r\n\r\nwhat"}, policy.ConnectionTerminated},
		"an upgrade": {"GET", []string{"101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			port := site(t, func(s *net.TCPConn) {
				for _, a := range c.answers {
					s.Read(make([]byte, 4096))
					io.WriteString(s, "HTTP/1.1 "+a)
				}
				s.Close()
			})
			conn := r.redirected(port)()
			for _, a := range c.answers {
				fmt.Fprintf(conn, "%s / HTTP/1.1\r\nHost: plain.example.com\r\n\r\n", c.asks)
				got := make([]byte, len("HTTP/1.1 "+a))
				_, err := io.ReadFull(conn, got)
				require.NoError(t, err)
				require.Equal(t, "HTTP/1.1 "+a, string(got))
			}
			rest, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.Empty(t, rest)
			conn.Close()
			o := r.one()
			require.Equal(t, c.error, o.Error, "%+v", o)
			if c.error == policy.ConnectionTerminated {
				require.Equal(t, []any{policy.Failed, policy.StageData, policy.ByNetwork, policy.Certain, "fin"},
					[]any{o.Outcome, o.Stage, o.By, o.Confidence, o.Detail["close"]})
			}
		})
	}
}

// TestCapturedFailure: a destination that cannot be reached is named by the
// client's first bytes all the same, and the client is reset.
func TestCapturedFailure(t *testing.T) {
	l := listen(t)
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	r := newRig(t, nil)
	conn := r.redirected(port)()
	conn.Write(clientHello(host))
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	o := r.one()
	require.Equal(t, []any{policy.Failed, policy.StageConnect, policy.ConnectionRefused, host, policy.FromSNI, policy.SNIPresent},
		[]any{o.Outcome, o.Stage, o.Error, o.Name, o.NameFrom, o.SNIState}, "%+v", o)
	require.Zero(t, o.BytesUp)

	silent := r.redirected(port)()
	_, err = silent.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET, "a client that says nothing is not kept")
	o = r.closing(2)[1]
	require.Equal(t, []any{"127.0.0.1", policy.FromAddress, "none"}, []any{o.Name, o.NameFrom, o.Protocol})
}

// TestCapturedSinkhole: what goes wrong at a private address that DNS gave for a
// listed name is the resolver's, whether the destination was reached or not; where
// DNS said nothing of the kind, or nothing went wrong, it is not.
func TestCapturedSinkhole(t *testing.T) {
	for name, c := range map[string]struct {
		answer, goes string
		says         []byte
		sunk         bool
	}{
		"private":         {"10.1.2.3", "10.1.2.3", clientHello(host), true},
		"unique local":    {"fd00::1", "fd00::1", clientHello(host), true},
		"public":          {"192.0.2.1", "192.0.2.1", clientHello(host), false},
		"another address": {"10.1.2.3", "10.1.2.4", clientHello(host), false},
		"unlisted":        {"10.1.2.3", "10.1.2.3", clientHello("www.example.org"), false},
	} {
		captured := func() *tunnel {
			x := &tunnel{
				p:    New(Config{Index: listing(443, "*.example.com"), Memory: known{c.answer: {host, "www.example.org"}}}),
				name: policy.MustName(c.goes),
			}
			x.o = policy.Observation{Listener: "redirect", Port: 443, Address: netip.AddrPortFrom(netip.MustParseAddr(c.goes), 443)}
			return x
		}
		t.Run(name+", reached", func(t *testing.T) {
			x := captured()
			x.saw(clientSide, c.says, time.Now())
			x.over(serverSide, closeRST)
			x.describe(&x.o)
			x.conclude(&x.o)
			require.Equal(t, c.sunk, x.o.Error == policy.DNSSinkhole, "%+v", x.o)
			require.Equal(t, policy.Failed, x.o.Outcome)
		})
		t.Run(name+", not reached", func(t *testing.T) {
			x := captured()
			x.o.Verdict = failed(policy.StageConnect, policy.ConnectionTimeout, policy.ByNetwork, policy.Certain)
			conn, err := net.Dial("tcp", listen(t).Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			x.client = conn.(*net.TCPConn)
			x.unreached(c.says)
			require.Equal(t, c.sunk, x.o.Error == policy.DNSSinkhole, "%+v", x.o)
			if c.sunk {
				require.Equal(t, []any{policy.StageResolve, policy.ByResolver, policy.Likely, "connection_timeout"},
					[]any{x.o.Stage, x.o.By, x.o.Confidence, x.o.Detail["then"]})
			}
		})
	}
}

// TestCapturedCertificate: the certificate shown to a client that left without a
// word must be for the name that it said. Where it said none, which one it expected
// is not known, and only who signed it counts.
func TestCapturedCertificate(t *testing.T) {
	store := httptest.NewUnstartedServer(nil) // a certificate for *.example.com
	store.StartTLS()
	defer store.Close()
	known, none := x509.NewCertPool(), x509.NewCertPool()
	known.AddCert(store.Certificate())
	for name, c := range map[string]struct {
		roots  *x509.CertPool
		sni    string
		direct bool // around a parent that is dead
		error  policy.Error
	}{
		"its name":                   {known, host, false, ""},
		"another name":               {known, "www.example.org", false, policy.TLSAlertReceived},
		"no name":                    {known, "", false, ""},
		"no name, another authority": {none, "", false, policy.TLSIntercepted},
		"around the parent":          {none, host, true, policy.TLSIntercepted},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(config *Config) {
				config.Probe, config.Roots, config.CapturedDirect = ProbeSuspect, c.roots, c.direct
				if c.direct {
					config.Parent = func(*url.URL) (*url.URL, error) { return url.Parse("http://127.0.0.1:1") }
				}
			})
			port := site(t, func(s *net.TCPConn) {
				conn := tls.Server(s, &tls.Config{Certificates: store.TLS.Certificates})
				if conn.Handshake() == nil {
					conn.Read(make([]byte, 1))
				}
			})
			conn := r.redirected(port)()
			client := tls.Client(conn, &tls.Config{ServerName: c.sni, InsecureSkipVerify: true})
			require.NoError(t, client.Handshake())
			conn.Close() // without a word
			records := r.closing(2)
			require.Equal(t, policy.OriginProbe, records[0].Origin)
			require.Equal(t, c.sni, records[0].SNI)
			require.Equal(t, c.error, records[1].Error, "%+v", records[1])
		})
	}
}

// TestCapturedAroundParent: a name that leads around the parent does so for captured
// connections, too; what says none, and what an address leads around, go as before.
func TestCapturedAroundParent(t *testing.T) {
	port := site(t, func(s *net.TCPConn) { io.Copy(s, s) })
	for name, c := range map[string]struct {
		byName, address bool
		says            string
		direct          bool
	}{
		"TLS":                     {true, false, string(clientHello("a.inside.example.com")), true},
		"HTTP":                    {true, false, "GET / HTTP/1.1\r\nHost: a.inside.example.com:80\r\n\r\n", true},
		"another name":            {true, false, string(clientHello(host)), false},
		"an address for a name":   {true, false, "GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", false},
		"neither":                 {true, false, "\x00word", false},
		"names are not asked for": {false, false, string(clientHello("a.inside.example.com")), false},
		"the address":             {true, true, string(clientHello(host)), true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(config *Config) {
				config.ParentByName = c.byName
				config.Parent = func(u *url.URL) (*url.URL, error) {
					if strings.HasSuffix(u.Hostname(), ".inside.example.com") || u.Hostname() == "192.0.2.1" || c.address && u.Hostname() == "127.0.0.1" {
						return nil, nil
					}
					return url.Parse("http://127.0.0.1:1")
				}
			})
			conn := r.redirected(port)()
			io.WriteString(conn, c.says)
			_, err := io.ReadFull(conn, make([]byte, len(c.says)))
			conn.Close()
			o := r.one()
			if c.direct {
				require.NoError(t, err, "what went in came back")
				require.Equal(t, true, o.Detail["direct"])
				return
			}
			require.Equal(t, []any{policy.StageParent, policy.ConnectionRefused}, []any{o.Stage, o.Error}, "%+v", o)
		})
	}
	r := newRig(t, func(c *Config) {
		c.ParentByName, c.CapturedDirect = true, true
		c.Parent = func(*url.URL) (*url.URL, error) { return url.Parse("http://127.0.0.1:1") }
	})
	greets := site(t, func(s *net.TCPConn) { io.WriteString(s, "220 ready\r\n") })
	line, err := bufio.NewReader(r.redirected(greets)()).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "220 ready\r\n", line, "where all go around it, nobody waits for a name")
}

// TestCapturedAstray: a server name that DNS gave other addresses is told.
func TestCapturedAstray(t *testing.T) {
	for name, astray := range map[string]bool{"here.example.com": false, "there.example.com": true, "never.example.com": false} {
		r := newRig(t, func(c *Config) {
			c.Memory = known{"127.0.0.1": {"here.example.com"}, "192.0.2.1": {"there.example.com"}}
		})
		conn := r.redirected(site(t, func(s *net.TCPConn) { io.Copy(s, s) }))()
		hello := clientHello(name)
		conn.Write(hello)
		io.ReadFull(conn, make([]byte, len(hello)))
		conn.Close()
		require.Equal(t, astray, r.one().Detail["sni_elsewhere"] == true, name)
	}
}

// TestCapturedStray: who comes to the listener itself is led nowhere; the canary
// is known by its name.
func TestCapturedStray(t *testing.T) {
	r := newRig(t, nil)
	dial := r.redirected(0)
	for i, c := range []struct {
		name   string
		origin policy.Origin
		error  policy.Error
	}{
		{"x.canary.egressaudit.invalid", policy.OriginCanary, policy.HTTPRequestDenied},
		{host, policy.OriginClient, policy.DestinationProhibited},
	} {
		conn := dial()
		conn.Write(clientHello(c.name))
		_, err := conn.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
		o := r.closing(i + 1)[i]
		require.Equal(t, []any{c.origin, policy.Denied, c.error, c.name}, []any{o.Origin, o.Outcome, o.Error, o.Name}, "%+v", o)
	}
}

// TestCapturedStraysAreBounded: who comes to the listener itself counts against the
// limits while its first bytes are waited for, and a stranger is not waited for.
func TestCapturedStraysAreBounded(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.Tunnels = 1 })
	at := r.capture(0)
	first, err := net.Dial("tcp", at)
	require.NoError(t, err)
	defer first.Close()
	require.Eventually(t, func() bool { return r.proxy.Open() == 1 }, patience, time.Millisecond)
	turnedAway(t, at)
	require.Equal(t, policy.ConnectionLimitReached, r.one().Error)
}

// TestCapturedClients: only --clients are carried, and no more than the limit.
func TestCapturedClients(t *testing.T) {
	port := site(t, func(s *net.TCPConn) { io.Copy(s, s) })
	r := newRig(t, func(c *Config) { c.Clients = prefixes("192.0.2.0/24") })
	turnedAway(t, r.capture(port))
	require.Equal(t, policy.HTTPRequestDenied, r.one().Error)

	r = newRig(t, func(c *Config) { c.Limits.Tunnels = 1 })
	at := r.capture(port)
	first, err := net.Dial("tcp", at)
	require.NoError(t, err)
	defer first.Close()
	io.WriteString(first, "word")
	io.ReadFull(first, make([]byte, 4))
	turnedAway(t, at)
	require.Equal(t, policy.ConnectionLimitReached, r.one().Error)
}

// TestCapturedGuard: private ranges can be reached by captured clients anyway,
// loopback and metadata cannot.
func TestCapturedGuard(t *testing.T) {
	port := site(t, func(s *net.TCPConn) { io.Copy(s, s) })
	r := newRig(t, func(c *Config) { c.Allowed = nil })
	_, err := r.redirected(port)().Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Equal(t, policy.DestinationProhibited, r.one().Error)
}

// TestCapturedThrough: a destination that the operator named passes guard, mode and
// parent; its neighbour does not.
func TestCapturedThrough(t *testing.T) {
	port := site(t, func(s *net.TCPConn) { io.Copy(s, s) })
	r := newRig(t, func(c *Config) {
		c.Allowed, c.Enforce, c.Limits.FirstTimeout = nil, true, 100*time.Millisecond
		c.Through = []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))}
		c.Parent = func(*url.URL) (*url.URL, error) { return url.Parse("http://127.0.0.1:1") }
	})
	conn := r.redirected(port)()
	conn.Write(clientHello("other.example.org"))
	_, err := io.ReadFull(conn, make([]byte, 5))
	require.NoError(t, err)
	conn.Close()
	o := r.one()
	require.NotEqual(t, policy.Denied, o.Outcome)
	require.False(t, o.WouldDeny)
	require.Equal(t, true, o.Detail["direct"])

	r = newRig(t, func(c *Config) {
		c.CapturedDirect = true
		c.Parent = func(*url.URL) (*url.URL, error) { return url.Parse("http://127.0.0.1:1") }
	})
	conn = r.redirected(port)()
	io.WriteString(conn, "words")
	_, err = io.ReadFull(conn, make([]byte, 5))
	require.NoError(t, err)
	conn.Close()
	require.Equal(t, policy.OK, r.one().Outcome, "around the parent")

	g := guard{through: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:6443")}}
	g.listen(netip.MustParseAddrPort("0.0.0.0:6443"))
	require.Equal(t, public, g.judge(netip.MustParseAddrPort("[::ffff:127.0.0.1]:6443")))
	require.Equal(t, prohibited, g.judge(netip.MustParseAddrPort("127.0.0.2:6443")), "our own listener")
	require.Equal(t, local, g.judge(netip.MustParseAddrPort("127.0.0.1:6444")))
}

// TestCapturedEnforce: what is not listed is refused in its own protocol, before
// anything went out.
func TestCapturedEnforce(t *testing.T) {
	var dialled atomic.Int32
	port := site(t, func(s *net.TCPConn) { dialled.Add(1); io.Copy(s, s) })
	enforce := func(hosts ...string) *rig {
		return newRig(t, func(c *Config) {
			c.Enforce, c.Index, c.Limits.FirstTimeout = true, listing(port, hosts...), 100*time.Millisecond
		})
	}
	refused := func(r *rig, says string) (told []byte, err error) {
		conn := r.redirected(port)()
		io.WriteString(conn, says)
		told, err = io.ReadAll(conn)
		require.Equal(t, policy.HTTPRequestDenied, r.one().Error)
		return told, err
	}
	told, err := refused(enforce("*.example.com"), string(clientHello("other.example.org")))
	require.NoError(t, err)
	require.Equal(t, accessDenied, told)

	told, err = refused(enforce("*.example.com"), "GET / HTTP/1.1\r\nHost: other.example.org\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(told))), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, resp.StatusCode)

	told, err = refused(enforce("*.example.com"), string(clientHello("")))
	require.NoError(t, err)
	require.Equal(t, accessDenied, told)

	for _, says := range []string{"\x00word", ""} {
		_, err = refused(enforce("*.example.com"), says)
		require.ErrorIs(t, err, syscall.ECONNRESET, "%q", says)
	}
	require.Zero(t, dialled.Load(), "nothing went out")

	for _, says := range []string{string(clientHello(host)), "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n"} {
		r := enforce("*.example.com")
		conn := r.redirected(port)()
		io.WriteString(conn, says)
		_, err = io.ReadFull(conn, make([]byte, len(says)))
		require.NoError(t, err)
		conn.Close()
		require.Equal(t, host, r.one().Name)
	}
	r := enforce("127.0.0.1") // listed by its address: a server may speak first
	conn := r.redirected(port)()
	io.WriteString(conn, "\x00word")
	_, err = io.ReadFull(conn, make([]byte, 5))
	require.NoError(t, err)
}

// TestCapturedHeldLeaves: a client that leaves before it has said a name was denied
// nothing.
func TestCapturedHeldLeaves(t *testing.T) {
	for _, says := range []string{"", "\x16\x03\x01"} {
		r := newRig(t, enforcing(443))
		conn := r.redirected(9)()
		io.WriteString(conn, says)
		conn.Close()
		o := r.one()
		require.Equal(t, policy.Verdict{Outcome: policy.Abandoned, Stage: policy.StagePolicy, By: policy.ByClient}, o.Verdict, "%q", says)
	}
}

// TestCapturedHeldAtTheEnd: whoever is held when all is cut is let go at once, and
// was denied nothing.
func TestCapturedHeldAtTheEnd(t *testing.T) {
	r := newRig(t, func(c *Config) { enforcing(443)(c); c.Limits.FirstTimeout = time.Hour })
	conn := r.redirected(9)()
	for r.proxy.Open() == 0 {
		runtime.Gosched()
	}
	r.shutdown()
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	o := r.one()
	require.Equal(t, policy.Verdict{Outcome: policy.Abandoned, Stage: policy.StagePolicy, By: policy.BySelf}, o.Verdict)
	require.Equal(t, "drain", o.Detail["why"])
}

// TestJudgeFlow: UDP flows are named, and judged, as connections are.
func TestJudgeFlow(t *testing.T) {
	flow := func(sni, to string) *policy.Observation {
		at := netip.MustParseAddrPort(to)
		return &policy.Observation{Client: netip.MustParseAddrPort("127.0.0.1:4000"), Address: at, Port: at.Port(), SNI: sni, Begun: time.Now()}
	}
	for name, c := range map[string]struct {
		change func(*Config)
		flow   *policy.Observation
		pass   bool
		error  policy.Error
		name   string
		listed int
	}{
		"observe, listed":     {nil, flow("a.example.com", "192.0.2.1:443"), true, "", "a.example.com", 1},
		"observe, not listed": {nil, flow("a.example.org", "192.0.2.1:443"), true, "", "a.example.org", 0},
		"no server name":      {nil, flow("", "192.0.2.1:443"), true, "", "192.0.2.1", 0},
		"enforce, listed":     {func(c *Config) { c.Enforce = true }, flow("a.example.com", "192.0.2.1:443"), true, "", "a.example.com", 1},
		"enforce, not listed": {func(c *Config) { c.Enforce = true }, flow("a.example.org", "192.0.2.1:443"), false, policy.HTTPRequestDenied, "a.example.org", 0},
		"enforce, no name":    {func(c *Config) { c.Enforce = true }, flow("", "192.0.2.1:443"), false, policy.HTTPRequestDenied, "192.0.2.1", 0},
		"refused":             {func(c *Config) { c.RefuseQUIC = true }, flow("a.example.com", "192.0.2.1:443"), false, policy.HTTPRequestDenied, "a.example.com", 1},
		"metadata":            {nil, flow("a.example.com", "169.254.169.254:443"), false, policy.DestinationProhibited, "a.example.com", 1},
		"a block page":        {func(c *Config) { c.BlockPages = prefixes("192.0.2.0/24") }, flow("a.example.com", "192.0.2.1:443"), false, policy.DNSSinkhole, "a.example.com", 1},
		"a stranger":          {func(c *Config) { c.Clients = prefixes("192.0.2.0/24") }, flow("a.example.com", "192.0.2.1:443"), false, policy.HTTPRequestDenied, "a.example.com", 1},
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{Index: listing(443, "*.example.com")}
			if c.change != nil {
				c.change(&config)
			}
			p := New(config)
			require.Equal(t, c.pass, p.JudgeFlow(c.flow))
			id := c.flow.ID
			p.JudgeFlow(c.flow)
			require.Equal(t, id, c.flow.ID, "asked again")
			require.Equal(t, []any{c.error, c.name, c.listed}, []any{c.flow.Error, c.flow.Name, len(c.flow.Matches)})
			require.Equal(t, c.flow.Outcome != policy.Denied, c.flow.Decision == policy.Allow)
		})
	}
}

// TestCapturedBlockPage: whoever was sent to the block page is told so under the
// name in its hello, and not led there.
func TestCapturedBlockPage(t *testing.T) {
	port := site(t, func(s *net.TCPConn) { io.Copy(s, s) })
	r := newRig(t, func(c *Config) { c.Allowed, c.BlockPages = nil, prefixes("127.0.0.1/32") })
	conn := r.redirected(port)()
	conn.Write(clientHello("one.example.org"))
	io.Copy(io.Discard, conn)
	o := r.one()
	require.Equal(t, policy.DNSSinkhole, o.Error)
	require.Equal(t, policy.ByResolver, o.By)
	require.Equal(t, "one.example.org", o.Name)
	require.Equal(t, []string{"127.0.0.1"}, o.Detail["addresses"])
}
