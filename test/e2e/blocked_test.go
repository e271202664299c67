//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/test/suite"
)

// block is how a name is blocked, and what the report must make of it.
type block struct {
	requirement string // whose host is REQUIREMENT.egress.test
	stage       policy.Stage
	error       policy.Error
	by          policy.By
	confidence  policy.Confidence
	reason      string         // what our answer's reason phrase tells; "" where there is a tunnel
	detail      map[string]any // some of it
}

var (
	refused = block{"refused", policy.StageConnect, policy.ConnectionRefused, policy.ByNetwork, policy.Certain,
		"egressaudit: connection_refused refused.egress.test:443", nil}
	gone = block{"gone", policy.StageResolve, policy.DNSError, policy.ByResolver, policy.Likely,
		"egressaudit: dns_error gone.egress.test:443", map[string]any{"rcode": "NXDOMAIN"}}
	reset = block{"reset", policy.StageHello, policy.ConnectionTerminated, policy.ByNetwork, policy.Certain,
		"", map[string]any{"close": "rst"}}
	silent    = block{"silent", policy.StageHello, policy.ConnectionReadTimeout, policy.ByNetwork, policy.Certain, "", nil}
	page      = block{"page", policy.StageHello, policy.NotTLSReply, policy.ByNetwork, policy.Certain, "", nil}
	inspected = block{"inspected", policy.StageHandshake, policy.TLSIntercepted, policy.ByNetwork, policy.Certain,
		"", map[string]any{"issuer": "Inspector root"}}
	// Go encrypts its alert, and GnuTLS judges the certificate only after its
	// Finished, so that nothing on the wire names the cause.
	inspectedUnsaid = block{"inspected", policy.StageHandshake, policy.TLSIntercepted, policy.ByNetwork, policy.Likely,
		"", map[string]any{"issuer": "Inspector root"}}
	misnamed = block{"a.misnamed", policy.StageHandshake, policy.TLSAlertReceived, policy.ByClient, policy.Likely,
		"", map[string]any{"certificate": "other_name", "issuer": "Public root"}}
	// urllib has OpenSSL compare the names, which then says so in an alert.
	misnamedSaid = block{"a.misnamed", policy.StageHandshake, policy.TLSAlertReceived, policy.ByClient, policy.Certain,
		"", map[string]any{"certificate": "other_name", "issuer": "Public root"}}
)

// visitor is a client that fetches an address of a host that is blocked.
type visitor struct {
	name   string
	needs  []string
	env    func(w *world) []string
	args   func(w *world, host string) []string
	shows  bool // prints the reason phrase of a refused CONNECT
	status int  // its exit status
	// attempts are how often one action of it asks: for a tunnel that we
	// refuse, and for one that breaks.
	refused, broken int
}

var (
	curl = visitor{name: "curl", needs: []string{"curl"}, status: 56, refused: 1, broken: 1,
		args: func(w *world, host string) []string {
			return []string{"curl", "-sS", "--max-time", "2", "--cacert", w.ca, "https://" + host + "/"}
		}}
	wget = visitor{name: "wget", needs: []string{"wget"}, shows: true, status: 4, refused: 1, broken: 1,
		args: func(w *world, host string) []string {
			return []string{"wget", "-O-", "--tries=1", "--ca-certificate=" + w.ca, "https://" + host + "/"}
		}}
	git = visitor{name: "git", needs: []string{"git"}, status: 128, refused: 1, broken: 1, env: gitEnv,
		args: func(_ *world, host string) []string {
			return []string{"git", "ls-remote", "https://" + host + "/repo.git"}
		}}
	requests = visitor{name: "requests", needs: []string{"python3", "python:requests"}, shows: true, status: 1, refused: 1, broken: 1,
		env: func(w *world) []string { return []string{"REQUESTS_CA_BUNDLE=" + w.ca} },
		args: func(_ *world, host string) []string {
			return []string{"/usr/bin/python3", "-c", "import requests; requests.get('https://" + host + "/')"}
		}}
	urllib = visitor{name: "urllib", needs: []string{"python3"}, shows: true, status: 1, refused: 1, broken: 1, env: trustFile,
		args: func(_ *world, host string) []string {
			return []string{"/usr/bin/python3", "-c", "import urllib.request as u; u.urlopen('https://" + host + "/')"}
		}}
	skopeo = visitor{name: "skopeo", needs: []string{"skopeo"}, shows: true, status: 1, refused: 2, broken: 2, env: trustFile,
		args: func(_ *world, host string) []string {
			return []string{"skopeo", "inspect", "docker://" + host + ":443/demo/app:v1"}
		}}
	pip = visitor{name: "pip", needs: []string{"pip3", "python3"}, shows: true, status: 1, refused: 6, broken: 6, env: pipEnv,
		args: func(w *world, host string) []string {
			return []string{"/usr/bin/python3", "-m", "pip", "download", "--no-deps", "-d", "wheels", "-i", "https://" + host + "/simple/", "demo"}
		}}
	sclient = visitor{name: "openssl", needs: []string{"openssl"}, status: 1, refused: 1, broken: 1,
		args: func(w *world, host string) []string {
			script := `exec openssl s_client -proxy "${https_proxy#http://}" -connect "$1:443" -servername "$1" -CAfile "$2" -verify_return_error -brief </dev/null`
			return []string{"sh", "-c", script, "s_client", host, w.ca}
		}}
)

// TestBlocked has each client meet what it cannot get past. Retries of one
// action are attempts of one endpoint, and one gap.
func TestBlocked(t *testing.T) {
	status := func(v visitor, n int) visitor { v.status = n; return v }
	tls12 := func(v visitor, n int, flag ...string) visitor {
		args := v.args
		v.args = func(w *world, host string) []string { return append(args(w, host), flag...) }
		v.name, v.status = v.name+" with TLS 1.2", n
		return v
	}
	for _, row := range []struct {
		visitor
		block
	}{
		{curl, refused}, {curl, gone}, {status(curl, 35), reset}, {status(curl, 28), silent}, {status(curl, 35), page}, {status(curl, 60), inspected},
		{wget, refused}, {wget, gone}, {wget, reset}, {status(wget, 5), inspectedUnsaid},
		{git, refused}, {git, gone}, {git, reset}, {git, inspectedUnsaid},
		{requests, refused}, {requests, gone}, {requests, reset}, {requests, inspected},
		{urllib, refused}, {urllib, gone}, {urllib, reset}, {urllib, inspected},
		{sclient, refused}, {sclient, gone}, {sclient, reset}, {sclient, inspected},
		{skopeo, refused}, {skopeo, gone}, {skopeo, reset}, {skopeo, inspectedUnsaid},
		{pip, refused},
		{status(curl, 60), misnamed}, {status(wget, 5), misnamed}, {git, misnamed}, {requests, misnamed}, {urllib, misnamedSaid}, {skopeo, misnamed},
		{tls12(curl, 60, "--tls-max", "1.2"), inspected}, {tls12(wget, 5, "--ciphers=NORMAL:-VERS-TLS1.3"), inspectedUnsaid},
	} {
		t.Run(row.visitor.name+"/"+row.block.requirement, func(t *testing.T) {
			suite.Need(t, row.needs...)
			t.Parallel()
			row.visitor.meet(t, row.block)
		})
	}
}

func (v visitor) meet(t *testing.T, b block) {
	w := newWorld(t)
	var env []string
	if v.env != nil {
		env = v.env(w)
	}
	host := b.requirement + ".egress.test"
	x, status := w.run(t, env, []string{"--answer-timeout", "500ms"}, v.args(w, host)...)
	require.Equal(t, v.status, status, "the client's own status passes through\n%s", x.said())
	if v.shows && b.reason != "" {
		require.Contains(t, x.said(), b.reason, "the client shows what we say")
	}
	attempts := v.broken
	if b.reason != "" {
		attempts = v.refused
	}
	seen := closing(x.records(t))
	require.Len(t, seen, attempts, x.said())
	for _, r := range seen {
		require.Equal(t, host, r.Name)
		require.EqualValues(t, 443, r.Port)
		require.Equal(t, policy.Failed, r.Outcome, "%+v", r.Observation)
		require.Equal(t, []any{b.stage, b.error, b.by, b.confidence}, []any{r.Stage, r.Error, r.By, r.Confidence}, "%v", r.Detail)
		require.Equal(t, b.reason == "", r.SNI == host, "a tunnel shows the client's hello")
	}
	r := x.judged(t)
	require.EqualValues(t, "gaps", r.Verdict)
	require.Equal(t, status, *r.ChildStatus)
	require.Equal(t, 1, r.Summary.Blocked, "one gap, however often it was tried")
	e := endpoint(t, r, b.requirement)
	require.EqualValues(t, "blocked", e.Status)
	require.Equal(t, attempts, e.Hosts[0].Attempts)
	require.NotNil(t, e.Cause)
	require.Equal(t, []any{b.stage, b.error, b.by, b.confidence}, []any{e.Cause.Stage, e.Cause.Error, e.Cause.By, e.Cause.Confidence})
	for key, value := range b.detail {
		require.Contains(t, e.Cause.Detail[key], value, "detail.%s", key)
	}
	require.Contains(t, e.Cause.Ask, host)
}

// TestInspected has clients accept the certificate of a device that opens TLS:
// that works, and is told; where the endpoint must not be inspected it is a gap.
func TestInspected(t *testing.T) {
	suite.Need(t, "curl")
	for _, row := range []struct {
		name, requirement string
		flags             []string
		more              []string
		status            int
		is                string
	}{
		{"TLS 1.3, probed", "inspected", []string{"--probe-certificates", "always"}, nil, 0, "used"},
		{"TLS 1.2, read in passing", "inspected", nil, []string{"--tls-max", "1.2"}, 0, "used"},
		{"must not be inspected", "private", nil, nil, 1, "partial"},
		{"must not be inspected, TLS 1.2", "private", nil, []string{"--tls-max", "1.2"}, 1, "partial"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			host := row.requirement + ".egress.test"
			x, status := w.run(t, nil, row.flags, append([]string{"curl", "-sSk", "https://" + host + "/"}, row.more...)...)
			require.Contains(t, x.stdout.String(), "here is "+host)
			require.Equal(t, row.status, status, x.said())
			seen := closing(x.records(t))
			require.Len(t, seen, 1)
			require.Equal(t, policy.OK, seen[0].Outcome)
			require.Contains(t, fmt.Sprint(seen[0].Detail["issuer"]), "Inspector root")
			r := x.judged(t)
			require.EqualValues(t, row.is, endpoint(t, r, row.requirement).Status)
			require.Len(t, r.Findings, 1)
			require.EqualValues(t, "tls_intercepted", r.Findings[0].Kind)
			require.Contains(t, r.Findings[0].Text, "Inspector root")
		})
	}
}

// TestBlockedPlain is the same for absolute-form requests, where the answer is
// ours to write.
func TestBlockedPlain(t *testing.T) {
	suite.Need(t, "curl")
	w := newWorld(t)
	x, status := w.run(t, nil, nil, "curl", "-sS", "-i", "http://refused.egress.test/")
	require.Equal(t, 1, status, "curl is content with a 502, so the gap decides: %s", x.said())
	require.Contains(t, x.said(), "HTTP/1.1 502")
	require.Contains(t, x.said(), "Proxy-Status: egressaudit; error=connection_refused")
	require.Contains(t, x.said(), "connection_refused at stage connect, by network")
	seen := closing(x.records(t))
	require.Len(t, seen, 1)
	require.Equal(t, policy.KindRequest, seen[0].Kind)
	require.Equal(t, policy.ConnectionRefused, seen[0].Error)
	require.EqualValues(t, "blocked", endpoint(t, x.judged(t), "refused-plain").Status)
}

// TestEnforce has curl ask for what no catalog lists.
func TestEnforce(t *testing.T) {
	suite.Need(t, "curl", "openssl")
	enforce := []string{"--mode", "enforce"}
	for _, row := range []struct {
		name   string
		args   func(w *world) []string
		status int
		says   string
		policy.Outcome
		policy.Stage
		policy.Error
	}{
		{"listed", func(w *world) []string { return curl.args(w, "web.egress.test") }, 0, "here is web", policy.OK, policy.StageData, ""},
		{"listed, plain", words("curl", "-sS", "http://web.egress.test/"), 0, "here is web", policy.OK, policy.StageData, ""},
		{"not listed", func(w *world) []string { return curl.args(w, "unlisted.egress.test") }, 56, "403", policy.Denied, policy.StagePolicy, policy.HTTPRequestDenied},
		{"not listed, plain", words("curl", "-sSf", "http://unlisted.egress.test/"), 22, "403", policy.Denied, policy.StagePolicy, policy.HTTPRequestDenied},
		{"server name not listed", sClient("-servername", "unlisted.egress.test"), 1, "alert access denied", policy.Denied, policy.StagePolicy, policy.HTTPRequestDenied},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			x, status := w.run(t, nil, enforce, row.args(w)...)
			require.Equal(t, row.status, status, x.said())
			require.Contains(t, x.said(), row.says)
			seen := closing(x.records(t))
			require.Len(t, seen, 1)
			require.Equal(t, row.Outcome, seen[0].Outcome)
			require.Equal(t, row.Stage, seen[0].Stage)
			require.Equal(t, row.Error, seen[0].Error)
			if row.Outcome != policy.Denied {
				return
			}
			require.Equal(t, policy.BySelf, seen[0].By)
			require.Equal(t, policy.Deny, seen[0].Decision)
			for at, m := range w.meters {
				bytes := append(m.settled(t, false), m.settled(t, true)...)
				require.False(t, slices.ContainsFunc(bytes, func(b traffic) bool { return b.up > 0 }), "not a byte reached %s", at)
			}
		})
	}
}
