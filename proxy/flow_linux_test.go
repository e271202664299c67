package proxy

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/egressaudit/egressaudit/policy"
)

// TestBulkBothWays: megabytes in both directions at once, with a reader that first
// lets everything before it fill up, arrive whole and are counted to the octet.
func TestBulkBothWays(t *testing.T) {
	const size = 8 << 20
	want := sha256.Sum256(noise(size))
	sum := func(r io.Reader) ([32]byte, error) {
		h := sha256.New()
		_, err := io.Copy(h, r)
		return [32]byte(h.Sum(nil)), err
	}
	got := make(chan [32]byte, 1)
	port := site(t, func(s *net.TCPConn) {
		s.Write(noise(size))
		s.CloseWrite()
		b, _ := sum(s) // what the client sent waits until here
		got <- b
	})
	r := newRig(t, nil)
	c, in := r.connect(host, port)
	go func() { c.Write(noise(size)); c.CloseWrite() }()
	down, err := sum(in)
	require.NoError(t, err)
	require.Equal(t, want, down)
	require.Equal(t, want, <-got)
	o := r.one()
	require.Equal(t, []int64{size, size}, []int64{o.BytesUp, o.BytesDown})
	require.Equal(t, policy.OK, o.Outcome)
}

// noise is the same n octets each time.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// TestDestinationGoneInBulk: a destination that resets while the kernel moves bytes
// leaves no pipe behind with what nobody took.
func TestDestinationGoneInBulk(t *testing.T) {
	r := newRig(t, nil)
	port := site(t, func(s *net.TCPConn) {
		s.Write([]byte("x"))
		io.CopyN(io.Discard, s, 1<<20)
		s.SetLinger(0)
	})
	round := func() {
		c, _ := r.connect(host, port)
		for b := noise(64 << 10); ; {
			if _, err := c.Write(b); err != nil {
				break
			}
		}
		c.Close()
	}
	round()
	r.one()
	base := descriptorsOpen(t)
	for range 20 {
		round()
	}
	seen := r.closing(21)
	settles(t, base, func() int { return descriptorsOpen(t) })
	for range spare { // the pipes that were kept are empty
		p := takePipe()
		n, err := unix.Read(p.r, make([]byte, 1))
		require.Equal(t, unix.EAGAIN, err, "%d octets", n)
		p.close()
	}
	for _, o := range seen {
		require.Equal(t, closeRST, o.Detail["close"], "%+v", o)
	}
}

// descriptorsOpen counts descriptors, but the pipes that are kept for later.
func descriptorsOpen(t testing.TB) int {
	for {
		select {
		case p := <-pipes:
			p.close()
			continue
		default:
		}
		break
	}
	all, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(all)
}

// settles waits until count is back at base.
func settles(t *testing.T, base int, count func() int) {
	t.Helper()
	now := 0
	if !assert.Eventually(t, func() bool { now = count(); return now <= base }, patience, 5*time.Millisecond) {
		stacks := make([]byte, 1<<20)
		require.FailNow(t, "something is left", "%d, and %d before\n%s", now, base, stacks[:runtime.Stack(stacks, true)])
	}
}

// TestNothingLeaks sends connections of every kind, and demands exactly one closing
// record for each, with an ID of its own, and every goroutine, descriptor and
// place back.
func TestNothingLeaks(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a finalizer would hide a connection that nobody closed
	refused := listen(t)
	gone := refused.Addr().(*net.TCPAddr).Port
	refused.Close()
	echo := site(t, func(s *net.TCPConn) { io.Copy(struct{ io.Writer }{s}, s) }) // without the pipes that package net keeps
	resets := site(t, func(s *net.TCPConn) { s.Read(make([]byte, 10)); s.SetLinger(0) })
	web := site(t, origin("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	short := site(t, origin("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"))
	odd := site(t, origin("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"))
	source := site(t, func(s *net.TCPConn) { s.Write(make([]byte, 4<<20)) })
	r := newRig(t, nil)
	tunnel := func(port int) string { return fmt.Sprintf("CONNECT %s:%d HTTP/1.1\r\nHost: x\r\n\r\n", host, port) }
	kinds := []struct {
		says  string
		leave bool // at once
	}{
		{tunnel(echo) + "\x00hello", false},
		{tunnel(echo), true},
		{tunnel(resets) + "\x00hello", false},
		{tunnel(gone), false},
		{tunnel(gone), true},
		{tunnel(source), false},
		{tunnel(source), true},
		{tunnel(echo) + string(clientHello(host)[:50]), false},
		{"CONNECT 127.1:443 HTTP/1.1\r\n\r\n", false},
		{"CONNECT 169.254.169.254:80 HTTP/1.1\r\n\r\n", false},
		{"CONNECT x.canary.egressaudit.invalid:443 HTTP/1.1\r\n\r\n", false},
		{"CONNECT [fe80::1%25eth0]:443 HTTP/1.1\r\n\r\n", false},
		{"CONNECT si", true},
		{get(web, "Connection: close"), false},
		{get(web), true},
		{get(resets, "Connection: close"), false},
		{get(gone, "Connection: close"), false},
		{get(short, "Connection: close"), false},
		{get(odd, "Connection: close"), false},
		{"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false},
		{"GET / HTTP/1.1\r\n\r\n", false},
		{"no HTTP at all\r\n\r\n", false},
		{"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 80<<10) + "\r\n\r\n", false},
	}
	round := func(n int) {
		var all sync.WaitGroup
		for i := range n {
			k := kinds[i%len(kinds)]
			all.Go(func() {
				c, err := net.Dial("tcp", r.address)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				io.WriteString(c, k.says)
				if k.leave {
					return
				}
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c)
			})
			if i%20 == 19 {
				all.Wait()
			}
		}
		all.Wait()
	}
	warm := len(kinds)
	round(warm)
	r.closing(warm)
	settles(t, 0, func() int { r.proxy.mu.Lock(); defer r.proxy.mu.Unlock(); return r.proxy.Open() + len(r.proxy.tunnels) })
	var descriptors, goroutines int
	require.Eventually(t, func() bool { // the last round's ends
		d, g := descriptorsOpen(t), runtime.NumGoroutine()
		same := d == descriptors && g == goroutines
		descriptors, goroutines = d, g
		return same
	}, patience, 50*time.Millisecond)

	const more = 200
	round(more)
	r.closing(warm + more)
	settles(t, descriptors, func() int { return descriptorsOpen(t) })
	settles(t, goroutines, runtime.NumGoroutine)
	settles(t, 0, func() int {
		r.proxy.mu.Lock()
		defer r.proxy.mu.Unlock()
		r.proxy.carried.mu.Lock()
		defer r.proxy.carried.mu.Unlock()
		return r.proxy.carried.all + len(r.proxy.carried.of) + len(r.proxy.tunnels)
	})
	seen := r.closing(warm + more)
	require.Len(t, seen, warm+more, "one record for each connection")
	ids := map[string]bool{}
	for _, o := range seen {
		require.False(t, ids[o.ID], "%s twice", o.ID)
		ids[o.ID] = true
		require.NotEmpty(t, o.Outcome)
		require.NotEmpty(t, o.Decision)
		require.Equal(t, policy.OriginCanary == o.Origin, strings.HasSuffix(o.Name, canaryDomain))
	}
}

// TestShutdownDuringTraffic: when Shutdown returns, there is a record for each
// connection that was answered, and none comes later.
func TestShutdownDuringTraffic(t *testing.T) {
	port := site(t, func(s *net.TCPConn) { io.Copy(s, s) })
	for range 20 {
		r := newRig(t, nil)
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				c, err := net.Dial("tcp", r.address)
				if err != nil {
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				if i%2 == 0 {
					fmt.Fprintf(c, "CONNECT %s:%d HTTP/1.1\r\n\r\n", host, port)
				} else {
					io.WriteString(c, "GET / HT") // its header never ends
				}
				io.Copy(io.Discard, c)
			})
		}
		r.shutdown()
		r.mu.Lock()
		n := len(r.seen)
		r.mu.Unlock()
		all.Wait()
		r.mu.Lock()
		require.Len(t, r.seen, n, "a record behind Shutdown")
		r.mu.Unlock()
	}
}

// BenchmarkTunnel opens a tunnel, sends a word both ways and closes it.
func BenchmarkTunnel(b *testing.B) {
	port := site(b, func(s *net.TCPConn) { io.Copy(s, s) })
	address := benchProxy(b)
	request := fmt.Appendf(nil, "CONNECT %s:%d HTTP/1.1\r\nHost: x\r\n\r\n", host, port)
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.Dial("tcp", address)
		require.NoError(b, err)
		c.Write(request)
		in := bufio.NewReader(c)
		resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
		require.NoError(b, err)
		require.Equal(b, 200, resp.StatusCode)
		io.WriteString(c, "\x00word")
		_, err = io.ReadFull(in, make([]byte, 5))
		require.NoError(b, err)
		c.Close()
	}
}

// BenchmarkBulk moves a megabyte at a time to the client, beside the same without
// a proxy.
func BenchmarkBulk(b *testing.B) {
	port := site(b, func(s *net.TCPConn) {
		s.SetDeadline(time.Time{})
		for piece := make([]byte, 1<<20); ; {
			if _, err := s.Write(piece); err != nil {
				return
			}
		}
	})
	address := benchProxy(b)
	read := func(b *testing.B, c net.Conn, in io.Reader) {
		got := make([]byte, 1<<20)
		b.SetBytes(int64(len(got)))
		b.ReportAllocs()
		for b.Loop() {
			_, err := io.ReadFull(in, got)
			require.NoError(b, err)
		}
		c.Close()
	}
	b.Run("direct", func(b *testing.B) {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		require.NoError(b, err)
		read(b, c, c)
	})
	b.Run("tunnel", func(b *testing.B) {
		c, err := net.Dial("tcp", address)
		require.NoError(b, err)
		fmt.Fprintf(c, "CONNECT %s:%d HTTP/1.1\r\nHost: x\r\n\r\n", host, port)
		in := bufio.NewReader(c)
		_, err = http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
		require.NoError(b, err)
		io.WriteString(c, "\x00")
		read(b, c, in)
	})
}

// benchProxy is a proxy whose records go nowhere.
func benchProxy(b *testing.B) string {
	p := New(Config{Index: listing(443), Resolve: resolveTo("127.0.0.1"), Allowed: prefixes("127.0.0.0/8"),
		Sink: func(*policy.Observation) error { return nil }})
	l := listen(b)
	go p.Serve(l)
	b.Cleanup(func() { p.cut(); p.server.Close(); p.busy.close() })
	return l.Addr().String()
}
