// Package quic holds the QUIC relay against a real implementation of QUIC, quic-go,
// in network namespaces: a client, a gateway that captures UDP 443 by TPROXY, and an
// internet. It is a module of its own, so that only who runs it fetches quic-go.
package quic

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy/capture"
	"github.com/egressaudit/egressaudit/test/lab/netns"
)

// asGateway has the test binary be the gateway: the relay opens sockets whenever it
// likes, so the whole process must live in the namespace.
const asGateway = "EGRESSAUDIT_TEST_GATEWAY"

func TestMain(m *testing.M) {
	if mode := os.Getenv(asGateway); mode != "" {
		if err := gateway(mode); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// gateway relays until SIGTERM, refuses names that begin with evil, and prints its
// observations.
func gateway(mode string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	p, err := capture.ListenPacket(ctx, "[::]:7443")
	if err != nil {
		return err
	}
	records := make(chan policy.Observation, 1000)
	relay := capture.NewRelay(capture.Config{
		KeepClient: mode == "keep",
		Sink:       func(o *policy.Observation) error { records <- *o; return nil },
		Judge: func(o *policy.Observation) bool {
			if strings.HasPrefix(o.SNI, "evil") {
				o.Verdict = policy.Verdict{Outcome: policy.Denied, Stage: policy.StagePolicy, Error: policy.HTTPRequestDenied, By: policy.BySelf, Confidence: policy.Certain}
				return false
			}
			return true
		},
	})
	served := make(chan error, 1)
	go func() { served <- relay.Serve(p) }()
	fmt.Println("ready")
	select {
	case <-ctx.Done():
	case err := <-served:
		return err
	}
	relay.Shutdown(context.Background())
	close(records)
	out := json.NewEncoder(os.Stdout)
	for o := range records {
		if err := out.Encode(o); err != nil {
			return err
		}
	}
	return nil
}

// world is the three namespaces; the gateway runs.
type world struct {
	*testing.T
	client, inet *netns.Space
	process      *exec.Cmd
	out          *bufio.Reader
}

var destinations = []string{"198.18.7.7:443", "[2001:db8::7]:443"}

func newWorld(t *testing.T, mode string) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skipf("needs nftables: %v", err)
	}
	require.NoError(t, netns.Sweep("eaquic"))
	n := netns.New("eaquic", mode)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	var s [3]*netns.Space
	for i, name := range []string{"client", "gateway", "inet"} {
		var err error
		s[i], err = n.Add(name)
		require.NoError(t, err)
	}
	w := &world{T: t, client: s[0], inet: s[2]}
	gw := s[1]
	require.NoError(t, errors.Join(
		n.Link(w.client, "10.1.0.2/24 fd01::2/64", gw, "10.1.0.1/24 fd01::1/64"),
		n.Link(gw, "10.2.0.1/24 fd02::1/64", w.inet, "10.2.0.2/24 fd02::2/64"),
		gw.Router(),
		w.client.Route("default", "10.1.0.1"), w.client.Route("default", "fd01::1"),
		w.inet.Route("default", "10.2.0.1"), w.inet.Route("default", "fd02::1"),
		gw.Route("198.18.0.0/15", "10.2.0.2"), gw.Route("2001:db8::/32", "fd02::2"),
		w.inet.Batch("addr add 198.18.7.7/32 dev lo\naddr add 2001:db8::7/128 dev lo nodad\n"),
		gw.Nft(`table inet t {
			chain c {
				type filter hook prerouting priority mangle;
				udp sport 443 socket transparent 1 meta mark set 1 accept
				iifname "l1b" udp dport 443 tproxy to :7443 meta mark set 1 accept
			}
		}
`),
	))
	for _, family := range []string{"-4", "-6"} {
		require.NoError(t, errors.Join(
			gw.Run("ip", family, "rule", "add", "fwmark", "1", "lookup", "100"),
			gw.Run("ip", family, "route", "add", "local", "default", "dev", "lo", "table", "100"),
		))
	}
	w.process = exec.Command(os.Args[0])
	w.process.Env = append(os.Environ(), asGateway+"="+mode)
	w.process.Stderr = os.Stderr
	out, err := w.process.StdoutPipe()
	require.NoError(t, err)
	w.out = bufio.NewReader(out)
	require.NoError(t, gw.Start(w.process))
	line, err := w.out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return w
}

// records ends the gateway and returns what it saw.
func (w *world) records() (all []policy.Observation) {
	w.Helper()
	require.NoError(w, w.process.Process.Signal(syscall.SIGTERM))
	for dec := json.NewDecoder(w.out); ; {
		var o policy.Observation
		err := dec.Decode(&o)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(w, err)
		all = append(all, o)
	}
	require.NoError(w, w.process.Wait())
	return all
}

func (w *world) socket(s *netns.Space, addr string) *net.UDPConn {
	w.Helper()
	var c *net.UDPConn
	require.NoError(w, s.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
		return err
	}))
	w.Cleanup(func() { c.Close() })
	return c
}

// serve has a server echo one stream of each connection; it tells the clients'
// addresses. retry has it ask for a second Initial.
func (w *world) serve(addr string, retry bool) <-chan netip.Addr {
	w.Helper()
	tr := &quic.Transport{Conn: w.socket(w.inet, addr)}
	if retry {
		tr.VerifySourceAddress = func(net.Addr) bool { return true }
	}
	l, err := tr.Listen(&tls.Config{Certificates: []tls.Certificate{certificate(w)}, NextProtos: []string{"echo"}}, nil)
	require.NoError(w, err)
	w.Cleanup(func() { l.Close(); tr.Close() })
	clients := make(chan netip.Addr, 100)
	go func() {
		for {
			c, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			clients <- c.RemoteAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
			go echo(c)
		}
	}()
	return clients
}

func echo(c *quic.Conn) {
	s, err := c.AcceptStream(context.Background())
	if err != nil {
		return
	}
	io.Copy(s, s)
	s.Close()
}

func certificate(t testing.TB) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"a.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// dial makes a connection from the client.
func (w *world) dial(to, name string, version quic.Version) (*quic.Conn, error) {
	w.Helper()
	local := "0.0.0.0:0"
	if strings.HasPrefix(to, "[") {
		local = "[::]:0"
	}
	conf := &quic.Config{Versions: []quic.Version{version}, HandshakeIdleTimeout: 20 * time.Second}
	ctx, cancel := context.WithTimeout(w.Context(), 30*time.Second)
	w.Cleanup(cancel)
	return quic.Dial(ctx, w.socket(w.client, local), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)),
		&tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"echo"}}, conf)
}

// bulk is more than a window, so that both directions carry data and its
// acknowledgements.
const bulk = 4 << 20

func (w *world) exchange(c *quic.Conn) {
	w.Helper()
	s, err := c.OpenStreamSync(w.Context())
	require.NoError(w, err)
	sent := make(chan error, 1)
	go func() {
		_, err := s.Write(make([]byte, bulk))
		sent <- errors.Join(err, s.Close())
	}()
	n, err := io.Copy(io.Discard, s)
	require.NoError(w, err)
	require.NoError(w, <-sent)
	require.EqualValues(w, bulk, n)
	require.NoError(w, c.CloseWithError(0, ""))
}

// TestForward: connections work through the relay in both families and versions,
// with and without a Retry, and each leaves one record.
func TestForward(t *testing.T) {
	for _, mode := range []string{"own", "keep"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, mode)
			dials := 0
			for i, to := range destinations {
				clients := w.serve(to, false)
				retrying := strings.Replace(to, "7.7", "7.8", 1)
				retrying = strings.Replace(retrying, "::7", "::8", 1)
				require.NoError(t, w.inet.Run("ip", "addr", "add", netip.MustParseAddrPort(retrying).Addr().String(), "dev", "lo", "nodad"))
				again := w.serve(retrying, true)
				for _, version := range []quic.Version{quic.Version1, quic.Version2} {
					for _, d := range []struct {
						to      string
						clients <-chan netip.Addr
					}{{to, clients}, {retrying, again}} {
						c, err := w.dial(d.to, "a.example", version)
						require.NoError(t, err)
						w.exchange(c)
						dials++
						want := [][2]string{{"10.2.0.1", "10.1.0.2"}, {"fd02::1", "fd01::2"}}[i][map[string]int{"own": 0, "keep": 1}[mode]]
						require.Equal(t, want, (<-d.clients).String())
					}
				}
			}
			all := w.records()
			require.Len(t, all, dials)
			for _, o := range all {
				require.Equal(t, policy.OK, o.Outcome, "%+v", o)
				require.Equal(t, "a.example", o.SNI)
				require.Equal(t, "quic", o.Protocol)
				require.Equal(t, []string{"echo"}, o.ALPN)
				require.Greater(t, o.BytesUp, int64(bulk))
				require.Greater(t, o.BytesDown, int64(bulk))
			}
		})
	}
}

// TestRefuse: a client that is refused gives up at once, by the peer's word, and
// could turn to TCP; the server sees nothing of it.
func TestRefuse(t *testing.T) {
	w := newWorld(t, "own")
	for _, to := range destinations {
		clients := w.serve(to, false)
		w.dial(to, "evil.example", quic.Version1) // a fresh link of IPv6 is deaf for a second
		for _, version := range []quic.Version{quic.Version1, quic.Version2} {
			begun := time.Now()
			_, err := w.dial(to, "evil.example", version)
			var refused *quic.TransportError
			require.ErrorAs(t, err, &refused)
			require.True(t, refused.Remote)
			require.Equal(t, quic.ConnectionRefused, refused.ErrorCode)
			require.Less(t, time.Since(begun), time.Second)
		}
		require.Empty(t, clients)
	}
	all := w.records()
	require.Len(t, all, 6)
	for _, o := range all {
		require.Equal(t, policy.Denied, o.Outcome)
		require.Equal(t, "evil.example", o.SNI)
	}
}

// TestNothingThere: a port that nobody serves is told from silence, and the client
// need not wait for its timeout either.
func TestNothingThere(t *testing.T) {
	w := newWorld(t, "own")
	for _, to := range destinations {
		w.dial(to, "a.example", quic.Version1) // a fresh link of IPv6 is deaf for a second
		begun := time.Now()
		_, err := w.dial(to, "a.example", quic.Version1)
		var refused *quic.TransportError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, quic.ConnectionRefused, refused.ErrorCode)
		require.Less(t, time.Since(begun), time.Second)
	}
	for _, o := range w.records() {
		require.Equal(t, policy.ConnectionRefused, o.Error, "%+v", o)
		require.Equal(t, policy.StageConnect, o.Stage)
	}
}

// TestSharedSocket: connections over one client socket, as HTTP/3 clients make
// them, are told from each other; the one that is refused does not hurt the other.
func TestSharedSocket(t *testing.T) {
	w := newWorld(t, "own")
	to := destinations[0]
	w.serve(to, false)
	tr := &quic.Transport{Conn: w.socket(w.client, "0.0.0.0:0")}
	defer tr.Close()
	dial := func(name string) (*quic.Conn, error) {
		return tr.Dial(w.Context(), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to)),
			&tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"echo"}}, nil)
	}
	a, err := dial("a.example")
	require.NoError(t, err)
	_, err = dial("evil.example")
	require.ErrorContains(t, err, "CONNECTION_REFUSED")
	b, err := dial("b.example")
	require.NoError(t, err)
	w.exchange(a)
	w.exchange(b)
	got := map[string]policy.Outcome{}
	all := w.records()
	require.Len(t, all, 3)
	for _, o := range all {
		got[o.SNI] = o.Outcome
	}
	require.Equal(t, map[string]policy.Outcome{"a.example": policy.OK, "evil.example": policy.Denied, "b.example": policy.OK}, got)
}
