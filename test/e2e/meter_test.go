//go:build linux

package e2e

import (
	"cmp"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience is how long a test waits for what must come; reaching it is a
// failure, so it costs nothing when all is well.
const patience = 20 * time.Second

// traffic is what one connection, or the bodies of one plain request, carried:
// up is from the client.
type traffic struct{ up, down int64 }

// meter is a listener that counts what each of its connections carried. It
// stands at the destination, and knows nothing of the program under test.
type meter struct {
	net.Listener
	mu     sync.Mutex
	news   *sync.Cond
	conns  []*metered
	bodies []traffic
}

func newMeter(t *testing.T, address string) *meter {
	t.Helper()
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	return meterOn(t, l)
}

// meterOn counts at a listener that is open.
func meterOn(t *testing.T, l net.Listener) *meter {
	m := &meter{Listener: l}
	m.news = sync.NewCond(&m.mu)
	t.Cleanup(func() {
		l.Close()
		m.mu.Lock()
		conns := slices.Clone(m.conns)
		m.mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	})
	return m
}

// Accept is net.Listener's.
func (m *meter) Accept() (net.Conn, error) {
	c, err := m.Listener.Accept()
	if err != nil {
		return nil, err
	}
	n := &metered{Conn: c, meter: m}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns = append(m.conns, n)
	return n, nil
}

// request adds the bodies of a plain request.
func (m *meter) request(b traffic) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bodies = append(m.bodies, b)
}

// settled waits until every connection has ended, and returns what they
// carried, sorted; of plain requests, what their bodies did.
func (m *meter) settled(t *testing.T, plain bool) []traffic {
	t.Helper()
	deadline := time.Now().Add(patience)
	late := time.AfterFunc(patience, m.news.Broadcast)
	defer late.Stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	for slices.ContainsFunc(m.conns, func(c *metered) bool { return !c.closed }) {
		require.True(t, time.Now().Before(deadline), "a connection to %s is still open", m.Addr())
		m.news.Wait()
	}
	if plain {
		return sorted(m.bodies)
	}
	var out []traffic
	for _, c := range m.conns {
		out = append(out, c.traffic)
	}
	return sorted(out)
}

// reset forgets what was counted.
func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns, m.bodies = nil, nil
}

func sorted(list []traffic) []traffic {
	return slices.SortedFunc(slices.Values(list), func(a, b traffic) int {
		return cmp.Or(cmp.Compare(a.up, b.up), cmp.Compare(a.down, b.down))
	})
}

// metered is a connection of a meter.
type metered struct {
	net.Conn
	meter *meter
	traffic
	closed bool
}

// Read is net.Conn's.
func (c *metered) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.meter.mu.Lock()
	defer c.meter.mu.Unlock()
	c.up += int64(n)
	return n, err
}

// Write is net.Conn's.
func (c *metered) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.meter.mu.Lock()
	defer c.meter.mu.Unlock()
	c.down += int64(n)
	return n, err
}

// CloseWrite is net.TCPConn's.
func (c *metered) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

// Close is net.Conn's.
func (c *metered) Close() error {
	err := c.Conn.Close()
	c.meter.mu.Lock()
	defer c.meter.mu.Unlock()
	c.closed = true
	c.meter.news.Broadcast()
	return err
}

// relay counts in front of a server that is not ours, which dial connects to,
// until the meter closes.
func (m *meter) relay(dial func() (net.Conn, error)) {
	for {
		c, err := m.Accept()
		if err != nil {
			return
		}
		go relayOne(c.(*metered), dial)
	}
}

func relayOne(c *metered, dial func() (net.Conn, error)) {
	defer c.Close()
	s, err := dial()
	if err != nil {
		return
	}
	defer s.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(s, struct{ io.Reader }{c})
		s.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(struct{ io.Writer }{c}, s)
	c.CloseWrite()
	<-done
}
