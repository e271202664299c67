package live

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy/report"
)

// Connections of those who have no token take no more than their room, and neither
// the events of who watches nor the answer to who asks now.
func TestCrowd(t *testing.T) {
	const token = "a token of the test"
	f := newFeed()
	s := New(Config{Token: token, Records: f.follow, Against: report.Options{}, Ready: func() error { return nil }})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	defer func() {
		now, cancel := context.WithCancel(t.Context())
		cancel()
		s.Shutdown(now)
		require.NoError(t, <-served)
	}()
	a := &admin{Server: s, url: "http://" + l.Addr().String(), feed: f}

	watching := a.listen(t, "", "Authorization: Bearer "+token)
	watching.until(t, has("rows"))
	var idle []net.Conn
	for range 3 * maxGuests {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") // and then nothing
		require.NoError(t, err)
		idle = append(idle, c)
	}
	status, text := a.ask(t, http.MethodGet, "/readyz", "")
	require.Equal(t, []any{http.StatusOK, "ok\n"}, []any{status, text})
	s.crowd.mu.Lock()
	require.LessOrEqual(t, len(s.crowd.all), maxGuests)
	s.crowd.mu.Unlock()
	idle[0].SetReadDeadline(time.Now().Add(5 * time.Second)) // long before it would end by itself
	_, err = io.Copy(io.Discard, idle[0])
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the oldest has given way")
	f.add(went("quay.io", fine))
	watching.until(t, has("rows", "quay.io"))
}
