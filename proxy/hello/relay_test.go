package hello_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

// said is one piece of a conversation.
type said struct {
	client bool
	b      []byte
}

// recorder is a relay for one connection that writes down what passes, before it
// passes.
type recorder struct {
	mu    sync.Mutex
	tape  []said
	done  chan struct{}
	front net.Listener
}

// relay listens for one connection and joins it with target.
func relay(t testing.TB, target string) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &recorder{done: make(chan struct{}), front: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		defer close(r.done)
		a, err := l.Accept()
		if err != nil {
			return
		}
		defer a.Close()
		b, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		defer b.Close()
		var both sync.WaitGroup
		both.Go(func() { r.copy(b, a, true) })
		both.Go(func() { r.copy(a, b, false) })
		both.Wait()
	}()
	return r
}

func (r *recorder) addr() string { return r.front.Addr().String() }

func (r *recorder) copy(to, from net.Conn, client bool) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			r.mu.Lock()
			r.tape = append(r.tape, said{client, append([]byte{}, buf[:n]...)})
			r.mu.Unlock()
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			_ = to.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

// recorded waits for the end of both directions.
func (r *recorder) recorded() []said {
	<-r.done
	return r.tape
}

// follow shows a conversation to h in pieces of at most size bytes.
func follow(h *hello.Handshake, tape []said, size int) {
	for _, s := range tape {
		for b := s.b; len(b) > 0; {
			k := min(size, len(b))
			if s.client {
				h.Client(b[:k])
			} else {
				h.Server(b[:k])
			}
			b = b[k:]
		}
	}
}

// authority signs the certificates of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return authority{cert, key}
}

func (a authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// certificate is one for a.example.
func (a authority) certificate(t testing.TB) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"a.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func ecdsaKey(t testing.TB) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func rsaKey(t testing.TB, bits int) crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	require.NoError(t, err)
	return key
}

// chainOf is a chain of n certificates, all of them for one key. The names go
// into each.
func chainOf(t testing.TB, key crypto.Signer, n int, names ...string) (c tls.Certificate) {
	c.PrivateKey = key
	for i := range n {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: fmt.Sprint("rank ", i)},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			DNSNames: append([]string{"a.example"}, names...), BasicConstraintsValid: true, IsCA: i > 0,
		}
		above := &x509.Certificate{Subject: pkix.Name{CommonName: fmt.Sprint("rank ", i+1)}}
		der, err := x509.CreateCertificate(rand.Reader, template, above, key.Public(), key)
		require.NoError(t, err)
		c.Certificate = append(c.Certificate, der)
	}
	return c
}

// serveTLS answers every connection with a greeting behind the handshake, reads
// until the client ends, and ends.
func serveTLS(t testing.TB, config *tls.Config) (addr string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			go func() {
				defer c.Close()
				if _, err := io.WriteString(c, "hello\n"); err == nil {
					_, _ = io.Copy(io.Discard, c)
				}
			}()
		}
	}()
	return l.Addr().String()
}

// visit makes one connection through a relay: the handshake, a read, the end.
func visit(t testing.TB, target string, config *tls.Config) ([]said, error) {
	t.Helper()
	r := relay(t, target)
	raw, err := net.Dial("tcp", r.addr())
	require.NoError(t, err)
	c := tls.Client(raw, config)
	if _, err = c.Read(make([]byte, 6)); err == nil {
		c.Close()
	}
	raw.Close()
	return r.recorded(), err
}
