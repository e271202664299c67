//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/test/suite"
)

// flow is what a client's connections, or plain requests, must look like in the
// ledger. Those that several share are the same but for their bytes.
type flow struct {
	asked, sni, name string // name: "" is asked
	state            policy.SNIState
	port             uint16
	kind             policy.Kind     // "" is connection
	protocol         string          // "" is tls
	from             policy.NameFrom // "" is asked
	version          string          // of TLS; "" is 1.3
	requirement      string          // "" is in no catalog
	inside           bool            // a private address: a finding about NO_PROXY, not an unlisted destination
}

// to is the usual flow: a tunnel asked for by name, TLS with that name.
func to(host string, port uint16, requirement string) flow {
	return flow{asked: host, sni: host, state: policy.SNIPresent, port: port, requirement: requirement}
}

// nothingRequired is the exit status of a trial that exercised no required
// endpoint: it cannot tell.
const nothingRequired = 3

// client is a row: one client, alone, under one egressaudit run.
type client struct {
	name     string
	needs    []string
	prepare  func(w *world, t *testing.T) // what must be there to be fetched
	env      func(w *world) []string
	args     func(w *world) []string
	prints   string // part of its output, to see that it really worked
	flow     func(w *world) flow
	min, max int // how many connections or requests
	findings []string
	exit     int
	// silent is a client that leaves after the handshake without a word more.
	// So does one that dislikes the certificate, which may be probed then: the
	// destination sees a connection of ours.
	silent bool
}

func (c client) run(t *testing.T) {
	suite.Need(t, c.needs...)
	t.Parallel()
	w := newWorld(t)
	if c.prepare != nil {
		c.prepare(w, t)
	}
	for _, m := range w.meters {
		m.reset()
	}
	var env []string
	if c.env != nil {
		env = c.env(w)
	}
	x, status := w.run(t, env, nil, c.args(w)...)
	require.Equal(t, c.exit, status, x.said())
	require.Contains(t, x.said(), c.prints)

	f := c.flow(w)
	records := x.records(t)
	seen := closing(records)
	require.GreaterOrEqual(t, len(seen), c.min, x.said())
	require.LessOrEqual(t, len(seen), c.max, x.said())
	for _, r := range seen {
		f.check(t, w, r)
	}
	counted := w.meters[seen[0].Address.String()].settled(t, f.kind == policy.KindRequest)
	const why = "the ledger's bytes up and down are those that the destination counted"
	if c.silent {
		require.Subset(t, counted, carried(seen), why)
	} else {
		require.Equal(t, counted, carried(seen), why)
	}
	s, err := os.Stat(x.ledger)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), s.Mode())
	c.checkReport(t, x, f, seen)
}

func (f flow) check(t *testing.T, w *world, r *policy.Record) {
	t.Helper()
	want := f.filled()
	require.Equal(t, want.kind, r.Kind)
	require.Equal(t, want.asked, r.Asked, "asked")
	require.Equal(t, want.sni, r.SNI, "sni")
	require.Equal(t, want.state, r.SNIState, "sni_state")
	require.Equal(t, want.port, r.Port, "port")
	require.Equal(t, want.name, r.Name, "name")
	require.Equal(t, want.from, r.NameFrom, "name_from")
	require.Equal(t, want.protocol, r.Protocol, "protocol")
	require.Equal(t, want.version, r.TLSVersion, "tls_version")
	require.Equal(t, policy.OK, r.Outcome, "outcome, with error %s at %s by %s: %v", r.Error, r.Stage, r.By, r.Detail)
	require.Empty(t, r.Error)
	require.Equal(t, policy.Allow, r.Decision)
	require.True(t, r.Client.Addr().IsLoopback())
	require.Equal(t, want.port, r.Address.Port())
	require.Contains(t, w.meters, r.Address.String(), "the address is the destination's")
	if want.requirement == "" {
		require.Empty(t, r.Matches)
		return
	}
	require.Len(t, r.Matches, 1)
	require.Equal(t, "e2e", r.Matches[0].Catalog)
	require.Equal(t, want.requirement, r.Matches[0].Requirement)
	if want.kind == policy.KindRequest {
		require.Equal(t, "GET", r.Method)
		require.NotZero(t, r.Status)
	}
}

// filled is f with what empty fields stand for.
func (f flow) filled() flow {
	if f.kind == "" {
		f.kind = policy.KindConnection
	}
	if f.protocol == "" {
		f.protocol = "tls"
	}
	if f.name == "" {
		f.name = f.asked
	}
	if f.version == "" && f.protocol == "tls" {
		f.version = "1.3"
	}
	if f.from == "" {
		f.from = policy.FromAsked
	}
	return f
}

func (c client) checkReport(t *testing.T, x *trial, f flow, seen []*policy.Record) {
	t.Helper()
	r := x.judged(t)
	require.NotNil(t, r.ChildStatus)
	require.Zero(t, *r.ChildStatus)
	var kinds []string
	for _, f := range r.Findings {
		kinds = append(kinds, string(f.Kind))
	}
	require.Equal(t, c.findings, kinds, "%+v", r.Findings)
	if f.requirement == "" {
		if f.inside {
			require.EqualValues(t, "cannot-tell", r.Verdict)
			return
		}
		require.Len(t, r.Unlisted, 1)
		require.Equal(t, f.filled().name, r.Unlisted[0].Host)
		require.EqualValues(t, "worked", r.Unlisted[0].Outcome)
		require.EqualValues(t, "gaps", r.Verdict)
		return
	}
	e := endpoint(t, r, f.requirement)
	require.EqualValues(t, "used", e.Status)
	require.Nil(t, e.Cause)
	require.Len(t, e.Hosts, 1)
	require.Equal(t, f.asked, e.Hosts[0].Host)
	require.Equal(t, len(seen), e.Hosts[0].Attempts)
	require.Equal(t, len(seen), e.Hosts[0].OK)
	var sum traffic
	for _, b := range carried(seen) {
		sum.up, sum.down = sum.up+b.up, sum.down+b.down
	}
	require.Equal(t, sum, traffic{e.Hosts[0].BytesUp, e.Hosts[0].BytesDown})
	require.EqualValues(t, "clear", r.Verdict, "%v", r.BlindSpots)
	require.Equal(t, 1, r.Exercised)
	require.Empty(t, r.Unlisted)
}

// fixed is for rows whose flow needs nothing of the world.
func fixed(f flow) func(*world) flow { return func(*world) flow { return f } }

// words is for rows whose arguments need nothing of the world.
func words(args ...string) func(*world) []string {
	return func(*world) []string { return args }
}

func TestClients(t *testing.T) {
	web, plain := to("web.egress.test", 443, "web"), flow{
		asked: "web.egress.test", state: policy.SNINotTLS, port: 80, protocol: "http", kind: policy.KindRequest, requirement: "web-plain",
	}
	tunnelled := plain
	tunnelled.kind = ""
	noName, fronted, older := web, web, web
	older.version = "1.2"
	noName.sni, noName.state = "", policy.SNIAbsent
	fronted.sni = "other.egress.test"
	for _, c := range []client{
		{name: "curl/https", needs: []string{"curl"}, flow: fixed(web), min: 1, max: 1, prints: "here is web.egress.test",
			args: func(w *world) []string { return []string{"curl", "-sS", "--cacert", w.ca, "https://web.egress.test/"} }},
		{name: "curl/a megabyte each way", needs: []string{"curl"}, flow: fixed(web), min: 1, max: 1,
			prepare: func(w *world, t *testing.T) { w.write(t, "upload", string(make([]byte, 1<<20))) },
			args: func(w *world) []string {
				return []string{"curl", "-sS", "--cacert", w.ca, "-o", "/dev/null", "--data-binary", "@upload", "https://web.egress.test/bytes/1048576"}
			}},
		{name: "curl/plain http", needs: []string{"curl"}, flow: fixed(plain), min: 1, max: 1, prints: "here is web.egress.test",
			args: words("curl", "-sS", "http://web.egress.test/")},
		{name: "curl/plain http in a tunnel", needs: []string{"curl"}, flow: fixed(tunnelled), min: 1, max: 1, prints: "here is web.egress.test",
			args: words("curl", "-sS", "-p", "http://web.egress.test/")},
		// run's NO_PROXY keeps loopback from the proxy; --noproxy "" asks for it all the same.
		{name: "curl/address instead of a name", needs: []string{"curl"}, min: 1, max: 1, prints: "here is 127.",
			args: func(w *world) []string {
				return []string{"curl", "-sS", "--noproxy", "", "--cacert", w.ca, "https://" + w.address("web.egress.test") + "/"}
			},
			flow: func(w *world) flow {
				return flow{asked: w.address("web.egress.test"), state: policy.SNIAbsent, port: 443, from: policy.FromAddress, inside: true}
			}, exit: nothingRequired, findings: []string{"no_proxy"}},
		{name: "curl/in no catalog", needs: []string{"curl"}, flow: fixed(to("unlisted.egress.test", 443, "")), min: 1, max: 1, exit: nothingRequired,
			args: func(w *world) []string {
				return []string{"curl", "-sS", "--cacert", w.ca, "https://unlisted.egress.test/"}
			}},
		{name: "wget", needs: []string{"wget"}, flow: fixed(web), min: 1, max: 1, prints: "here is web.egress.test",
			args: func(w *world) []string {
				return []string{"wget", "-q", "-O-", "--ca-certificate=" + w.ca, "https://web.egress.test/"}
			}},
		{name: "wget/plain http", needs: []string{"wget"}, flow: fixed(plain), min: 1, max: 1, prints: "here is web.egress.test",
			args: words("wget", "-q", "-O-", "http://web.egress.test/")},
		{name: "git/ls-remote", needs: []string{"git"}, flow: fixed(to("git.egress.test", 443, "git")), min: 1, max: 1, prints: "refs/heads/main",
			prepare: (*world).offerGit, env: gitEnv, args: words("git", "ls-remote", "https://git.egress.test/repo.git")},
		{name: "git/clone", needs: []string{"git"}, flow: fixed(to("git.egress.test", 443, "git")), min: 1, max: 4, prints: "Cloning into",
			prepare: (*world).offerGit, env: gitEnv, args: words("git", "clone", "https://git.egress.test/repo.git", "clone")},
		{name: "python requests", needs: []string{"python3", "python:requests"}, flow: fixed(web), min: 1, max: 1, prints: "here is web.egress.test",
			env:  func(w *world) []string { return []string{"REQUESTS_CA_BUNDLE=" + w.ca} },
			args: words("/usr/bin/python3", "-c", "import requests; print(requests.get('https://web.egress.test/').text)")},
		{name: "python urllib", needs: []string{"python3"}, flow: fixed(web), min: 1, max: 1, prints: "here is web.egress.test",
			env:  func(w *world) []string { return []string{"SSL_CERT_FILE=" + w.ca} },
			args: words("/usr/bin/python3", "-c", "import urllib.request as u; print(u.urlopen('https://web.egress.test/').read().decode())")},
		{name: "openssl s_client", needs: []string{"openssl"}, flow: fixed(web), min: 1, max: 1, prints: "Verification: OK",
			silent: true, args: sClient("-servername", "web.egress.test")},
		{name: "openssl s_client/no server name", needs: []string{"openssl"}, flow: fixed(noName), min: 1, max: 1, prints: "Verification: OK",
			silent: true, args: sClient("-noservername")},
		{name: "openssl s_client/another server name", needs: []string{"openssl"}, flow: fixed(fronted), min: 1, max: 1, prints: "Verification: OK",
			silent: true, args: sClient("-servername", "other.egress.test"), findings: []string{"sni_mismatch"}},
		{name: "openssl s_client/TLS 1.2", needs: []string{"openssl"}, flow: fixed(older), min: 1, max: 1, prints: "Verification: OK",
			silent: true, args: sClient("-servername", "web.egress.test", "-tls1_2")},
		{name: "pip download", needs: []string{"pip3", "python3"}, flow: fixed(to("pypi.egress.test", 443, "pypi")), min: 1, max: 2, prints: "Successfully downloaded demo",
			prepare: (*world).offerPip, env: pipEnv, args: pipDownload},
		{name: "apt-get update", needs: []string{"apt-get"}, flow: fixed(to("apt.egress.test", 443, "apt")), min: 1, max: 4, prints: "Reading package lists",
			prepare: func(w *world, t *testing.T) { w.offerApt(t, "https") }, env: aptEnv, args: aptUpdate},
		{name: "apt-get update/plain http", needs: []string{"apt-get"}, min: 1, max: 12, prints: "Reading package lists",
			prepare: func(w *world, t *testing.T) { w.offerApt(t, "http") }, env: aptEnv, args: aptUpdate,
			flow: fixed(flow{asked: "apt.egress.test", state: policy.SNINotTLS, port: 80, protocol: "http", kind: policy.KindRequest, requirement: "apt-plain"})},
		{name: "skopeo/copy", needs: registry, flow: fixed(to("reg.egress.test", 5000, "registry")), min: 1, max: 8, prints: "Storing signatures",
			prepare: (*world).offerImage, env: trustFile,
			args: words("skopeo", "--insecure-policy", "copy", "docker://reg.egress.test:5000/demo/app:v1", "dir:pulled")},
		{name: "skopeo/copy, --src-cert-dir", needs: registry, flow: fixed(to("reg.egress.test", 5000, "registry")), min: 1, max: 8, prints: "Storing signatures",
			prepare: (*world).offerImage,
			args: func(w *world) []string {
				return []string{"skopeo", "--insecure-policy", "copy", "--src-cert-dir", filepath.Join(w.dir, "certs.d"), "docker://reg.egress.test:5000/demo/app:v1", "dir:pulled"}
			}},
		{name: "skopeo/inspect", needs: registry, flow: fixed(to("reg.egress.test", 5000, "registry")), min: 1, max: 8, prints: "sha256:",
			prepare: (*world).offerImage, env: trustFile,
			args: words("skopeo", "inspect", "docker://reg.egress.test:5000/demo/app:v1")},
		{name: "skopeo/push", needs: registry, flow: fixed(to("reg.egress.test", 5000, "registry")), min: 1, max: 16, prints: "Storing signatures",
			prepare: (*world).offerImage, env: trustFile,
			args: words("skopeo", "--insecure-policy", "copy", "docker-archive:image.tar", "docker://reg.egress.test:5000/demo/pushed:v1")},
	} {
		t.Run(c.name, c.run)
	}
}

func gitEnv(w *world) []string    { return []string{"GIT_SSL_CAINFO=" + w.ca} }
func trustFile(w *world) []string { return []string{"SSL_CERT_FILE=" + w.ca} }

func pipEnv(w *world) []string {
	return []string{"REQUESTS_CA_BUNDLE=" + w.ca, "PIP_CERT=" + w.ca, "PIP_NO_CACHE_DIR=1"}
}

func pipDownload(w *world) []string {
	return []string{"/usr/bin/python3", "-m", "pip", "download", "--no-deps", "-d", filepath.Join(w.dir, "wheels"), "-i", "https://pypi.egress.test/simple/", "demo"}
}

// sClient goes through a shell, for openssl reads no proxy variable and wants
// the proxy without a scheme.
func sClient(more ...string) func(*world) []string {
	return func(w *world) []string {
		script := `exec openssl s_client -proxy "${https_proxy#http://}" -connect web.egress.test:443 -verify_return_error -brief "$@" </dev/null`
		return append([]string{"sh", "-c", script, "s_client", "-CAfile", w.ca}, more...)
	}
}

// TestManyAtOnce has thirty clients at a time, each with an answer of its own
// length: no record is lost, doubled or mixed up with another's.
func TestManyAtOnce(t *testing.T) {
	suite.Need(t, "curl", "xargs", "seq")
	const clients = 150
	w := newWorld(t)
	x, status := w.run(t, nil, nil, "sh", "-c",
		`seq `+strconv.Itoa(clients)+` | xargs -P 30 -I {} curl -sS --cacert "$0" -o /dev/null https://web.egress.test/bytes/{}000`, w.ca)
	require.Zero(t, status, x.said())
	records := x.records(t)
	for i, r := range records {
		require.EqualValues(t, i+1, r.Seq)
	}
	seen := closing(records)
	require.Len(t, seen, clients)
	ids := map[string]bool{}
	for _, r := range seen {
		require.Equal(t, policy.OK, r.Outcome)
		ids[r.ID] = true
	}
	require.Len(t, ids, clients)
	require.Equal(t, w.meters[seen[0].Address.String()].settled(t, false), carried(seen))
	require.Equal(t, clients, endpoint(t, x.judged(t), "web").Hosts[0].Attempts)
}
