package hello

import (
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// tap keeps what goes out on a connection.
type tap struct {
	net.Conn
	last []byte
}

func (c *tap) Write(b []byte) (int, error) {
	c.last = append([]byte(nil), b...)
	return c.Conn.Write(b)
}

// TestAlertAtEnd: close_notify under every suite that crypto/tls has, and no data
// of any other length, is an alert.
func TestAlertAtEnd(t *testing.T) {
	site := httptest.NewTLSServer(nil)
	site.Close()
	suites := append(tls.CipherSuites(), tls.InsecureCipherSuites()...)
	seen := 0
	for _, suite := range suites {
		for _, version := range suite.SupportedVersions {
			ours, theirs := net.Pipe()
			out := &tap{Conn: theirs}
			c := tls.Client(ours, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, CipherSuites: []uint16{suite.ID}})
			s := tls.Server(out, &tls.Config{Certificates: site.TLS.Certificates, MinVersion: version, MaxVersion: version, CipherSuites: []uint16{suite.ID}})
			go func() {
				c.Handshake()
				io.Copy(io.Discard, c)
				ours.Close()
			}()
			if s.Handshake() != nil {
				ours.Close()
				continue // a suite for another kind of key
			}
			seen++
			want := max(version, tls.VersionTLS12)
			for _, n := range []int{1, 3, 16, 1000} {
				s.Write(make([]byte, n))
				require.NotEqual(t, want, AlertAtEnd(out.last), "%s, %d octets of data", suite.Name, n)
			}
			s.CloseWrite()
			require.Equal(t, want, AlertAtEnd(out.last), "%s, version %x: %x", suite.Name, version, out.last)
			require.Zero(t, AlertAtEnd(out.last[1:]))
			require.Equal(t, want, AlertAtEnd(append(make([]byte, 100), out.last...)))
			theirs.Close()
		}
	}
	require.Greater(t, seen, 5)
}
