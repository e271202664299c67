package lab_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/lab"
)

func TestBytesBehindConnectReachTheSite(t *testing.T) {
	w := start(t, map[string]lab.Behaviour{"*": lab.Echo{}})
	c, err := net.Dial("tcp", w.Parent().Host)
	require.NoError(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(c, "CONNECT a.test:7 HTTP/1.1\r\nHost: a.test:7\r\n\r\nearly")
	require.NoError(t, err)
	want := "HTTP/1.1 200 Connection established\r\n\r\nearly"
	got := make([]byte, len(want))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

// A hello of several records and segments is read whole before the fault, or
// else Close would show as a reset.
func TestAfterHelloReadsItWhole(t *testing.T) {
	w := start(t, map[string]lab.Behaviour{"*": lab.AfterHello(lab.Close)})
	message := append([]byte{1, 0, 0, 100}, make([]byte, 100)...)
	c, err := direct.dial(w, "a.test", 443)
	require.NoError(t, err)
	defer c.Close()
	for _, part := range [][]byte{message[:3], message[3:50], message[50:]} {
		for _, p := range [][]byte{{22, 3, 1}, {0, byte(len(part))}, part} {
			require.NotContains(t, w.Saw(), lab.Sighting{Door: lab.DoorSite, Method: "hello", Target: "a.test:443"})
			_, err := c.Write(p)
			require.NoError(t, err)
		}
	}
	c.SetDeadline(time.Now().Add(patience))
	_, err = c.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	require.Contains(t, w.Saw(), lab.Sighting{Door: lab.DoorSite, Method: "hello", Target: "a.test:443"})
}

func TestCredentials(t *testing.T) {
	s, err := lab.Parse("t", strings.NewReader("* site\ncredentials alice secret\n"))
	require.NoError(t, err)
	w, err := lab.Start(s)
	require.NoError(t, err)
	t.Cleanup(w.Close)
	_, _, err = fetch(w, tunnel, "a.test", 443, "/")
	require.ErrorContains(t, err, "status 407")

	client := http.Client{Transport: &http.Transport{
		Proxy:           http.ProxyURL(w.Parent()),
		TLSClientConfig: &tls.Config{RootCAs: w.Roots()},
	}}
	defer client.CloseIdleConnections()
	res, err := client.Get("https://b.test/")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, 200, res.StatusCode)
	require.Equal(t, []lab.Sighting{
		{Door: lab.DoorParent, Method: "CONNECT", Target: "a.test:443"},
		{Door: lab.DoorParent, Method: "CONNECT", Target: "b.test:443", User: "alice"},
		{Door: lab.DoorSite, Method: "hello", Target: "b.test:443"},
		{Door: lab.DoorSite, Method: "GET", Target: "b.test:443", Path: "/"},
	}, w.Saw())
}

func TestParentHeaders(t *testing.T) {
	w := start(t, map[string]lab.Behaviour{
		"auth.test": lab.ParentStatus{Code: 407},
		"gw.test":   lab.ParentStatus{Code: 504, ProxyStatus: "gw; error=connection_timeout"},
	})
	for host, want := range map[string]struct{ key, value string }{
		"auth.test": {"Proxy-Authenticate", `Basic realm="corporate proxy"`},
		"gw.test":   {"Proxy-Status", "gw; error=connection_timeout"},
	} {
		c, err := net.Dial("tcp", w.Parent().Host)
		require.NoError(t, err)
		fmt.Fprintf(c, "CONNECT %s:443 HTTP/1.1\r\nHost: %[1]s:443\r\n\r\n", host)
		res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodConnect})
		require.NoError(t, err)
		require.Equal(t, want.value, res.Header.Get(want.key))
		require.NoError(t, c.Close())
	}
}

func TestParentForward(t *testing.T) {
	next := start(t, map[string]lab.Behaviour{"*": lab.Site{}})
	w := start(t, map[string]lab.Behaviour{"*": lab.ParentForward(next.Parent().Host)})
	c, err := tunnel.dial(w, "a.test", 443)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, tls.Client(c, &tls.Config{ServerName: "a.test", RootCAs: next.Roots()}).Handshake())
	require.Contains(t, next.Saw(), lab.Sighting{Door: lab.DoorParent, Method: "CONNECT", Target: "a.test:443"})
}

func TestInTurnAndSet(t *testing.T) {
	w := start(t, map[string]lab.Behaviour{
		"*": lab.InTurn{lab.ParentStatus{Code: 503}, lab.AfterHello(lab.Reset), lab.Site{}},
	})
	for _, want := range []string{"status 503 ", "ECONNRESET", "works", "works"} {
		_, _, err := fetch(w, tunnel, "a.test", 443, "/")
		require.Equal(t, want, strings.TrimPrefix(what(err), "dial: "))
	}
	require.NoError(t, w.Set("a.test:443", lab.ParentStatus{Code: 403}))
	_, _, err := fetch(w, tunnel, "a.test", 443, "/")
	require.ErrorContains(t, err, "status 403")
	require.Error(t, w.Set("a b:c", lab.Site{}))
}
