package live

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/report"
)

// admin is a Server on loopback, with what it was told.
type admin struct {
	*Server
	url string

	mu    sync.Mutex
	wrong error
	marks []string
	feed  *feed
}

func newAdmin(t *testing.T, token string) *admin {
	a := &admin{feed: newFeed()}
	a.Server = New(Config{
		Token: token, Records: a.feed.follow, Against: report.Options{Catalogs: []*policy.Catalog{quay}},
		Ready: func() error { a.mu.Lock(); defer a.mu.Unlock(); return a.wrong },
		Mark: func(text string) error {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.marks = append(a.marks, text)
			return a.wrong
		},
		Metrics: []Metric{{Name: "ledger_lost_total", Help: "x", Grows: true, Value: func() float64 { return 7 }}, {Name: "tunnels", Help: "x", Value: func() float64 { return 3 }}},
	})
	srv := httptest.NewServer(a.routes())
	t.Cleanup(srv.Close)
	a.url = srv.URL
	t.Cleanup(func() { a.board().close() })
	return a
}

// ask makes a request, with fields as "Name: value".
func (a *admin) ask(t *testing.T, method, path, body string, fields ...string) (int, string) {
	t.Helper()
	status, _, text := a.answer(t, method, path, body, fields...)
	return status, text
}

// answer is ask, with the header of the answer. It follows no redirect.
func (a *admin) answer(t *testing.T, method, path, body string, fields ...string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequest(method, a.url+path, strings.NewReader(body))
	require.NoError(t, err)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header, string(b)
}

func TestHealth(t *testing.T) {
	a := newAdmin(t, "secret")
	for _, path := range []string{"/healthz", "/readyz"} {
		status, text := a.ask(t, "GET", path, "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "ok\n", text)
	}
	a.wrong = errors.New("write ledger \"t.jsonl\": no space left on device")
	status, text := a.ask(t, "GET", "/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, "no space left")
	status, _ = a.ask(t, "GET", "/healthz", "")
	require.Equal(t, http.StatusOK, status)
}

// TestMetrics: labels are of the contract's words, whatever clients say.
func TestMetrics(t *testing.T) {
	a := newAdmin(t, "")
	v := policy.Verdict{Outcome: policy.Failed, Stage: policy.StageHello, Error: policy.ConnectionTerminated}
	for _, o := range []*policy.Observation{
		{Kind: policy.KindConnection, Name: "evil\n\"host", Origin: policy.OriginClient, Verdict: v},
		{Kind: policy.KindConnection, Name: "other", Origin: policy.OriginClient, Verdict: v},
		{Kind: policy.KindConnection, Open: true, Origin: policy.OriginClient, Verdict: v},
		{Kind: policy.KindConnection, Origin: policy.OriginProbe, Verdict: v},
		{Kind: policy.KindConnection, Origin: policy.OriginProbe, Verdict: policy.Verdict{Outcome: policy.OK}, Detail: map[string]any{"trusted": false}},
		{Kind: policy.KindConnection, Origin: policy.OriginCanary, Verdict: v},
		{Kind: policy.KindQuery, Name: "a.example", Verdict: policy.Verdict{Outcome: policy.OK}},
		{Kind: policy.KindMark},
	} {
		a.Observe(o)
	}
	_, text := a.ask(t, "GET", "/metrics", "")
	require.Contains(t, text, `egressaudit_connections_total{error="connection_terminated",stage="hello",status="failed"} 2`+"\n")
	require.Contains(t, text, `egressaudit_queries_total{error="",stage="",status="ok"} 1`+"\n")
	require.Contains(t, text, "# TYPE egressaudit_ledger_lost_total counter\negressaudit_ledger_lost_total 7\n")
	require.Contains(t, text, "# TYPE egressaudit_tunnels gauge\negressaudit_tunnels 3\n")
	require.Contains(t, text, `egressaudit_certificate_probes_total{result="failed"} 1`+"\n")
	require.Contains(t, text, `egressaudit_certificate_probes_total{result="untrusted"} 1`+"\n")
	require.Contains(t, text, `egressaudit_certificate_probes_total{result="trusted"} 0`+"\n")
	require.Contains(t, text, "\negressaudit_ready 1\n")
	require.NotContains(t, text, "evil")
}

// What the recording says so far is told of a recording that was read to its end,
// and never as a 0 of one that was not.
func TestMetricsOfTheVerdict(t *testing.T) {
	a := newAdmin(t, "")
	a.feed.add(&policy.Record{Kind: policy.KindConnection, Observation: &policy.Observation{
		Name: "quay.io", Asked: "quay.io", Port: 443, Origin: policy.OriginClient, Listener: "connect",
		Verdict: policy.Verdict{Outcome: policy.Failed, Stage: policy.StageConnect, Error: policy.ConnectionTimeout, By: policy.ByNetwork},
	}})
	require.True(t, a.board().await(t.Context(), time.Minute))
	_, text := a.ask(t, "GET", "/metrics", "")
	for _, line := range []string{
		"egressaudit_recording_read 1", `egressaudit_endpoints{status="blocked"} 1`, `egressaudit_endpoints{status="used"} 0`,
		"egressaudit_unlisted_destinations 0", `egressaudit_verdict{verdict="gaps"} 1`, `egressaudit_verdict{verdict="clear"} 0`,
	} {
		require.Contains(t, text, "\n"+line+"\n")
	}
	a.feed.breakOff(errors.New("torn"))
	<-a.board().ended
	_, text = a.ask(t, "GET", "/metrics", "")
	require.Contains(t, text, "\negressaudit_recording_read 0\n")
	require.NotContains(t, text, "egressaudit_endpoints{")
	require.NotContains(t, text, "egressaudit_verdict{")

	a.mu.Lock()
	a.wrong = errors.New("full")
	a.mu.Unlock()
	_, text = a.ask(t, "GET", "/metrics", "")
	require.Contains(t, text, "\negressaudit_ready 0\n")
}

// Records that were lost do not take the proxy out of service, and are told of.
func TestLostAndReady(t *testing.T) {
	a := newAdmin(t, "")
	lost := uint64(0)
	a.config.Lost = func() uint64 { return lost }
	status, text := a.ask(t, "GET", "/readyz", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "ok\n", text)
	lost = 5
	status, text = a.ask(t, "GET", "/readyz", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "ok, but records lost: 5; no report of this recording will be an all-clear\n", text)
}

func TestMark(t *testing.T) {
	a := newAdmin(t, "")
	status, _ := a.ask(t, "POST", "/api/mark", " install \u202ethe extension\n")
	require.Equal(t, http.StatusNoContent, status)
	require.Equal(t, []string{"install \u202ethe extension"}, a.marks)
	for body, want := range map[string]int{
		"": 400, " \n": 400, "\xff": 400, strings.Repeat("a", 257): 413, strings.Repeat("a", 256): 204,
	} {
		status, _ := a.ask(t, "POST", "/api/mark", body)
		require.Equal(t, want, status, "%q", body)
	}
	status, _ = a.ask(t, "GET", "/api/mark", "")
	require.Equal(t, http.StatusMethodNotAllowed, status)
	a.wrong = errors.New("ledger is closed")
	status, text := a.ask(t, "POST", "/api/mark", "x")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, "closed")
}

// TestWhoMayMark: no page of another site, and nobody without the token.
func TestWhoMayMark(t *testing.T) {
	for name, c := range map[string]struct {
		token  string
		fields []string
		want   int
	}{
		"on this host":                           {"", nil, 204},
		"by localhost":                           {"", []string{"Host: localhost:3180"}, 204},
		"by the IPv6 loopback":                   {"", []string{"Host: [::1]:3180"}, 204},
		"a name that leads to us":                {"", []string{"Host: rebind.example.com:3180"}, 403},
		"an address that is not ours":            {"", []string{"Host: 192.0.2.1"}, 403},
		"from another site":                      {"", []string{"Sec-Fetch-Site: cross-site"}, 403},
		"from another origin":                    {"", []string{"Origin: https://evil.example"}, 403},
		"from a page that is not ours":           {"", []string{"Sec-Fetch-Site: same-origin"}, 403},
		"from a page of an earlier start":        {"", []string{"Sec-Fetch-Site: same-origin", "Egressaudit-Page: OLD"}, 403},
		"by a browser of old, no page":           {"", []string{"Cookie: a=b"}, 403},
		"from our page":                          {"", []string{"Sec-Fetch-Site: same-origin", "Egressaudit-Page: PAGE"}, 204},
		"from our page, by a name of somebody's": {"", []string{"Host: rebind.example.com", "Sec-Fetch-Site: same-origin", "Egressaudit-Page: PAGE"}, 403},
		"the cookie, from our page":              {"secret", []string{"Cookie: COOKIE", "Sec-Fetch-Site: same-origin", "Egressaudit-Page: PAGE"}, 204},
		"the cookie alone":                       {"secret", []string{"Cookie: COOKIE"}, 403},
		"our page, no cookie":                    {"secret", []string{"Sec-Fetch-Site: same-origin", "Egressaudit-Page: PAGE"}, 401},
		"from another port of this host":         {"", []string{"Sec-Fetch-Site: same-site"}, 403},
		"no token":                               {"secret", nil, 401},
		"another token":                          {"secret", []string{"Authorization: Bearer secre"}, 401},
		"the token":                              {"secret", []string{"Authorization: Bearer secret", "Host: egressaudit.svc"}, 204},
		"the token, from another site":           {"secret", []string{"Authorization: Bearer secret", "Sec-Fetch-Site: cross-site"}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAdmin(t, c.token)
			cookie := cookieName + "=" + a.pass(time.Now().Add(time.Hour).Unix())
			for i, f := range c.fields {
				c.fields[i] = strings.NewReplacer("PAGE", a.pageToken, "COOKIE", cookie).Replace(f)
			}
			status, _ := a.ask(t, "POST", "/api/mark", "x", c.fields...)
			require.Equal(t, c.want, status)
			require.Equal(t, c.want == 204, len(a.marks) == 1)
		})
	}
}
