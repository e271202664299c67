package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

const host = "site.example.com"

// clientHello is the first message of a real client for a server name; "": for none.
func clientHello(name string) []byte {
	ours, theirs := net.Pipe()
	go func() {
		tls.Client(ours, &tls.Config{ServerName: name, InsecureSkipVerify: name == ""}).Handshake()
		ours.Close()
	}()
	b := make([]byte, 16<<10)
	n, _ := theirs.Read(b)
	theirs.Close()
	return b[:n]
}

// TestFirstAnswer: what a destination says counts by the client's protocol,
// whoever speaks first.
func TestFirstAnswer(t *testing.T) {
	tlsHello := string(clientHello(host))
	alert := "\x15\x03\x03\x00\x02\x02\x28" // handshake_failure
	page := "HTTP/1.1 403 Forbidden\r\nServer: FortiGate\r\nContent-Length: 0\r\n\r\n"
	for name, c := range map[string]struct {
		finding     int
		serverFirst bool
		says, reply string
		outcome     policy.Outcome
		stage       policy.Stage
		error       policy.Error
		protocol    string
	}{
		"alert to a whole hello":        {0, false, tlsHello, alert, policy.Failed, "hello", "tls_alert_received", "tls"},
		"alert to half a hello":         {0, false, tlsHello[:100], alert, policy.Failed, "hello", "tls_alert_received", "tls"},
		"page for half a hello":         {0, false, tlsHello[:100], page, policy.Failed, "hello", "not_tls_reply", "tls"},
		"page for a hello":              {0, false, tlsHello, page, policy.Failed, "hello", "not_tls_reply", "tls"},
		"page before a hello":           {0, true, tlsHello, page, policy.Failed, "hello", "not_tls_reply", "tls"},
		"text before a hello":           {0, true, tlsHello, "go away\n", policy.Failed, "hello", "not_tls_reply", "tls"},
		"status line for a request":     {0, false, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 403 Forbidden\r\nServer: nginx\r\n\r\n", policy.OK, "data", "", "http"},
		"a device's page for a request": {0, false, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", page, policy.Failed, "data", "http_block_page", "http"},
		"frames for an HTTP/2 preface":  {0, false, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x00\x00\x00\x04\x00\x00\x00\x00\x00", policy.OK, "data", "", "http"},
		"any byte for what is neither":  {0, false, "\x00\x01\x02", "\xff", policy.OK, "data", "", "other"},
		"a greeting and a word":         {0, true, "EHLO x\r\n", "220 mx ESMTP\r\n", policy.OK, "data", "", "other"},
		"a greeting for a mute client":  {0, true, "", "SSH-2.0-x\r\n", policy.OK, "data", "", "other"},
		"a greeting, then binary words": {0, true, "\x20\x00\x00\x01", "J\x00\x00\x00\x0a8.0", policy.OK, "data", "", "other"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			port := site(t, func(s *net.TCPConn) {
				if !c.serverFirst {
					io.ReadFull(s, make([]byte, len(c.says)))
				}
				io.WriteString(s, c.reply)
				io.Copy(io.Discard, s)
			})
			conn, in := r.connect(host, port)
			got := make([]byte, len(c.reply))
			if c.serverFirst {
				_, err := io.ReadFull(in, got)
				require.NoError(t, err)
			}
			_, err := io.WriteString(conn, c.says)
			require.NoError(t, err)
			if !c.serverFirst {
				_, err := io.ReadFull(in, got)
				require.NoError(t, err)
			}
			require.Equal(t, c.reply, string(got))
			conn.Close()
			o := r.one()
			require.Equal(t, []any{c.outcome, c.stage, c.error, c.protocol}, []any{o.Outcome, o.Stage, o.Error, o.Protocol}, "%+v", o)
			require.EqualValues(t, len(c.says), o.BytesUp)
			require.EqualValues(t, len(c.reply), o.BytesDown)
		})
	}
}

// TestClientLeavesABlackHole: a client that leaves sooner than the answer
// timeout proves nothing, and holds no place afterwards.
func TestClientLeavesABlackHole(t *testing.T) {
	deaf := make(chan struct{})
	port := site(t, func(*net.TCPConn) { <-deaf })
	t.Cleanup(func() { close(deaf) })
	r := newRig(t, nil)
	conn, _ := r.connect(host, port)
	conn.Write(clientHello(host))
	conn.Close()
	o := r.one()
	require.Equal(t, policy.Abandoned, o.Outcome)
	require.Equal(t, policy.StageHello, o.Stage)
}

// TestResetBehindCloseNotify: a destination that resets after its close_notify has
// ended the session; so does squid, where the client's close_notify crosses its own.
// Without one the same reset is a cut.
func TestResetBehindCloseNotify(t *testing.T) {
	known := httptest.NewTLSServer(nil)
	known.Close()
	certificates := known.TLS.Certificates
	for name, c := range map[string]struct {
		version uint16
		size    int
		parts   bool
	}{
		"TLS 1.2, parts":       {tls.VersionTLS12, 6, true},
		"TLS 1.2, is cut":      {tls.VersionTLS12, 6, false},
		"TLS 1.3, parts":       {tls.VersionTLS13, 6, true},
		"TLS 1.3, is cut":      {tls.VersionTLS13, 6, false},
		"bulk, parts":          {tls.VersionTLS13, 4 << 20, true},
		"bulk, is cut":         {tls.VersionTLS13, 4 << 20, false},
		"TLS 1.2, bulk, parts": {tls.VersionTLS12, 4 << 20, true},
	} {
		t.Run(name, func(t *testing.T) {
			read := make(chan struct{})
			port := site(t, func(s *net.TCPConn) {
				server := tls.Server(s, &tls.Config{Certificates: certificates, MaxVersion: c.version})
				io.ReadFull(server, make([]byte, 4))
				server.Write(make([]byte, c.size))
				if c.parts {
					server.CloseWrite()
				}
				<-read
				s.SetLinger(0)
				s.Close()
			})
			r := newRig(t, nil)
			conn, _ := r.connect(host, port)
			client := tls.Client(conn, &tls.Config{ServerName: host, InsecureSkipVerify: true})
			io.WriteString(client, "what")
			io.ReadFull(client, make([]byte, c.size))
			if c.parts {
				client.Read(make([]byte, 1)) // the close_notify
			}
			close(read)
			io.Copy(io.Discard, conn)
			conn.Close()
			o := r.one()
			if c.parts {
				require.Equal(t, okVerdict, o.Verdict, "%+v", o)
				return
			}
			require.Equal(t, policy.ConnectionTerminated, o.Error, "%+v", o)
			require.Equal(t, closeRST, o.Detail["close"])
		})
	}
}

// TestEnds: who ended first, and how, before and after the destination answered.
func TestEnds(t *testing.T) {
	word := "\x00word"
	reset := func(c *net.TCPConn) { c.SetLinger(0); c.Close() }
	shut := func(c *net.TCPConn) { c.Close() }
	half := func(c *net.TCPConn) { c.CloseWrite(); io.Copy(io.Discard, c) }
	for name, c := range map[string]struct {
		answers bool
		client  func(*net.TCPConn)
		server  func(*net.TCPConn)
		outcome policy.Outcome
		error   policy.Error
		close   any
	}{
		"server closes, nothing answered":       {false, nil, shut, policy.Failed, "connection_terminated", "fin"},
		"server half-closes, nothing answered":  {false, nil, half, policy.Failed, "connection_terminated", "fin"},
		"server resets, nothing answered":       {false, nil, reset, policy.Failed, "connection_terminated", "rst"},
		"client closes, nothing answered":       {false, shut, nil, policy.Abandoned, "", "fin"},
		"client resets, nothing answered":       {false, reset, nil, policy.Abandoned, "", "rst"},
		"client half-closes, nothing answered":  {false, half, nil, policy.Abandoned, "", "fin"},
		"server closes after its answer":        {true, nil, shut, policy.OK, "", nil},
		"server resets in the middle of data":   {true, nil, reset, policy.Failed, "connection_terminated", "rst"},
		"client closes after the answer":        {true, shut, nil, policy.OK, "", nil},
		"client resets after the answer":        {true, reset, nil, policy.OK, "", nil},
		"client half-closes, then server close": {true, half, shut, policy.OK, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			port := site(t, func(s *net.TCPConn) {
				io.ReadFull(s, make([]byte, len(word)))
				if c.answers {
					io.WriteString(s, word)
				}
				if c.server != nil && (c.client == nil || !c.answers) {
					c.server(s)
				}
				io.Copy(io.Discard, s)
			})
			conn, in := r.connect(host, port)
			_, err := io.WriteString(conn, word)
			require.NoError(t, err)
			if c.answers {
				_, err := io.ReadFull(in, make([]byte, len(word)))
				require.NoError(t, err)
			}
			if c.client != nil {
				c.client(conn)
			}
			io.Copy(io.Discard, in)
			conn.Close()
			o := r.one()
			require.Equal(t, []any{c.outcome, c.error}, []any{o.Outcome, o.Error}, "%+v", o)
			require.Equal(t, c.close, o.Detail["close"])
		})
	}
}

// TestSuspectAddress: whatever goes wrong at a private address that a listed
// public name resolved to is the resolver's (contract section 3).
func TestSuspectAddress(t *testing.T) {
	for name, c := range map[string]struct {
		finding int
		reply   string
	}{
		"ends":  {0, ""},
		"alert": {0, "\x15\x03\x03\x00\x02\x02\x28"},
		"page":  {0, "HTTP/1.1 302 Found\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			x := &tunnel{p: New(Config{Index: listing(443, "*.example.com")}), name: policy.MustName(host)}
			x.route.suspect = true
			x.saw(clientSide, clientHello(host), time.Now())
			if c.reply != "" {
				x.saw(serverSide, []byte(c.reply), time.Now())
			}
			x.over(serverSide, closeFIN)
			var o policy.Observation
			x.conclude(&o)
			require.Equal(t, policy.DNSSinkhole, o.Error)
			require.Equal(t, policy.Likely, o.Confidence)
		})
	}
}

// TestDrainBeforeAnAnswer: what we cut ourselves is not the client's doing.
func TestDrainBeforeAnAnswer(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Limits.AnswerTimeout = time.Minute })
	read := make(chan struct{})
	port := site(t, func(s *net.TCPConn) { s.Read(make([]byte, 10)); close(read); io.Copy(io.Discard, s) })
	conn, _ := r.connect(host, port)
	io.WriteString(conn, "\x00word")
	<-read
	r.shutdown()
	o := r.one()
	require.Equal(t, policy.Abandoned, o.Outcome)
	require.Equal(t, policy.BySelf, o.By)
	require.Equal(t, "drain", o.Detail["why"])
}

// TestNothingAfterTheEnd: a timer that fires late makes no record behind the
// closing one.
func TestNothingAfterTheEnd(t *testing.T) {
	r := newRig(t, nil)
	p := r.proxy
	ours, theirs := loop(t)
	x := &tunnel{p: p, client: ours, route: route{conn: theirs}, name: policy.MustName(host), o: p.begin(policy.KindConnection, "connect", addrOf(nil))}
	x.alarm = time.AfterFunc(time.Hour, x.tick)
	x.first = time.Now().Add(-time.Hour)
	x.touch()
	x.end()
	x.tick()
	require.Len(t, r.closing(1), 1)
	require.Len(t, r.seen, 1)
	require.False(t, x.alarm.Stop(), "no timer is left")
}

// loop is a connection to ourselves: both of its ends.
func loop(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l := listen(t)
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	s, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// TestVia: a loop through another proxy of our own kind ends, since CONNECT
// hands on the Via that came with it (RFC 9110 section 7.6.3: a proxy appends).
func TestVia(t *testing.T) {
	got := make(chan http.Header, 1)
	r := newRig(t, through(t, func(c *net.TCPConn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err == nil {
			got <- req.Header
		}
	}))
	r.say(http.MethodConnect, "CONNECT site.example.com:443 HTTP/1.1\r\nVia: 1.1 another\r\n\r\n")
	h := <-got
	require.Contains(t, h.Get("Via"), "1.1 another")
}

// TestCancelledWays: a look-up that the drain ends is our own doing, and the
// answer to the client is well-formed all the same.
func TestCancelledWays(t *testing.T) {
	asked := make(chan struct{})
	r := newRig(t, func(c *Config) {
		c.Resolve = func(ctx context.Context, _ policy.Name) policy.Resolution {
			close(asked)
			<-ctx.Done()
			return policy.Resolution{Timeout: true}
		}
	})
	conn := r.dial()
	io.WriteString(conn, "CONNECT site.example.com:443 HTTP/1.1\r\n\r\n")
	<-asked
	go r.shutdown()
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.NotContains(t, resp.Header.Get("Proxy-Status"), "error=;", "RFC 8941: a parameter without a value has no =")
	o := r.one()
	require.Equal(t, policy.BySelf, o.By)
}

// TestNamesOfAnAddress: a bare address goes by the name that DNS gave it for, or
// the server name where the client says one; neither allows what the address
// itself is refused for.
func TestNamesOfAnAddress(t *testing.T) {
	remember := func(c *Config) { c.Memory = known{"127.0.0.1": {"a.example.com", "b.example.org"}} }
	port := site(t, func(s *net.TCPConn) { io.Copy(s, s) })
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)).String()
	n := 0
	next := func(r *rig) policy.Observation { n++; return r.closing(n)[n-1] }
	echo := func(r *rig, says string) policy.Observation {
		conn, in := r.connect("127.0.0.1", port)
		io.WriteString(conn, says)
		io.ReadFull(in, make([]byte, len(says)))
		conn.Close()
		return next(r)
	}
	t.Run("observe", func(t *testing.T) {
		r := newRig(t, func(c *Config) { remember(c); c.Index = listing(port, "*.example.com") })
		o := echo(r, "\x00word")
		require.Equal(t, []any{"127.0.0.1", "a.example.com", "a.example.com", policy.FromDNS, policy.OK},
			[]any{o.Asked, o.Resolved, o.Name, o.NameFrom, o.Outcome}, "%+v", o)
		require.Equal(t, []string{"b.example.org"}, o.Detail["resolved_also"])
		require.Len(t, o.Matches, 1)
		require.True(t, o.WouldDeny, "the name tells, it does not allow")
		o = echo(r, string(clientHello("said.example.com")))
		require.Equal(t, []any{"a.example.com", "said.example.com", policy.FromSNI}, []any{o.Resolved, o.Name, o.NameFrom})
		_, _, resp := r.say("GET", "GET http://"+at+"/ HTTP/1.1\r\nHost: "+at+"\r\n\r\n")
		require.Equal(t, http.StatusBadGateway, resp.StatusCode, "an echo is no answer")
		o = next(r)
		require.Equal(t, []any{policy.KindRequest, "a.example.com", policy.FromDNS}, []any{o.Kind, o.Name, o.NameFrom})
	})
	t.Run("enforce", func(t *testing.T) {
		r := newRig(t, func(c *Config) { remember(c); c.Index = listing(port, "*.example.com"); c.Enforce = true })
		_, _, resp := r.say("CONNECT", "CONNECT "+at+" HTTP/1.1\r\nHost: "+at+"\r\n\r\n")
		require.Equal(t, http.StatusForbidden, resp.StatusCode)
		require.Equal(t, policy.Denied, r.one().Outcome)
		_, _, resp = r.say("GET", "GET http://"+at+"/ HTTP/1.1\r\nHost: "+at+"\r\n\r\n")
		require.Equal(t, http.StatusForbidden, resp.StatusCode)
	})
}

// known is a Memory: the names of addresses.
type known map[string][]string

func (k known) Names(a netip.Addr, _ time.Time) []string { return k[a.String()] }

func (k known) Elsewhere(name string, a netip.Addr, _ time.Time) bool {
	for addr, names := range k {
		if addr != a.String() && slices.Contains(names, name) {
			return !slices.Contains(k[a.String()], name)
		}
	}
	return false
}

func (k known) Unlinked(name string, a netip.Addr, _ time.Time) bool {
	return slices.Contains(k[a.String()], name)
}

// TestList: what is listed can be replaced while connections run.
func TestList(t *testing.T) {
	port := site(t, func(s *net.TCPConn) { io.Copy(s, s) })
	r := newRig(t, func(c *Config) { c.Enforce, c.Index = true, listing(port, "other.example.org") })
	target := policy.JoinPort(host, uint16(port))
	_, _, resp := r.say("CONNECT", "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n\r\n")
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
	r.one()
	r.proxy.List(listing(port, "*.example.com"))
	conn, _ := r.connect(host, port)
	conn.Close()
	require.Len(t, r.closing(2)[1].Matches, 1)
}

// TestOwnListeners: nobody is led to the program's other listeners, whatever is
// allowed.
func TestOwnListeners(t *testing.T) {
	port := site(t, func(s *net.TCPConn) { io.Copy(s, s) })
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
	r := newRig(t, func(c *Config) { c.Own = []netip.AddrPort{at} })
	_, _, resp := r.say("CONNECT", "CONNECT "+at.String()+" HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
	require.Equal(t, policy.DestinationProhibited, r.one().Error)
}

// TestSilentThenGone: who says nothing for --answer-timeout was silent, also where an
// end or a reset follows: a hello dropped on its way makes the destination give up.
func TestSilentThenGone(t *testing.T) {
	first := clientHello("one.example.org")
	for how, linger := range map[string]int{closeFIN: -1, closeRST: 0} {
		silent := make(chan struct{})
		port := site(t, func(s *net.TCPConn) {
			io.ReadFull(s, make([]byte, len(first)))
			<-silent
			s.SetLinger(linger)
			s.Close()
		})
		r := newRig(t, func(c *Config) { c.Limits.AnswerTimeout = 30 * time.Millisecond })
		conn, _ := r.connect(host, port)
		conn.Write(first)
		<-r.news // its silence, as an open record
		close(silent)
		io.Copy(io.Discard, conn)
		conn.Close()
		o := r.one()
		require.Equal(t, policy.Verdict{Outcome: policy.Failed, Stage: policy.StageHello, Error: policy.ConnectionReadTimeout, By: policy.ByNetwork, Confidence: policy.Certain}, o.Verdict, how)
		require.Equal(t, how, o.Detail["close"])
		require.GreaterOrEqual(t, o.Detail["silent_ms"], int64(30))
	}
}

// TestSilenceOfUpload: plain HTTP owes no answer while the request is on its way; a
// handshake does from its first bytes on.
func TestSilenceOfUpload(t *testing.T) {
	now := time.Now()
	head := []byte("PUT / HTTP/1.1\r\nHost: site.example.com\r\nContent-Length: 9\r\n\r\n")
	for name, c := range map[string]struct {
		first, then []byte
		ago         time.Duration
		outcome     policy.Outcome
	}{
		"flows":       {head, []byte("half"), 0, policy.Abandoned},
		"is whole":    {head, []byte("the whole"), 0, policy.Abandoned},
		"stalls":      {head, []byte("half"), 6 * time.Second, policy.Failed},
		"no HTTP":     {[]byte{0, 1, 2}, []byte{3}, 0, policy.Failed},
		"a handshake": {clientHello(host)[:100], clientHello(host)[100:], 0, policy.Failed},
	} {
		x := &tunnel{p: New(Config{Index: listing(443, "*.example.com")}), name: policy.MustName(host)}
		x.saw(clientSide, c.first, now.Add(-10*time.Second))
		x.saw(clientSide, c.then, now.Add(-c.ago))
		x.over(clientSide, closeFIN)
		var o policy.Observation
		x.conclude(&o)
		require.Equal(t, c.outcome, o.Outcome, name)
	}
}
