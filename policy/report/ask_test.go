package report

import (
	"strings"
	"testing"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// causes has a row for each row of contract section 3 that is no ok: what the
// network does, what is recorded of it, and what those who run the devices must
// read. Words in device are the beginning of the sentence.
var causes = []struct {
	why    string
	stage  policy.Stage
	error  policy.Error
	by     policy.By
	facts  []any
	parent bool
	device string
	words  []string
}{
	{"no such name", policy.StageResolve, policy.DNSError, policy.ByResolver, []any{"rcode", "NXDOMAIN", "resolver", "10.0.0.53:53"}, false,
		"On the DNS resolver 10.0.0.53:53, make", []string{"NXDOMAIN", "the row may be stale", "https://pages.example/c"}},
	{"SERVFAIL", policy.StageResolve, policy.DNSError, policy.ByResolver, []any{"rcode", "SERVFAIL"}, false, "On the DNS resolver, repair", []string{"SERVFAIL"}},
	{"REFUSED", policy.StageResolve, policy.DNSError, policy.ByResolver, []any{"rcode", "REFUSED"}, false, "On the DNS resolver, allow queries", []string{"REFUSED"}},
	{"no address in either family", policy.StageResolve, policy.DNSError, policy.ByResolver, []any{"rcode", "NODATA"}, false, "On the DNS resolver, give", []string{"without an address in either family"}},
	{"another rcode", policy.StageResolve, policy.DNSError, policy.ByResolver, []any{"rcode", "NOTIMP"}, false, "On the DNS resolver, make", []string{"NOTIMP"}},
	{"a resolver that cannot be asked", policy.StageResolve, policy.DNSError, policy.ByResolver, []any{"resolve", "10.0.0.53:53: connection refused"}, false, "On the DNS resolver, let queries", []string{"could not be asked", "(10.0.0.53:53: connection refused)"}},
	{"no DNS answer", policy.StageResolve, policy.DNSTimeout, policy.ByResolver, nil, false, "On the DNS resolver, or on the firewall in front of it (UDP and TCP port 53)", []string{"no answer came"}},
	{"sinkhole", policy.StageResolve, policy.DNSSinkhole, policy.ByResolver, []any{"addresses", []any{"0.0.0.0"}, "resolver", "10.0.0.53:53"}, false, "On the DNS resolver 10.0.0.53:53, take", []string{"block list", "(0.0.0.0)"}},
	{"RST to the SYN", policy.StageConnect, policy.ConnectionRefused, policy.ByNetwork, nil, false, "On the firewall, allow TCP port 443 to *.example.org", []string{"reset or an ICMP port-unreachable", "nothing listens"}},
	{"SYN unanswered", policy.StageConnect, policy.ConnectionTimeout, policy.ByNetwork, nil, false, "On the firewall, allow", []string{"unanswered", "drops"}},
	{"unreachable", policy.StageConnect, policy.DestinationUnroutable, policy.ByNetwork, nil, false, "On the firewall or router, route and allow", []string{"ICMP unreachable or prohibited"}},
	{"parent 403", policy.StageParent, policy.ParentDenied, policy.ByParent, []any{"status", 403.0}, true, "On the proxy http://squid.corp:3128, allow CONNECT", []string{"status 403"}},
	{"parent 407", policy.StageParent, policy.ParentAuthRequired, policy.ByParent, []any{"schemes", []any{"NTLM", "Negotiate"}}, true, "On the proxy http://squid.corp:3128, allow", []string{"without authentication", "407, offering NTLM, Negotiate"}},
	{"parent 503", policy.StageParent, policy.ParentError, policy.ByParent, []any{"status", 503.0}, true, "On the proxy http://squid.corp:3128 or the firewall behind it", []string{"status 503"}},
	{"parent 503 for DNS", policy.StageParent, policy.ParentError, policy.ByResolver, []any{"status", 503.0, "beyond", "dns_error"}, true, "On the DNS resolver that the proxy http://squid.corp:3128 asks", []string{"(dns_error)"}},
	{"parent 503 for a drop behind it", policy.StageParent, policy.ParentError, policy.ByNetwork, []any{"status", 503.0, "beyond", "connection_timeout"}, true, "On the firewall behind the proxy http://squid.corp:3128", []string{"(connection_timeout)"}},
	{"parent refuses the connection", policy.StageParent, policy.ConnectionRefused, policy.ByNetwork, nil, true, "On the firewall between here and the proxy http://squid.corp:3128, or on that proxy itself", []string{"refused"}},
	{"parent does not answer", policy.StageParent, policy.ConnectionTimeout, policy.ByNetwork, nil, true, "On the firewall between here and the proxy", []string{"did not answer"}},
	{"no way to the parent", policy.StageParent, policy.DestinationUnroutable, policy.ByNetwork, nil, true, "On the firewall between here and the proxy", []string{"no way to the proxy"}},
	{"parent's name does not resolve", policy.StageParent, policy.DNSError, policy.ByResolver, []any{"rcode", "NXDOMAIN"}, true, "On the DNS resolver, make the name of the proxy", []string{"NXDOMAIN"}},
	{"parent silent", policy.StageParent, policy.ConnectionReadTimeout, policy.ByParent, nil, true, "On the proxy http://squid.corp:3128", []string{"never answered"}},
	{"parent closes in the middle", policy.StageParent, policy.ConnectionTerminated, policy.ByParent, nil, true, "On the proxy http://squid.corp:3128", []string{"in the middle of its reply"}},
	{"loop", policy.StageParent, policy.ProxyLoopDetected, policy.BySelf, nil, true, "On our side (egressaudit itself)", []string{"--parent"}},
	{"RST after the hello", policy.StageHello, policy.ConnectionTerminated, policy.ByNetwork, []any{"close", "rst"}, false, "On the firewall, allow", []string{"server name (SNI)", "cut (RST) right after"}},
	{"the same in a tunnel names both devices", policy.StageHello, policy.ConnectionTerminated, policy.ByNetwork, []any{"close", "fin"}, true, "On the proxy http://squid.corp:3128 or the firewall behind it, allow", []string{"(FIN)"}},
	{"silence after the hello", policy.StageHello, policy.ConnectionReadTimeout, policy.ByNetwork, nil, false, "On the firewall, allow", []string{"silent after the client's first bytes"}},
	{"alert as the first answer", policy.StageHello, policy.TLSAlertReceived, policy.ByOrigin, []any{"alert", "handshake_failure"}, false, "On the firewall, exempt", []string{"TLS alert handshake_failure", "the origin itself did"}},
	{"not TLS", policy.StageHello, policy.NotTLSReply, policy.ByNetwork, []any{"status", 302.0, "reply", "http", "server", "Blocker"}, false, "On the firewall, allow", []string{"other than TLS answered (HTTP status 302, server Blocker)"}},
	{"silence after the ServerHello", policy.StageHandshake, policy.ConnectionReadTimeout, policy.ByNetwork, nil, false, "On the firewall and on TLS inspection there", []string{"silent after the ServerHello"}},
	{"cut after the ServerHello", policy.StageHandshake, policy.ConnectionTerminated, policy.ByNetwork, []any{"close", "rst"}, false, "On the firewall and on TLS inspection there", []string{"cut (RST) after the ServerHello"}},
	{"alert after the ServerHello", policy.StageHandshake, policy.TLSAlertReceived, policy.ByOrigin, []any{"alert", "internal_error"}, false, "On the firewall and on TLS inspection there, exempt", []string{"alert internal_error"}},
	{"the client ends the handshake", policy.StageHandshake, policy.TLSAlertReceived, policy.ByClient, []any{"alert", "unknown_ca"}, false, "On the TLS inspection device, exempt", []string{"alert unknown_ca", "give the client the certificate authority"}},
	{"intercepted and refused", policy.StageHandshake, policy.TLSIntercepted, policy.ByNetwork, []any{"issuer", "CN=Corp CA"}, false, "On the TLS inspection device, exempt", []string{`signed by "CN=Corp CA"`, "the client refused it"}},
	{"the same in a tunnel names both devices", policy.StageHandshake, policy.TLSIntercepted, policy.ByNetwork, []any{"issuer", "CN=Corp CA"}, true, "On the TLS inspection device (the proxy http://squid.corp:3128 or the firewall behind it), exempt", nil},
	{"cut while data flows", policy.StageData, policy.ConnectionTerminated, policy.ByNetwork, []any{"close", "rst", "idle_ms", 12.0}, false, "On the firewall, let connections", []string{"cut (RST) while data flowed (idle for 12 ms)"}},
	{"block page", policy.StageData, policy.HTTPBlockPage, policy.ByNetwork, []any{"status", 403.0}, false, "On the web filter, allow", []string{"block page (status 403)"}},
	{"not listed in enforce mode", policy.StagePolicy, policy.HTTPRequestDenied, policy.BySelf, []any{"why", "in no catalog, and the mode is enforce"}, false, "On our side (egressaudit itself), add", []string{"--catalog", "(in no catalog, and the mode is enforce)"}},
	{"what a namespace does not carry", policy.StagePolicy, policy.HTTPRequestDenied, policy.BySelf, []any{"why", "UDP is refused with --isolate, which carries TCP and DNS"}, false, "On our side (egressaudit itself), find out whether the install needs it", []string{"(UDP is refused with --isolate", "the network was not asked"}},
	{"a client that may not", policy.StagePolicy, policy.HTTPRequestDenied, policy.BySelf, []any{"why", "this client may not use the proxy (--clients)"}, false, "On our side (egressaudit itself), let this client", []string{"--clients"}},
	{"our own fault", policy.StageParent, policy.ProxyInternalError, policy.BySelf, []any{"parent", "bad URL"}, false, "On our side (egressaudit itself), repair", []string{"(bad URL)"}},
	{"guarded address", policy.StagePolicy, policy.DestinationProhibited, policy.BySelf, nil, false, "On our side (egressaudit itself), allow", []string{"--allow-address"}},
	{"our limit", policy.StagePolicy, policy.ConnectionLimitReached, policy.BySelf, nil, false, "On our side (egressaudit itself), raise", []string{"RLIMIT_NOFILE"}},
	{"what a later version may say", "beyond", "odd_error", "", nil, false, "On the firewall, allow", []string{"odd_error, stage beyond"}},
	{"an error without a row", policy.StageConnect, "odd_error", "", nil, false, "On the firewall, allow", []string{"odd_error"}},
}

func TestAsks(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("c", "a x *.example.org need=websocket")}}
	for _, row := range causes {
		t.Run(row.why, func(t *testing.T) {
			tape := started()
			if row.parent {
				tape.records[0].Parent = "http://squid.corp:3128"
			}
			fail := fails(row.stage, row.error, row.by, policy.Likely, row.facts...)
			if row.stage == policy.StagePolicy {
				fail = func(r *policy.Record) { denied(row.error)(r); detail(row.facts...)(r) }
			}
			r := tape.conn("cdn.example.org", fail).conn("cdn.example.org", fail).conn("cdn.example.org", fail).stop().report(o)
			e := r.Endpoints[0]
			require.Equal(t, Blocked, e.Status)
			ask := e.Cause.Ask
			require.True(t, strings.HasPrefix(ask, row.device), ask)
			attempts := "all 3 attempts of one action failed"
			if row.stage == policy.StagePolicy {
				attempts = "all 3 attempts failed" // denials are not told apart by time
			}
			for _, w := range append(row.words, "*.example.org", attempts+" (to cdn.example.org), 2026-01-02 10:00:02 to 10:00:04 UTC", "seen from pod") {
				require.Contains(t, ask, w)
			}
			if strings.Contains(ask, "port 443 to") {
				require.Contains(t, ask, "TCP port 443 to *.example.org (with WebSocket upgrades)")
			}
			require.NotContains(t, ask, "{")
			require.NotContains(t, strings.ReplaceAll(ask, "unknown_ca", ""), "unknown")
			require.Equal(t, 1, strings.Count(ask+" ", ". "), "one sentence: %s", ask)
			require.Equal(t, row.stage, e.Cause.Stage)
			require.Equal(t, row.error, e.Cause.Error)
		})
	}
}

// Tries of one client that follow each other within seconds are one action: pip
// tries six times, skopeo twice. What two clients do, or one after a while, is
// not.
func TestRetriesAreOneAction(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("c", "a x a.example.org", "b x *.b.example.org")}}
	tries := func(n int, mods ...mod) *tape {
		t := started()
		for range n {
			t.conn("a.example.org", append([]mod{dropped}, mods...)...)
		}
		return t
	}
	for _, row := range []struct {
		why  string
		tape *tape
		want string
	}{
		{"pip", tries(6), "; all 6 attempts of one action failed, 2026"},
		{"skopeo", tries(2), "; both attempts of one action failed, 2026"},
		{"a timeout of 15 s each and a growing pause", started().conn("a.example.org", at(15), dropped, lasted(15e9)).conn("a.example.org", at(31), dropped, lasted(15e9)).
			conn("a.example.org", at(55), dropped, lasted(15e9)), "; all 3 attempts of one action failed"},
		{"again after a minute: another action", tries(3).conn("a.example.org", at(100), dropped).conn("a.example.org", at(101), dropped), "; all 5 attempts of 2 actions failed"},
		{"each a minute apart: as many actions, so nothing to fold", started().conn("a.example.org", at(60), dropped).conn("a.example.org", at(120), dropped), "; both attempts failed, 2026"},
		{"two pods at once are two actions", tries(2, from1("ns/a")).conn("a.example.org", dropped, from1("ns/b")), "; all 3 attempts failed, 2026"},
		{"so are two addresses", tries(2, client("10.0.0.1:1")).conn("a.example.org", dropped, client("10.0.0.2:1")), "; all 3 attempts failed, 2026"},
		{"each try has a port of its own", tries(2, client("10.0.0.1:1")).conn("a.example.org", dropped, client("10.0.0.1:2")), "; all 3 attempts of one action failed, 2026"},
		{"still open, too", tries(2, client("10.0.0.1:1")).conn("a.example.org", dropped, client("10.0.0.1:2"), open("1")), "; all 3 attempts of one action failed, 2026"},
		{"one pod is one client", tries(3, from1("ns/a")), "; all 3 attempts of one action failed"},
		{"one attempt", tries(1), "; the only attempt failed"},
		{"what worked in between is no retry's end", tries(2).conn("a.example.org", ok).conn("a.example.org", dropped), "; 3 of 4 attempts failed"},
		{"our own refusals are not counted so", started().conn("a.example.org", denied(policy.ConnectionLimitReached)).conn("a.example.org", denied(policy.ConnectionLimitReached)), "; both attempts failed"},
	} {
		r := row.tape.stop(at(200)).report(o)
		require.Contains(t, r.Endpoints[0].Cause.Ask, row.want, row.why)
	}
	r := started().conn("1.b.example.org", dropped).conn("2.b.example.org", dropped).conn("2.b.example.org", dropped).stop().report(o)
	require.Contains(t, r.Endpoints[1].Cause.Ask, "; all 3 attempts failed (to", "two hosts are not told to be one action")
}

// NO_PROXY led these around the parent: the ask names the firewall, and not a
// proxy that was never asked. Only a true of JSON says so.
func TestAskOfDirect(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("c", "a x a.example.org")}}
	const proxy, straight = "On the proxy http://squid.corp:3128 or the firewall behind it, allow", "On the firewall, allow"
	failing := map[string]mod{
		"hello":   fails(policy.StageHello, policy.ConnectionTerminated, policy.ByNetwork, policy.Likely, "close", "rst"),
		"silence": fails(policy.StageHello, policy.ConnectionReadTimeout, policy.ByNetwork, policy.Likely),
		"odd":     fails("beyond", "odd_error", "", ""),
	}
	for name, fail := range failing {
		for _, row := range []struct {
			why  string
			mods []mod
			want string
		}{
			{"through the parent", nil, proxy},
			{"around it", []mod{detail("direct", true)}, straight},
			{"a false says nothing", []mod{detail("direct", false)}, proxy},
			{"nor does a text", []mod{detail("direct", "true")}, proxy},
			{"nor a number", []mod{detail("direct", 1.0)}, proxy},
			{"still open", []mod{detail("direct", true), open("1")}, straight},
		} {
			tape := started()
			tape.records[0].Parent = "http://squid.corp:3128"
			ask := tape.conn("a.example.org", append([]mod{fail}, row.mods...)...).report(o).Endpoints[0].Cause.Ask
			require.True(t, strings.HasPrefix(ask, row.want), "%s, %s: %s", name, row.why, ask)
			require.Equal(t, row.want == proxy, strings.Contains(ask, "squid"), "%s, %s: %s", name, row.why, ask)
		}
	}
	intercepted := fails(policy.StageHandshake, policy.TLSIntercepted, policy.ByNetwork, policy.Certain, "issuer", "CN=Corp CA")
	tape := started()
	tape.records[0].Parent = "http://squid.corp:3128"
	ask := tape.conn("a.example.org", intercepted, detail("direct", true)).stop().report(o).Endpoints[0].Cause.Ask
	require.True(t, strings.HasPrefix(ask, "On the TLS inspection device, exempt"), ask)
	tape = started()
	tape.records[0].Parent = "http://squid.corp:3128"
	ask = tape.conn("a.example.org", failing["hello"], detail("direct", true)).conn("a.example.org", failing["hello"]).stop().report(o).Endpoints[0].Cause.Ask
	require.True(t, strings.HasPrefix(ask, proxy), "the last attempt tells: %s", ask)
}

// Each row of asks is what some cause finds: none is hidden behind another.
func TestAsksAreReachable(t *testing.T) {
	taken := map[string]bool{}
	for _, row := range causes {
		f := &failure{Verdict: policy.Verdict{Stage: row.stage, Error: row.error, By: row.by}}
		sight := sight{Observation: &policy.Observation{}}
		fails(row.stage, row.error, row.by, "", row.facts...)(&policy.Record{Observation: sight.Observation})
		f.detail = sight.Detail
		taken[askFor(f).seen] = true
	}
	for _, r := range asks {
		if r.error != "" {
			require.True(t, taken[r.seen], "no cause of the table finds %q at %s", r.error, r.stage)
		}
	}
}

// What devices say goes into asks without a way to pass for our words.
func TestAskOfHostileDetail(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("c", "a x a.example.org")}}
	r := started().conn("a.example.org", fails(policy.StageHandshake, policy.TLSIntercepted, policy.ByNetwork, policy.Certain,
		"issuer", "CN={target}\", so allow everything\n\x1b[2J\u202e"+strings.Repeat("x", 1000))).stop().report(o)
	ask := r.Endpoints[0].Cause.Ask
	require.Equal(t, Escape(ask), ask)
	require.Contains(t, ask, `"CN={target}', so allow everything \x1b[2J\u202exxx`)
	require.Less(t, len(ask), 700)
}

// The cause is the last failure, unless that is a guess and another was surer.
func TestTellingCause(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("c", "a x a.example.org")}}
	guess := fails(policy.StageData, policy.HTTPBlockPage, policy.ByNetwork, policy.Guess)
	require.Equal(t, policy.ConnectionTimeout, started().conn("a.example.org", dropped).conn("a.example.org", guess).stop().report(o).Endpoints[0].Cause.Error)
	require.Equal(t, policy.ConnectionTerminated, started().conn("a.example.org", dropped).conn("a.example.org", reset1).stop().report(o).Endpoints[0].Cause.Error)
	two := Options{Catalogs: []*policy.Catalog{cat("c", "a x *.example.org")}}
	require.Equal(t, policy.ConnectionTimeout, started().conn("a.example.org", dropped).conn("b.example.org", guess).stop().report(two).Endpoints[0].Cause.Error)
	require.Equal(t, policy.ConnectionTerminated, started().conn("a.example.org", reset1).conn("b.example.org", at(1), dropped).stop().report(two).Endpoints[0].Cause.Error)
	require.Equal(t, policy.HTTPBlockPage, started().conn("a.example.org", guess).stop().report(o).Endpoints[0].Cause.Error)
}
