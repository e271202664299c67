//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/report"
	"github.com/egressaudit/egressaudit/test/suite"
)

// unaware is a row: a client behind the gateway that knows of no proxy.
type unaware struct {
	host  string // its site's, of which the first label is the row's name
	port  uint16
	needs []string
	serve func(g *gateway, t *testing.T, l *meter) // its site
	args  func(g *gateway) []string
	env   func(w *world) []string
	check func(g *gateway, t *testing.T, p *process) // that all arrived as it was sent

	sni, name string // in the ledger; name "" is host
	from      policy.NameFrom
	state     policy.SNIState
	protocol  string
	several   bool // connections
	elsewhere bool // DNS gave the server name another address
	silent    bool // leaves without a word, so that its certificate may be looked at
}

// size is how much the clients that carry much do.
const size = 1 << 20

func unawareClients() []unaware {
	return slices.Concat(speakingTLS(), speakingHTTP(), spokenTo())
}

// speakingTLS say a server name, or a false one, or none.
func speakingTLS() []unaware {
	row := func(host string) unaware {
		return unaware{
			host: host, port: 443, serve: (*gateway).securely,
			sni: host, from: policy.FromSNI, state: policy.SNIPresent, protocol: "tls",
		}
	}
	curl, wget, skopeo := row("curl.egress.test"), row("wget.egress.test"), row("reg.egress.test")
	curl.needs, curl.check = []string{"curl"}, sameFile("echo")
	curl.args = func(g *gateway) []string {
		return []string{"curl", "-q", "-sS", "--cacert", g.ca, "-o", "echo", "--data-binary", "@upload", "https://curl.egress.test/echo"}
	}
	wget.needs, wget.check = []string{"wget"}, sameFile("wgot")
	wget.args = func(g *gateway) []string {
		return []string{"wget", "-q", "-O", "wgot", "--ca-certificate=" + g.ca, "https://wget.egress.test/upload"}
	}
	skopeo.needs, skopeo.serve, skopeo.several, skopeo.env = registry, (*gateway).registry, true, trustFile
	skopeo.args = always("skopeo", "--insecure-policy", "copy", "docker://reg.egress.test/demo/app:v1", "dir:pulled")
	skopeo.check = func(g *gateway, t *testing.T, _ *process) {
		blobs, err := filepath.Glob(filepath.Join(g.dir, "pulled", strings.Repeat("[0-9a-f]", 64)))
		require.NoError(t, err)
		require.Len(t, blobs, 2, "a configuration and a layer, the digests of which skopeo has checked")
	}
	named, nameless, falsely := row("sni.egress.test"), row("nosni.egress.test"), row("false.egress.test")
	named.openssl("-servername", named.host)
	nameless.openssl("-noservername")
	nameless.sni, nameless.from, nameless.state = "", policy.FromDNS, policy.SNIAbsent
	falsely.openssl("-servername", "decoy.egress.test")
	falsely.sni, falsely.name, falsely.elsewhere = "decoy.egress.test", "decoy.egress.test", true
	return []unaware{curl, wget, skopeo, named, nameless, falsely}
}

// speakingHTTP say a host.
func speakingHTTP() []unaware {
	row := func(host string) unaware {
		return unaware{
			host: host, port: 80, serve: (*gateway).plainly,
			from: policy.FromHost, state: policy.SNINotTLS, protocol: "http",
		}
	}
	curl, apt := row("plain.egress.test"), row("apt.egress.test")
	curl.needs, curl.check = []string{"curl"}, sameFile("plain-echo")
	curl.args = always("curl", "-q", "-sS", "-o", "plain-echo", "--data-binary", "@upload", "http://plain.egress.test/echo")
	apt.needs, apt.env, apt.several = []string{"apt-get"}, aptEnv, true
	apt.args = func(g *gateway) []string { return aptUpdate(g.world) }
	apt.check = func(g *gateway, t *testing.T, _ *process) {
		lists, err := filepath.Glob(filepath.Join(g.dir, "apt/state/lists/apt.egress.test_*Packages"))
		require.NoError(t, err)
		require.Len(t, lists, 1)
		got, err := os.ReadFile(lists[0])
		require.NoError(t, err)
		require.Contains(t, string(got), "Package: demo\n")
	}
	return []unaware{curl, apt}
}

// spokenTo wait for the server's first word, so only DNS can name it.
func spokenTo() []unaware {
	row := func(host string, port uint16) unaware {
		return unaware{host: host, port: port, from: policy.FromDNS, state: policy.SNINotTLS, protocol: "other"}
	}
	ssh, smtp := row("ssh.egress.test", 22), row("smtp.egress.test", 25)
	ssh.needs, ssh.serve, ssh.several = []string{"ssh-keyscan"}, (*gateway).ssh, true
	ssh.args = always("ssh-keyscan", "-t", "ed25519", ssh.host)
	ssh.check = func(_ *gateway, t *testing.T, p *process) {
		require.Contains(t, p.stdout.String(), "ssh.egress.test ssh-ed25519 ")
	}
	smtp.needs, smtp.serve = []string{"curl"}, (*gateway).smtp
	smtp.args = always("curl", "-q", "-sS", "smtp://smtp.egress.test", "--mail-from", "a@egress.test", "--mail-rcpt", "b@egress.test", "-T", "letter")
	smtp.check = func(g *gateway, t *testing.T, _ *process) {
		got, err := os.ReadFile(filepath.Join(g.dir, "delivered"))
		require.NoError(t, err)
		require.Equal(t, letter, string(got))
	}
	return []unaware{ssh, smtp}
}

// openssl is s_client, in TLS, with more arguments; it first asks for the address
// of the name that it may say falsely.
func (u *unaware) openssl(more ...string) {
	host := u.host
	u.needs, u.silent = []string{"openssl"}, true
	u.args = func(g *gateway) []string {
		call := "openssl s_client -connect " + host + ":443 -CAfile " + g.ca + " -verify_return_error " + strings.Join(more, " ") + " </dev/null"
		return []string{"sh", "-c", "getent hosts decoy.egress.test >/dev/null && " + call}
	}
	u.check = func(_ *gateway, t *testing.T, p *process) { require.Contains(t, p.stdout.String(), "Verification: OK") }
}

func always(args ...string) func(*gateway) []string {
	return func(*gateway) []string { return args }
}

// sameFile holds what a client got against what was sent.
func sameFile(name string) func(*gateway, *testing.T, *process) {
	return func(g *gateway, t *testing.T, _ *process) {
		got, err := os.ReadFile(filepath.Join(g.dir, name))
		require.NoError(t, err)
		require.Equal(t, size, len(got))
		require.True(t, incompressible(size) == string(got), "octet for octet")
	}
}

// TestGateway: clients that know of no proxy, behind a gateway that sends all
// they send to egressaudit, notice nothing, and all they did is in the ledger.
func TestGateway(t *testing.T) {
	rows := unawareClients()
	programs := slices.Clone(gatewayPrograms)
	for _, u := range rows {
		programs = append(programs, u.needs...)
	}
	for _, way := range []string{"redirect", "tproxy"} {
		for _, family := range []int{4, 6} {
			t.Run(fmt.Sprintf("%s IPv%d", way, family), func(t *testing.T) {
				suite.Need(t, programs...)
				t.Parallel()
				playUnaware(t, rows, way, family)
			})
		}
	}
}

func playUnaware(t *testing.T, rows []unaware, way string, family int) {
	names := []string{"decoy.egress.test"}
	for _, u := range rows {
		names = append(names, u.host)
	}
	g := newGateway(t, family, 1, names...)
	require.NoError(t, g.rules(way))
	g.write(t, "upload", incompressible(size))
	g.write(t, "letter", letter)
	g.offerApt(t, "http")
	for _, u := range rows {
		u.serve(g, t, g.listen(t, u.host, u.port))
	}
	g.write(t, "gateway.yaml", catalogOf(rows))
	g.start(t, "--catalog", filepath.Join(g.dir, "gateway.yaml"))
	for _, u := range rows {
		var env []string
		if u.env != nil {
			env = u.env(g.world)
		}
		u.check(g, t, g.at(t, 0, env, u.args(g)...).succeeds())
	}
	records := g.stop(t)
	for _, u := range rows {
		t.Run(u.host, func(t *testing.T) { u.hold(t, g, way, records) })
	}
	g.holdReport(t, rows)
}

// hold holds the ledger against what the client did and its site counted.
func (u unaware) hold(t *testing.T, g *gateway, way string, records []*policy.Record) {
	at := netip.AddrPortFrom(g.names[u.host], u.port)
	var mine []*policy.Record
	for _, r := range records {
		if r.Address == at {
			mine = append(mine, r)
		}
	}
	require.NotEmpty(t, mine)
	if !u.several {
		require.Len(t, mine, 1)
	}
	name := u.name
	if name == "" {
		name = u.host
	}
	for _, r := range mine {
		require.Equal(t, policy.OK, r.Outcome, "%+v", r.Observation)
		require.Equal(t, []any{policy.KindConnection, way, name, u.from, u.sni, u.state, u.protocol, u.host, u.port, g.names[u.host].String()},
			[]any{r.Kind, r.Listener, r.Name, r.NameFrom, r.SNI, r.SNIState, r.Protocol, r.Resolved, r.Port, r.Asked})
		require.Equal(t, g.client(0), r.Client.Addr())
		require.Equal(t, u.elsewhere, r.Detail["sni_elsewhere"] == true)
	}
	counted := g.meters[at.String()].settled(t, false)
	if u.silent {
		require.Subset(t, counted, carried(mine))
	} else {
		require.Equal(t, counted, carried(mine), "the ledger's bytes up and down are those that the destination counted")
	}
}

// holdReport demands that every site is used, and the false name told.
func (g *gateway) holdReport(t *testing.T, rows []unaware) {
	r, status := g.judge(t, filepath.Join(g.dir, "gateway.yaml"))
	require.Zero(t, status)
	require.Len(t, r.Endpoints, len(rows))
	for _, e := range r.Endpoints {
		require.EqualValues(t, "used", e.Status, e.Host)
	}
	require.EqualValues(t, "clear", r.Verdict)
	require.Empty(t, r.Unlisted)
	require.True(t, slices.ContainsFunc(r.Findings, func(f report.Finding) bool { return f.Kind == "sni_mismatch" }), "%+v", r.Findings)
}

// catalogOf lists each row's site, by the name that it goes by.
func catalogOf(rows []unaware) string {
	b := strings.Builder{}
	b.WriteString("schema: egressaudit/catalog/1\nname: e2e\ntitle: Behind a gateway\nrevision: \"1\"\nsource: {title: test/e2e, url: https://egress.test/}\nrequirements:\n")
	for _, u := range rows {
		if u.name != "" {
			u.host = u.name
		}
		protocol := map[string]string{"tls": "https", "http": "http", "other": "tcp"}[u.protocol]
		fmt.Fprintf(&b, "  - {id: site-%s, scope: e2e, hosts: [%s], port: %d, protocol: %s, purpose: a site}\n", strings.Split(u.host, ".")[0], u.host, u.port, protocol)
	}
	return b.String()
}

// TestKeepClientAddress: where it is asked for, the destination sees the client's
// own address, and the answers still find their way.
func TestKeepClientAddress(t *testing.T) {
	for _, family := range []int{4, 6} {
		t.Run(fmt.Sprintf("IPv%d", family), func(t *testing.T) {
			suite.Need(t, append([]string{"curl"}, gatewayPrograms...)...)
			t.Parallel()
			const host = "web.egress.test"
			g := newGateway(t, family, 1, host)
			require.NoError(t, g.rules("tproxy"))
			require.NoError(t, g.gate.Nft("table inet answers { chain prerouting { type filter hook prerouting priority mangle; meta l4proto tcp socket transparent 1 meta mark set 1 accept; }; }"))
			seen := make(chan string, 1)
			g.web(t, g.listen(t, host, 80), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.RemoteAddr }))
			g.start(t, "--keep-client-address", "--catalog", "azure-arc")
			g.at(t, 0, nil, "curl", "-q", "-sSf", "http://"+host).succeeds()
			require.Equal(t, g.client(0), netip.MustParseAddrPort(<-seen).Addr())
			records := g.stop(t)
			require.Len(t, records, 1)
			require.Equal(t, []any{policy.OK, "tproxy", host}, []any{records[0].Outcome, records[0].Listener, records[0].Name})
		})
	}
}
