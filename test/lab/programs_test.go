package lab_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/lab"
)

// client runs a program that the machine may lack, in an environment without
// proxies and certificates, and returns what it said and its exit status.
func client(t *testing.T, name string, args ...string) (string, int) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s", name)
	}
	c := exec.Command(path, args...)
	c.Env = []string{"LC_ALL=C"}
	out, err := c.CombinedOutput()
	if err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return string(out), c.ProcessState.ExitCode()
}

func TestCurl(t *testing.T) {
	w := start(t, map[string]lab.Behaviour{
		"*":               lab.Site{},
		"mcr.test":        lab.Site{Location: "https://eastus.data.mcr.test"},
		"retry.test":      lab.Site{Retry: true},
		"reset.test":      lab.AfterHello(lab.Reset),
		"close.test":      lab.AfterHello(lab.Close),
		"silent.test":     lab.AfterHello(lab.Silence),
		"alert.test":      lab.HandshakeFailure,
		"page.test":       lab.BlockPage{},
		"foreign.test":    lab.ForeignCA,
		"denied.test":     lab.ParentStatus{Code: 403},
		"gone.test":       lab.NXDOMAIN,
		"cut.test":        lab.MidStream{After: 100000, End: lab.Reset},
		"short.test":      lab.MidStream{After: 100, End: lab.Close},
		"late-alert.test": lab.AfterServerHello{Alert: lab.AccessDenied, MaxTLS: tls.VersionTLS12},
	})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, w.WriteCA(ca))
	for url, want := range map[string]struct {
		exit int // curl(1), EXIT CODES
		said string
	}{
		"https://site.test/":             {0, "site.test: GET, 0 bytes received\n"},
		"http://site.test/":              {0, "site.test: GET, 0 bytes received\n"},
		"https://mcr.test/v2/":           {0, "eastus.data.mcr.test: GET, 0 bytes received\n"},
		"https://retry.test/":            {0, "retry.test: GET, 0 bytes received\n"},
		"https://reset.test/":            {35, "reset by peer"},
		"http://reset.test/":             {56, "reset by peer"},
		"https://close.test/":            {35, "SSL"},
		"http://close.test/":             {52, "Empty reply"},
		"https://silent.test/":           {28, "timed out"},
		"https://alert.test/":            {35, "handshake failure"},
		"https://page.test/":             {35, "wrong version number"},
		"http://page.test/":              {0, "Web page blocked"},
		"https://foreign.test/":          {60, "certificate"},
		"https://denied.test/":           {56, "403"},
		"https://gone.test/":             {56, "503"},
		"https://cut.test/":              {56, "reset by peer"},
		"http://short.test/":             {18, "bytes remaining to read"},
		"https://late-alert.test/":       {35, "access denied"},
		"https://site.test:8443/bytes/3": {0, "xxx"},
	} {
		wait := "30"
		if want.exit == 28 {
			wait = "1"
		}
		out, exit := client(t, "curl", "-q", "-sS", "-L", "-m", wait, "--cacert", ca, "-x", w.Parent().String(), url)
		require.Equal(t, want.exit, exit, "%s: %.300s", url, out)
		require.Contains(t, out, want.said, url)
	}
}

func TestOpenSSL(t *testing.T) {
	w := start(t, map[string]lab.Behaviour{"site.test": lab.Site{}, "alert.test": lab.UnrecognizedName, "foreign.test": lab.ForeignCA})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, w.WriteCA(ca))
	for host, want := range map[string]string{
		"site.test": "Verification: OK", "alert.test": "SSL alert number 112", "foreign.test": "verify error",
	} {
		out, _ := client(t, "openssl", "s_client", "-connect", w.Address(host, 443).String(), "-servername", host, "-verify_hostname", host,
			"-CAfile", ca, "-verify_return_error", "-brief")
		require.Contains(t, out, want, host)
	}
}

func TestWebSocket(t *testing.T) {
	w := start(t, map[string]lab.Behaviour{"*": lab.Site{}})
	c, err := tunnel.dial(w, "relay.test", 443)
	require.NoError(t, err)
	s := tls.Client(c, &tls.Config{ServerName: "relay.test", RootCAs: w.Roots()})
	defer s.Close()
	_, err = io.WriteString(s, "GET /ws HTTP/1.1\r\nHost: relay.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	require.NoError(t, err)
	r := bufio.NewReader(s)
	res, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, 101, res.StatusCode)
	require.Equal(t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", res.Header.Get("Sec-WebSocket-Accept"), "the example of RFC 6455 section 1.3")

	// "Hello", masked, and its unmasked echo: RFC 6455 section 5.7.
	for range 2 {
		_, err = s.Write([]byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58})
		require.NoError(t, err)
		echo := make([]byte, 7)
		_, err = io.ReadFull(r, echo)
		require.NoError(t, err)
		require.Equal(t, "\x81\x05Hello", string(echo))
	}
	// 200 bytes need the longer length, and a zero mask leaves them as they are.
	long := append([]byte{0x82, 0xfe, 0, 200, 0, 0, 0, 0}, make([]byte, 200)...)
	_, err = s.Write(long)
	require.NoError(t, err)
	echo := make([]byte, 204)
	_, err = io.ReadFull(r, echo)
	require.NoError(t, err)
	require.Equal(t, append([]byte{0x82, 0x7e, 0, 200}, make([]byte, 200)...), echo)
}
