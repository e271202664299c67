package main

import (
	"bytes"
	"cmp"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/dnsaudit"
	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/policy/report"
)

// TestNoServers is a host without DNS: an obstacle, but not behind a parent that
// looks names up itself.
func TestNoServers(t *testing.T) {
	none := dnsaudit.Config{ResolvConf: filepath.Join(t.TempDir(), "resolv.conf"), Timeout: 50 * time.Millisecond}
	require.NoError(t, os.WriteFile(none.ResolvConf, nil, 0o600))
	_, err := new(path).resolve(false, none)
	require.ErrorIs(t, err, dnsaudit.ErrNoServers)

	hosts := filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(hosts, []byte("192.0.2.7 registry.example.org\n"), 0o600))
	none.Hosts = hosts
	r, err := new(path).resolve(true, none)
	require.NoError(t, err)
	name, err := policy.ParseName("registry.example.org")
	require.NoError(t, err)
	require.Equal(t, "192.0.2.7", r.Resolve(t.Context(), name).Addrs[0].String(), "the hosts file still counts")

	named := path{resolver: "192.0.2.53"}
	r, err = named.resolve(false, none)
	require.NoError(t, err)
	require.Equal(t, "192.0.2.53:53", r.Servers()[0].String())
}

// TestParentFromEnv is which variable leads where.
func TestParentFromEnv(t *testing.T) {
	const httpAround = " for all but plain HTTP (which goes around it, for HTTP_PROXY is not set)"
	for _, row := range []struct {
		why        string
		vars       []string
		https      string // what https://dest.example.org goes through
		http       string
		shown, bad string
		ways       string // "": shown
	}{
		{why: "nothing set", vars: nil},
		{why: "one for each", vars: []string{"HTTPS_PROXY=http://a:1", "HTTP_PROXY=http://b:2"}, https: "http://a:1", http: "http://b:2", shown: "http://a:1",
			ways: "http://a:1 (plain HTTP through http://b:2)"},
		{why: "the same for both", vars: []string{"HTTPS_PROXY=http://a:1", "HTTP_PROXY=a:1"}, https: "http://a:1", http: "http://a:1", shown: "http://a:1"},
		{why: "plain HTTP alone", vars: []string{"http_proxy=b:2"}, http: "http://b:2", shown: "http://b:2",
			ways: "http://b:2 for plain HTTP alone (TLS goes around it, for HTTPS_PROXY is not set)"},
		{why: "the lower-case form first, as curl", vars: []string{"HTTPS_PROXY=http://a:1", "https_proxy=http://c:3"}, https: "http://c:3", shown: "http://c:3", ways: "http://c:3" + httpAround},
		{why: "the last of two, as the C library", vars: []string{"https_proxy=http://a:1", "https_proxy=http://c:3"}, https: "http://c:3", shown: "http://c:3", ways: "http://c:3" + httpAround},
		{why: "NO_PROXY", vars: []string{"HTTPS_PROXY=http://a:1", "NO_PROXY=.example.org"}, shown: "http://a:1", ways: "http://a:1" + httpAround},
		{why: "a password is kept and not shown", vars: []string{"HTTPS_PROXY=http://u:p%40ss@a:1"}, https: "http://u:p%40ss@a:1", shown: "http://u:xxxxx@a:1", ways: "http://u:xxxxx@a:1" + httpAround},
		{why: "one bad is enough", vars: []string{"HTTPS_PROXY=http://a:1", "HTTP_PROXY=socks5://b:2"}, bad: "HTTP_PROXY: \"socks5"},
	} {
		t.Run(row.why, func(t *testing.T) {
			up, err := parentOf("env", environ{vars: row.vars, stderr: new(bytes.Buffer)})
			if row.bad != "" {
				require.ErrorContains(t, err, row.bad)
				return
			}
			require.NoError(t, err)
			require.Equal(t, row.shown, up.shown)
			require.Equal(t, cmp.Or(row.ways, row.shown), up.ways)
			require.Equal(t, row.https, through(t, up, "https://dest.example.org"))
			require.Equal(t, row.http, through(t, up, "http://dest.example.org"))
		})
	}
}

func through(t *testing.T, up upstream, to string) string {
	u, err := url.Parse(to)
	require.NoError(t, err)
	if up.choose == nil {
		return ""
	}
	p, err := up.choose(u)
	require.NoError(t, err)
	if p == nil {
		return ""
	}
	return p.String()
}

// TestNamesAround: whether a NO_PROXY has names, which captured connections are then
// asked for.
func TestNamesAround(t *testing.T) {
	for list, names := range map[string]bool{
		"": false, "*": false, "localhost,127.0.0.1, ::1": false, "10.0.0.0/8,192.0.2.1:80,[2001:db8::1]:443,2001:db8::/32": false,
		".svc": true, "10.0.0.0/8,corp.example": true, "corp.example:443": true,
	} {
		up, err := parentOf("env", environ{vars: []string{"HTTPS_PROXY=http://a:1", "NO_PROXY=" + list}, stderr: new(bytes.Buffer)})
		require.NoError(t, err)
		require.Equal(t, names, up.byName, list)
	}
}

// TestLoop is a parent that is the listener itself.
func TestLoop(t *testing.T) {
	for _, row := range []struct {
		parent, listener string
		loops            bool
	}{
		{"http://127.0.0.1:3128", "127.0.0.1:3128", true},
		{"http://127.0.0.1:3128", "0.0.0.0:3128", true},
		{"http://[::1]:3128", "[::]:3128", true},
		{"http://127.0.0.1:3129", "127.0.0.1:3128", false},
		{"http://192.0.2.1:3128", "127.0.0.1:3128", false},
		{"http://192.0.2.1:3128", "0.0.0.0:3128", false},
		{"http://proxy.example.org:3128", "0.0.0.0:3128", false},
	} {
		up, err := parentOf(row.parent, environ{})
		require.NoError(t, err)
		require.Equal(t, row.loops, up.checkLoop(row.listener) != nil, "%s behind %s", row.parent, row.listener)
	}
}

// TestProgress shows the line at once, renews it by the second where it changed,
// and takes it away.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := progress{out: &out, done: make(chan struct{})}
		index := policy.NewIndex()
		p.add(&policy.Observation{}) // before the start: nothing to count with
		p.start(report.Options{Index: index})
		synctest.Wait()
		require.Equal(t, "\r\x1b[K0 endpoints used, 0 blocked, 0 unlisted", out.String())
		name, err := policy.ParseName("else.example.net")
		require.NoError(t, err)
		p.add(&policy.Observation{
			Kind: policy.KindConnection, Begun: time.Now(), Origin: policy.OriginClient, Asked: "else.example.net", Name: name.String(), Port: 443,
			Verdict: policy.Verdict{Outcome: policy.OK},
		})
		time.Sleep(10 * time.Second) // of the bubble's
		synctest.Wait()
		p.stop()
		require.Equal(t, "\r\x1b[K0 endpoints used, 0 blocked, 0 unlisted\r\x1b[K0 endpoints used, 0 blocked, 1 unlisted\r\x1b[K", out.String())
	})
}

// TestSignalBeforeChild is a Ctrl-C that came while the trial was begun: the
// child would not get it, and is not started.
func TestSignalBeforeChild(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("signals")
	}
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGINT
	child := exec.Command("true")
	_, status := new(trial).startChild(environ{}, child, signals)
	require.Equal(t, 130, status)
	require.Nil(t, child.Process)
}

// TestRecall is what a report takes of placeholders: one that any recording left
// open stays open, and what is given now goes first.
func TestRecall(t *testing.T) {
	a := &policy.Session{Set: []string{"zone=z1", "zone=z2", "site=s1"}}
	b, open := &policy.Session{Set: []string{"zone=z2", "zone=z3", "site=s1"}}, &policy.Session{Set: []string{"zone=z1"}}
	require.Equal(t, []string{"zone=z1", "zone=z2", "zone=z3", "site=s1"}, recall([]*policy.Session{a, b}, nil))
	require.Equal(t, []string{"zone=z1", "zone=z2"}, recall([]*policy.Session{a, open}, nil))
	require.Equal(t, []string{"site=s1"}, recall([]*policy.Session{a}, []string{"zone=z9"}))
	require.Nil(t, recall(nil, nil))
}

// TestUnion is what a report of several recordings takes from them.
func TestUnion(t *testing.T) {
	scopes := func(s *policy.Session) []string { return s.Scopes }
	a, b, all := &policy.Session{Scopes: []string{"x", "y"}}, &policy.Session{Scopes: []string{"y", "z"}}, &policy.Session{}
	require.Equal(t, []string{"x", "y", "z"}, union([]*policy.Session{a, b}, scopes))
	require.Nil(t, union([]*policy.Session{a, all, b}, scopes), "one that demanded everything")
	require.Nil(t, union(nil, scopes))
}

// TestWindowOf: the --bypass-window of a recording is the one of its report,
// whether it comes from memory or from the file.
func TestWindowOf(t *testing.T) {
	p := path{bypass: 90 * time.Second}
	s := policy.Session{Limits: p.limitMap()}
	require.Equal(t, p.bypass, windowOf(&s))
	at := filepath.Join(t.TempDir(), "l.jsonl")
	w, err := ledger.Open(at, ledger.Options{})
	require.NoError(t, err)
	require.NoError(t, w.Start(&s))
	require.NoError(t, w.Close())
	var r required
	r.catalogs = []string{"azure-arc"}
	var opt report.Options
	require.NoError(t, r.complete(environ{}, &opt, []string{at}))
	require.Equal(t, p.bypass, opt.BypassWindow)
	opt.BypassWindow = time.Second
	require.NoError(t, r.complete(environ{}, &opt, []string{at}))
	require.Equal(t, time.Second, opt.BypassWindow, "the flag wins")
}

// TestReloadedCatalogsCount: a report is held against what a reload added, and
// not only against what the recording began with.
func TestReloadedCatalogsCount(t *testing.T) {
	at := filepath.Join(t.TempDir(), "l.jsonl")
	w, err := ledger.Open(at, ledger.Options{})
	require.NoError(t, err)
	arc, aml := policy.CatalogRef{Name: "azure-arc"}, policy.CatalogRef{Name: "aml-extension"}
	session := func(scope string, list ...policy.CatalogRef) *policy.Session {
		return &policy.Session{Catalogs: list, Scopes: []string{scope}}
	}
	require.NoError(t, w.Start(session("agent", arc)))
	require.NoError(t, w.Renew(session("agent", arc), session("training", arc, aml)))
	require.NoError(t, w.Stop(session("training", arc, aml)))
	var r required
	require.NoError(t, r.complete(environ{}, &report.Options{}, []string{at}))
	require.Equal(t, []string{"azure-arc", "aml-extension"}, r.catalogs)
	require.Equal(t, []string{"agent", "training"}, r.scopes)
}
