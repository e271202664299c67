package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// TestHeld: in enforce mode nothing of a client's first message passes before it
// is judged.
func TestHeld(t *testing.T) {
	whole := clientHello("other.example.org")
	odd := clientHello(host)
	for i := range odd { // a name that is none, of the same length
		if i+len(host) <= len(odd) && string(odd[i:i+len(host)]) == host {
			copy(odd[i:], "site!example.com")
		}
	}
	malformed := append([]byte{}, whole...)
	malformed[5+4+2+32]++ // the session's length
	for name, c := range map[string]struct {
		finding int
		says    []byte
		passes  bool
	}{
		"listed":                  {0, clientHello(host), true},
		"unlisted":                {0, whole, false},
		"a name that is none":     {0, odd, false},
		"half, then silence":      {0, whole[:len(whole)-10], false},
		"one octet, then silence": {7, whole[:1], false},
		"longer than we read":     {0, append([]byte{22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff}, make([]byte, 70<<10)...), false},
		"contradicts itself":      {0, malformed, false},
		"not TLS":                 {0, []byte("SSH-2.0-x\r\n"), true},
		"followed by other bytes": {0, append(clientHello(host), make([]byte, 5000)...), true},
	} {
		t.Run(name, func(t *testing.T) {
			reached := make(chan int, 1)
			port := site(t, func(s *net.TCPConn) {
				n, _ := s.Read(make([]byte, 1<<10))
				reached <- n
				s.CloseWrite()
				io.Copy(io.Discard, s)
			})
			r := newRig(t, func(conf *Config) {
				enforcing(port)(conf)
				conf.Limits.FirstTimeout = 100 * time.Millisecond
			})
			conn, in := r.connect(host, port)
			conn.Write(c.says)
			rest, _ := io.ReadAll(in)
			conn.Close()
			n := <-reached
			require.Equal(t, c.passes, n > 0, "the destination got %d octets", n)
			if !c.passes {
				require.Equal(t, string(accessDenied), string(rest))
				o := r.one()
				require.Equal(t, policy.Denied, o.Outcome)
				require.Equal(t, "tls", o.Protocol)
			}
		})
	}
}

// TestBarredIsDescribed: the record of a denied server name says that there was one.
func TestBarredIsDescribed(t *testing.T) {
	port := site(t, func(s *net.TCPConn) { io.Copy(io.Discard, s) })
	r := newRig(t, enforcing(port))
	conn, in := r.connect(host, port)
	conn.Write(clientHello("other.example.org"))
	io.ReadAll(in)
	o := r.one()
	require.Equal(t, "other.example.org", o.SNI)
	require.Equal(t, policy.SNIPresent, o.SNIState)
	require.Equal(t, "tls", o.Protocol)
	require.Zero(t, o.BytesUp)
}

// TestDeniedIsHeard: a client that has sent more than we read still gets our
// answer, and no reset in its place.
func TestDeniedIsHeard(t *testing.T) {
	more := make([]byte, 200<<10)
	t.Run("alert", func(t *testing.T) {
		port := site(t, func(s *net.TCPConn) { io.Copy(io.Discard, s) })
		r := newRig(t, enforcing(port))
		conn, in := r.connect(host, port)
		conn.Write(append(clientHello("other.example.org"), more...))
		r.one() // the proxy is through with it
		b, err := io.ReadAll(in)
		require.NoError(t, err)
		require.Equal(t, string(accessDenied), string(b))
	})
	t.Run("refusal", func(t *testing.T) {
		r := newRig(t, enforcing(443))
		conn := r.dial()
		io.WriteString(conn, "CONNECT other.example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n")
		conn.Write(more)
		r.one()
		resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
		require.NoError(t, err)
		require.Equal(t, http.StatusForbidden, resp.StatusCode)
	})
}
