//go:build linux

package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/test/suite"
)

// daemon is egressaudit serve on a free port of 127.0.0.1.
type daemon struct {
	*process
	address string
	ledger  string
}

var listening = regexp.MustCompile(`listening .*proxy=(127\.0\.0\.1:\d+)`)

// serveProxy starts it; wrap stands before it on its command line (strace).
func (w *world) serveProxy(t *testing.T, wrap []string, flags ...string) *daemon {
	t.Helper()
	d := &daemon{ledger: filepath.Join(w.dir, "serve.jsonl")}
	args := append(append([]string{}, wrap...), suite.Program(t), "serve", "--proxy", "127.0.0.1:0")
	d.process = w.command(t, nil, append(append(args, w.flags(d.ledger)...), flags...)...)
	d.start()
	d.says(&d.stderr, "listening")
	eventually(t, "serve says where it listens", func() bool { return listening.MatchString(d.stderr.String()) })
	d.address = listening.FindStringSubmatch(d.stderr.String())[1]
	return d
}

// client starts a command that uses the daemon.
func (d *daemon) client(t *testing.T, w *world, args ...string) *process {
	t.Helper()
	proxy := "http://" + d.address
	return w.command(t, []string{"https_proxy=" + proxy, "HTTPS_PROXY=" + proxy, "http_proxy=" + proxy}, args...).start()
}

// TestDrain stops serve while a download runs.
func TestDrain(t *testing.T) {
	suite.Need(t, "curl")
	for _, row := range []struct {
		name, drain string
		release     bool // lets the download finish
	}{
		{"finishes within the time", "60s", true},
		{"cut when the time is over", "300ms", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			d := w.serveProxy(t, nil, "--drain", row.drain)
			c := d.client(t, w, "curl", "-sSN", "--cacert", w.ca, "https://web.egress.test/held")
			c.says(&c.stdout, "first")
			d.signal(syscall.SIGTERM)
			eventually(t, "serve takes no more clients", func() bool {
				late, err := net.Dial("tcp", d.address)
				if err == nil {
					late.Close()
				}
				return err != nil
			})
			if row.release {
				close(w.hold)
			}
			status := c.wait()
			require.Zero(t, d.wait(), d.stderr.String())
			records := readLedger(t, d.ledger)
			require.Equal(t, policy.KindStop, records[len(records)-1].Kind)
			seen := closing(records)
			require.Len(t, seen, 1)
			r := seen[0]
			require.Equal(t, policy.OK, r.Outcome)
			require.Equal(t, policy.StageData, r.Stage)
			if row.release {
				require.Zero(t, status, c.stderr.String())
				require.Equal(t, "first half", c.stdout.String())
				require.Empty(t, r.Error)
				require.Equal(t, w.meters[r.Address.String()].settled(t, false), carried(seen))
				return
			}
			require.Contains(t, []int{18, 56}, status, "curl sees that it was cut: %s", c.stderr.String())
			require.Contains(t, []int{18, 56}, status, "curl sees that it was cut: %s", c.stderr.String())
			require.Equal(t, "first", c.stdout.String())
			require.Equal(t, policy.ConnectionTerminated, r.Error)
			require.Equal(t, policy.BySelf, r.By)
			require.Contains(t, r.Detail["why"], "drain")
		})
	}
}

// TestOccupiedPort has somebody else on the port: one clear line, and no ledger.
func TestOccupiedPort(t *testing.T) {
	suite.Need(t)
	w := newWorld(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	ledger := filepath.Join(w.dir, "never.jsonl")
	p := w.command(t, nil, append([]string{suite.Program(t), "serve", "--proxy", l.Addr().String()}, w.flags(ledger)...)...).start()
	require.Equal(t, 2, p.wait())
	said := strings.TrimSuffix(p.stderr.String(), "\n")
	require.Contains(t, said, l.Addr().String())
	require.Contains(t, said, "address already in use")
	require.NotContains(t, said, "\n", "one line")
	require.Empty(t, p.stdout.String())
	require.False(t, exists(ledger), "nothing half-written")
}

// eager is a connection that sends its CONNECT and what follows it in one write.
type eager struct {
	net.Conn
	head   string // until it was sent
	answer *bufio.Reader
	status int // of the answer, 0 until it was read
}

// Write is net.Conn's.
func (e *eager) Write(b []byte) (int, error) {
	head := e.head
	e.head = ""
	n, err := e.Conn.Write(append([]byte(head), b...))
	return n - len(head), err
}

// Read is net.Conn's.
func (e *eager) Read(b []byte) (int, error) {
	if e.status == 0 {
		r, err := http.ReadResponse(e.answer, &http.Request{Method: http.MethodConnect})
		if err != nil {
			return 0, err
		}
		e.status = r.StatusCode
	}
	return e.answer.Read(b)
}

// TestHelloBehindConnect has a client that does not wait for the answer to its
// CONNECT: its ClientHello is in the same segment, and must not be lost.
func TestHelloBehindConnect(t *testing.T) {
	suite.Need(t)
	w := newWorld(t)
	d := w.serveProxy(t, nil)
	raw, err := net.Dial("tcp", d.address)
	require.NoError(t, err)
	defer raw.Close()
	require.NoError(t, raw.SetDeadline(time.Now().Add(patience)))
	e := &eager{Conn: raw, answer: bufio.NewReader(raw), head: "CONNECT web.egress.test:443 HTTP/1.1\r\nHost: web.egress.test:443\r\n\r\n"}
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(w.authority.pem))
	c := tls.Client(e, &tls.Config{RootCAs: roots, ServerName: "web.egress.test"})
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: web.egress.test\r\n\r\n")
	require.NoError(t, err)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), "here is web.egress.test")
	require.Equal(t, 200, e.status)
	require.NoError(t, c.Close())

	counted := w.meters[w.address("web.egress.test")+":443"].settled(t, false)
	d.signal(syscall.SIGTERM)
	require.Zero(t, d.wait(), d.stderr.String())
	seen := closing(readLedger(t, d.ledger))
	require.Len(t, seen, 1)
	require.Equal(t, "web.egress.test", seen[0].SNI)
	require.Equal(t, policy.OK, seen[0].Outcome)
	require.Equal(t, counted, carried(seen))
}
