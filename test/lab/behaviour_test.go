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

func TestBehavioursOverTLS(t *testing.T) {
	for name, tt := range map[string]struct {
		does           lab.Behaviour
		direct, tunnel string // what the client meets
	}{
		"a site works":              {lab.Site{}, "works", "works"},
		"TLS 1.2":                   {lab.Site{MaxTLS: tls.VersionTLS12}, "works", "works"},
		"HelloRetryRequest":         {lab.Site{Retry: true}, "works", "works"},
		"closed port":               {lab.Refuse{}, "dial: ECONNREFUSED", "dial: status 503 ERR_CONNECT_FAIL 111"},
		"SYN unanswered":            {lab.Drop{}, "dial: timeout", "dial: status 503 ERR_CONNECT_FAIL 110"},
		"RST at once":               {lab.AtOnce(lab.Reset), "dial: ECONNRESET or handshake: ECONNRESET", "handshake: ECONNRESET"},
		"FIN at once":               {lab.AtOnce(lab.Close), "handshake: EOF", "handshake: EOF"},
		"RST after the hello":       {lab.AfterHello(lab.Reset), "handshake: ECONNRESET", "handshake: ECONNRESET"},
		"FIN after the hello":       {lab.AfterHello(lab.Close), "handshake: EOF", "handshake: EOF"},
		"silence after the hello":   {lab.AfterHello(lab.Silence), "handshake: timeout", "handshake: timeout"},
		"alert 40":                  {lab.HandshakeFailure, "handshake: handshake failure", "handshake: handshake failure"},
		"alert 49":                  {lab.AccessDenied, "handshake: access denied", "handshake: access denied"},
		"RST after ServerHello":     {lab.AfterServerHello{End: lab.Reset}, "handshake: ECONNRESET", "handshake: ECONNRESET"},
		"FIN after ServerHello":     {lab.AfterServerHello{}, "handshake: EOF", "handshake: EOF"},
		"silence after ServerHello": {lab.AfterServerHello{End: lab.Silence}, "handshake: timeout", "handshake: timeout"},
		"alert after ServerHello": {lab.AfterServerHello{Alert: lab.AccessDenied, MaxTLS: tls.VersionTLS12},
			"handshake: access denied", "handshake: access denied"},
		"block page in clear":     {lab.BlockPage{}, "handshake: not TLS", "handshake: not TLS"},
		"foreign CA":              {lab.ForeignCA, "handshake: unknown authority", "handshake: unknown authority"},
		"expired certificate":     {lab.Site{Expired: true}, "handshake: invalid certificate", "handshake: invalid certificate"},
		"another's certificate":   {lab.Site{WrongName: true}, "handshake: other host", "handshake: other host"},
		"RST in mid-stream":       {lab.MidStream{After: 5000, End: lab.Reset}, "body: ECONNRESET", "body: ECONNRESET"},
		"FIN in mid-stream":       {lab.MidStream{After: 5000, End: lab.Close}, "body: EOF", "body: EOF"},
		"silence in mid-stream":   {lab.MidStream{After: 5000, End: lab.Silence}, "body: timeout", "body: timeout"},
		"a slow site":             {lab.Slow{For: time.Hour, Then: lab.Site{}}, "handshake: timeout", "handshake: timeout"},
		"a slow answer":           {lab.Site{Delay: time.Hour}, "answer: timeout", "answer: timeout"},
		"a slow parent":           {lab.Slow{For: time.Hour, Then: lab.ParentStatus{Code: 403}}, "handshake: timeout", "dial: timeout"},
		"NXDOMAIN at the parent":  {lab.NXDOMAIN, "", "dial: status 503 ERR_DNS_FAIL 0"},
		"SERVFAIL at the parent":  {lab.SERVFAIL, "", "dial: status 503 ERR_DNS_FAIL 0"},
		"sinkhole at the parent":  {lab.Resolves("0.0.0.0"), "", "dial: status 503 ERR_CONNECT_FAIL 111"},
		"private link":            {lab.Answer{CNAMEs: []string{"x.privatelink.test"}}, "works", "works"},
		"a fault behind a CNAME":  {lab.Answer{CNAMEs: []string{"cdn.test"}, Then: lab.AfterHello(lab.Reset)}, "handshake: ECONNRESET", "handshake: ECONNRESET"},
		"parent 403":              {lab.ParentStatus{Code: 403}, "works", "dial: status 403 "},
		"parent 407":              {lab.ParentStatus{Code: 407}, "works", "dial: status 407 "},
		"parent 502":              {lab.ParentStatus{Code: 502, SquidError: "ERR_READ_ERROR 104"}, "works", "dial: status 502 ERR_READ_ERROR 104"},
		"parent closes mid-reply": {lab.ParentCut(lab.Close), "works", "dial: EOF"},
		"parent resets mid-reply": {lab.ParentCut(lab.Reset), "works", "dial: ECONNRESET"},
		"parent is silent":        {lab.ParentSilence{}, "works", "dial: timeout"},
		"a behaviour of one's own": {lab.Func(func(c net.Conn) { io.CopyN(c, strings.NewReader("HTTP/1.1 200 OK\r\n"), 17) }),
			"handshake: not TLS", "handshake: not TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, map[string]lab.Behaviour{"site.test": tt.does})
			for _, by := range []way{direct, tunnel} {
				want := map[string]string{"direct": tt.direct, "tunnel": tt.tunnel}[by.name]
				if want == "" {
					require.False(t, w.Address("site.test", 443).IsValid())
					continue
				}
				silent := ""
				if strings.HasSuffix(want, ": timeout") {
					silent = strings.TrimSuffix(want, ": timeout")
				}
				_, body, err := fetchTill(w, by, "site.test", 443, "/", silent)
				got := what(err)
				if s := step(err); s != "" {
					got = s + ": " + strings.TrimPrefix(got, s+": ")
				}
				require.Contains(t, strings.Split(want, " or "), got, by.name)
				if cut, ok := tt.does.(lab.MidStream); ok {
					require.Len(t, body, int(cut.After), "bytes that arrive before the cut")
				}
			}
		})
	}
}

func TestBehavioursInClear(t *testing.T) {
	w := start(t, map[string]lab.Behaviour{
		"plain.test":    lab.Site{},
		"blocked.test":  lab.BlockPage{Body: "no"},
		"redirect.test": lab.BlockPage{Status: 302, Location: "http://block.example.com/?why=category"},
		"moved.test":    lab.Site{Location: "https://cdn.test/"},
		"short.test":    lab.MidStream{After: 70000, End: lab.Close},
	})
	for _, by := range []way{direct, tunnel} {
		res, body, err := fetch(w, by, "plain.test", 80, "/")
		require.NoError(t, err)
		require.Equal(t, 200, res.StatusCode)
		require.Equal(t, "plain.test: GET, 0 bytes received\n", body)

		res, body, err = fetch(w, by, "blocked.test", 80, "/")
		require.NoError(t, err)
		require.Equal(t, 403, res.StatusCode)
		require.Equal(t, "no", body)

		res, _, err = fetch(w, by, "redirect.test", 80, "/")
		require.NoError(t, err)
		require.Equal(t, 302, res.StatusCode)
		require.Equal(t, "http://block.example.com/?why=category", res.Header.Get("Location"))

		res, _, err = fetch(w, by, "moved.test", 80, "/v2/image")
		require.NoError(t, err)
		require.Equal(t, 307, res.StatusCode)
		require.Equal(t, "https://cdn.test/v2/image", res.Header.Get("Location"))

		_, body, err = fetch(w, by, "short.test", 80, "/")
		require.Equal(t, "EOF", what(err))
		require.Len(t, body, 70000)
	}
}

func TestSitePaths(t *testing.T) {
	w := start(t, map[string]lab.Behaviour{"*": lab.Site{}})
	_, body, err := fetch(w, direct, "a.test", 443, "/bytes/1000000")
	require.NoError(t, err)
	require.Len(t, body, 1000000)
	for _, status := range []int{204, 401, 404, 503} {
		res, _, err := fetch(w, tunnel, "a.test", 443, fmt.Sprint("/status/", status))
		require.NoError(t, err)
		require.Equal(t, status, res.StatusCode)
	}
}

func TestAbsoluteForm(t *testing.T) {
	w := start(t, map[string]lab.Behaviour{
		"plain.test":  lab.Site{},
		"reset.test":  lab.AfterHello(lab.Reset),
		"denied.test": lab.ParentStatus{Code: 403},
		"cut.test":    lab.MidStream{After: 10, End: lab.Close},
	})
	for host, want := range map[string]string{
		"plain.test":  "200 works",
		"reset.test":  "ECONNRESET",
		"denied.test": "403 works",
		"cut.test":    "200 EOF",
		"gone.test":   "503 works",
	} {
		c, err := net.Dial("tcp", w.Parent().Host)
		require.NoError(t, err)
		c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "GET http://%s/x HTTP/1.1\r\nHost: %[1]s\r\n\r\n", host)
		got := ""
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			got = fmt.Sprint(res.StatusCode, " ")
			_, err = io.ReadAll(res.Body)
		}
		require.Equal(t, want, got+what(err), host)
		require.NoError(t, c.Close())
	}
	require.Contains(t, w.Saw(), lab.Sighting{Door: lab.DoorParent, Method: "GET", Target: "plain.test:80"})
	require.Contains(t, w.Saw(), lab.Sighting{Door: lab.DoorSite, Method: "GET", Target: "plain.test:80", Path: "/x"})
}

func TestServersThatAreNotWeb(t *testing.T) {
	w := start(t, map[string]lab.Behaviour{"ssh.test:22": lab.SSH, "mail.test:25": lab.SMTP, "echo.test:7": lab.Echo{}})
	for _, by := range []way{direct, tunnel} {
		for host, port := range map[string]uint16{"ssh.test": 22, "mail.test": 25} {
			c, err := by.dial(w, host, port)
			require.NoError(t, err)
			line, err := bufio.NewReader(c).ReadString('\n')
			require.NoError(t, err)
			require.Contains(t, []string{string(lab.SSH), string(lab.SMTP)}, line)
			require.NoError(t, c.Close())
		}
		c, err := by.dial(w, "echo.test", 7)
		require.NoError(t, err)
		_, err = c.Write([]byte("\x00\xffping"))
		require.NoError(t, err)
		back := make([]byte, 6)
		_, err = io.ReadFull(c, back)
		require.NoError(t, err)
		require.Equal(t, "\x00\xffping", string(back))
		require.NoError(t, c.Close())
	}
}
