package report

import (
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// small is the catalog of most rows: two required endpoints and a wildcard.
var small = cat("small",
	"registry extension quay.io",
	"blobs extension *.quay.io",
	"jobs workload jobs.example.org",
)

// two are alternatives.
var two = cat("two", "a x a.example.org any_of=g", "b x b.example.org any_of=g")

// rules are the rules of contract sections 2 and 5, one a row.
var rules = []struct {
	why     string
	catalog *policy.Catalog // nil: small
	opt     Options
	tape    *tape
	status  string // "host:status ..." of endpoints that are worth a word
	verdict Verdict
	exit    int
}{
	// The statuses.
	{why: "one that answered is used, and the rest unused: clear", tape: started().conn("quay.io", ok).stop(),
		status: "quay.io:used *.quay.io:unused jobs.example.org:unused", verdict: Clear},
	{why: "an HTTP request is an attempt", catalog: cat("c", "a x a.example.org port=80 proto=http"),
		tape: started().request("a.example.org", ok, port(80)).stop(), status: "a.example.org:used", verdict: Clear},
	{why: "nothing worked: blocked", tape: started().conn("quay.io", reset1).stop(),
		status: "quay.io:blocked", verdict: Gaps, exit: 1},
	{why: "retries do not make it worse or better", tape: started().conn("quay.io", reset1).conn("quay.io", reset1).conn("quay.io", reset1).stop(),
		status: "quay.io:blocked", verdict: Gaps, exit: 1},
	{why: "failed, then worked: used, and flapping", tape: started().conn("quay.io", reset1).conn("quay.io", ok).stop(),
		status: "quay.io:used flapping", verdict: Clear},
	{why: "worked, then failed: partial", tape: started().conn("quay.io", ok).conn("quay.io", reset1).stop(),
		status: "quay.io:partial", verdict: Gaps, exit: 1},
	{why: "one blob host behind the wildcard is blocked: partial", tape: started().conn("quay.io", ok).conn("cdn01.quay.io", ok).conn("cdn03.quay.io", reset1).stop(),
		status: "quay.io:used *.quay.io:partial", verdict: Gaps, exit: 1},
	{why: "the last attempt is the one that began last: a long tunnel that closes later does not mend a failure",
		tape:   started().conn("quay.io", at(100), ok, lasted(90*time.Second)).conn("quay.io", at(60), reset1).stop(at(110)),
		status: "quay.io:partial", verdict: Gaps, exit: 1},
	{why: "and an old attempt that timed out after a younger one worked does not break it",
		tape:   started().conn("quay.io", at(20), ok).conn("quay.io", at(30), dropped, lasted(20*time.Second)).stop(at(40)),
		status: "quay.io:used flapping", verdict: Clear},
	{why: "accepted, never answered, left: reached, and nothing is proven", tape: started().conn("quay.io", left).conn("jobs.example.org", ok).stop(),
		status: "quay.io:reached", verdict: CannotTell, exit: 3},
	{why: "an abandoned attempt beside one that worked does not count", tape: started().conn("quay.io", left).conn("quay.io", ok).conn("quay.io", left).stop(),
		status: "quay.io:used", verdict: Clear},
	{why: "an abandoned attempt beside one that failed does not count", tape: started().conn("quay.io", reset1).conn("quay.io", left).stop(),
		status: "quay.io:blocked", verdict: Gaps, exit: 1},
	{why: "a host of a wildcard that was but abandoned may be filtered: no all-clear", tape: started().conn("cdn01.quay.io", ok).conn("cdn03.quay.io", left).stop(),
		status: "*.quay.io:used", verdict: CannotTell, exit: 3},
	{why: "an outcome that we do not know proves nothing", tape: started().conn("quay.io", func(r *policy.Record) { r.Outcome = "splendid" }).stop(),
		status: "quay.io:reached", verdict: CannotTell, exit: 3},
	{why: "a denied attempt beside one that worked does not count", tape: started().conn("quay.io", ok).conn("quay.io", denied(policy.ConnectionLimitReached)).stop(),
		status: "quay.io:used", verdict: Clear},
	{why: "our own limit refused the only attempt: blocked, by us", tape: started().conn("quay.io", denied(policy.ConnectionLimitReached)).stop(),
		status: "quay.io:blocked", verdict: Gaps, exit: 1},
	{why: "enforce mode refused a listed name for its SNI: blocked, by us", tape: started().conn("quay.io", denied(policy.HTTPRequestDenied), sni("evil.example")).stop(),
		status: "quay.io:blocked", verdict: Gaps, exit: 1},

	// Flapping: what works and fails by turns is as good as its last attempt.
	{why: "by turns, and it worked in the end: used, and flapping", tape: started().conn("quay.io", ok).conn("quay.io", reset1).conn("quay.io", ok).conn("quay.io", reset1).conn("quay.io", ok).stop(),
		status: "quay.io:used flapping", verdict: Clear},
	{why: "by turns, and it failed in the end: partial", tape: started().conn("quay.io", reset1).conn("quay.io", ok).conn("quay.io", reset1).stop(),
		status: "quay.io:partial", verdict: Gaps, exit: 1},
	{why: "failed in one way, then in another, then worked", tape: started().conn("quay.io", dropped).conn("quay.io", reset1).conn("quay.io", ok).stop(),
		status: "quay.io:used flapping", verdict: Clear},
	{why: "a client that left in between is no turn", tape: started().conn("quay.io", reset1).conn("quay.io", left).stop(),
		status: "quay.io:blocked", verdict: Gaps, exit: 1},
	{why: "nor is what we refused", tape: started().conn("quay.io", ok).conn("quay.io", denied(policy.ConnectionLimitReached)).conn("quay.io", ok).stop(),
		status: "quay.io:used", verdict: Clear},
	{why: "each host has its own turns: one flaps, one is partial", tape: started().conn("cdn01.quay.io", reset1).conn("cdn01.quay.io", ok).conn("cdn02.quay.io", ok).conn("cdn02.quay.io", reset1).stop(),
		status: "*.quay.io:partial flapping", verdict: Gaps, exit: 1},
	{why: "another host that works does not mend one that fails", tape: started().conn("cdn01.quay.io", reset1).conn("cdn02.quay.io", ok).stop(),
		status: "*.quay.io:partial", verdict: Gaps, exit: 1},
	{why: "another port is another endpoint: it mends nothing", catalog: cat("c", "a x a.example.org", "b x a.example.org port=8443"),
		tape: started().conn("a.example.org", reset1).conn("a.example.org", ok, port(8443)).stop(), status: "a.example.org:443:blocked a.example.org:8443:used", verdict: Gaps, exit: 1},
	{why: "still open and silent after it worked: partial until it closes", tape: started().conn("quay.io", ok).conn("quay.io", open("1"), silence).stop(),
		status: "quay.io:partial", verdict: Gaps, exit: 1},
	{why: "still open and ok after it failed: flapping", tape: started().conn("quay.io", reset1).conn("quay.io", open("1"), ok).stop(),
		status: "quay.io:used flapping", verdict: Clear},
	{why: "an attempt that began before the one that worked, and failed at the same second, does not count", tape: started().conn("quay.io", at(30), dropped, lasted(10*time.Second)).conn("quay.io", at(30), ok).stop(at(40)),
		status: "quay.io:used flapping", verdict: Clear},
	{why: "of two that began together the later record counts", tape: started().conn("quay.io", at(30), ok).conn("quay.io", at(30), dropped).stop(at(40)),
		status: "quay.io:partial", verdict: Gaps, exit: 1},
	{why: "an optional endpoint flaps without a gap", catalog: cat("c", "a x a.example.org", "b x b.example.org optional"),
		tape: started().conn("a.example.org", ok).conn("b.example.org", reset1).conn("b.example.org", ok).stop(), status: "b.example.org:used flapping", verdict: Clear},

	// Alternatives.
	{why: "an alternative that is blocked stays a gap beside one that works", catalog: two, tape: started().conn("b.example.org", ok).conn("a.example.org", reset1).stop(),
		status: "a.example.org:blocked b.example.org:used", verdict: Gaps, exit: 1},
	{why: "an alternative that is partial stays a gap", catalog: two, tape: started().conn("b.example.org", ok).conn("a.example.org", ok).conn("a.example.org", reset1).stop(),
		status: "a.example.org:partial b.example.org:used", verdict: Gaps, exit: 1},
	{why: "an alternative that is unused is excused, and stays unused", catalog: two, opt: Options{Scopes: []string{"x"}}, tape: started().conn("b.example.org", ok).stop(),
		status: "a.example.org:unused b.example.org:used", verdict: Clear},
	{why: "an alternative that was but reached proves nothing: no all-clear", catalog: two, tape: started().conn("b.example.org", ok).conn("a.example.org", left).stop(),
		status: "a.example.org:reached b.example.org:used", verdict: CannotTell, exit: 3},
	{why: "an alternative that was but looked up: somebody goes around us", catalog: two, tape: started().conn("b.example.org", ok).query("a.example.org", answers("203.0.113.1")).stop(late),
		status: "a.example.org:resolved b.example.org:used bypass", verdict: CannotTell, exit: 3},
	{why: "an alternative that does not resolve is blocked", catalog: two, tape: started().conn("b.example.org", ok).query("a.example.org", unanswered("NXDOMAIN")).stop(),
		status: "a.example.org:blocked b.example.org:used", verdict: Gaps, exit: 1},
	{why: "all alternatives are blocked", catalog: two, tape: started().conn("b.example.org", reset1).conn("a.example.org", dropped).stop(),
		status: "a.example.org:blocked b.example.org:blocked", verdict: Gaps, exit: 1},
	{why: "one alternative is blocked and the other unused", catalog: two, tape: started().conn("b.example.org", reset1).stop(),
		status: "a.example.org:unused b.example.org:blocked", verdict: Gaps, exit: 1},
	{why: "no alternative was used: nothing is cleared", catalog: two, tape: started().stop(), status: "a.example.org:unused b.example.org:unused", verdict: CannotTell, exit: 3},

	// Names and ports.
	{why: "another port is another endpoint, and so in no list", tape: started().conn("quay.io", ok).conn("quay.io", ok, port(8443)).stop(),
		status: "quay.io:used unlisted=quay.io:8443", verdict: Gaps},
	{why: "a record without a port is in no list, and meets no endpoint", tape: started().conn("quay.io", ok, port(0)).stop(),
		status: "quay.io:unused unlisted=quay.io:0", verdict: Gaps, exit: 3},
	{why: "upper case and a final dot are the same name", tape: started().conn("QUAY.IO.", ok).stop(),
		status: "quay.io:used", verdict: Clear},
	{why: "the apex is not behind the wildcard", catalog: cat("c", "a x *.quay.io", "b x b.example.org"), tape: started().conn("b.example.org", ok).conn("quay.io", ok).stop(),
		status: "*.quay.io:unused unlisted=quay.io:443", verdict: Gaps},
	{why: "matches in the record are not believed", tape: started().conn("evil.example", ok, func(r *policy.Record) {
		r.Matches = []policy.Match{{Catalog: "small", Requirement: "registry", Endpoint: "quay.io:443"}}
	}).stop(), status: "quay.io:unused unlisted=evil.example:443", verdict: Gaps, exit: 3},
	{why: "a host counts for its most specific endpoint alone", catalog: cat("c", "a x *.example.org", "b x cdn.example.org"), tape: started().conn("cdn.example.org", ok).stop(),
		status: "*.example.org:unused cdn.example.org:used", verdict: Clear},

	// Look-ups.
	{why: "looked up with success and never connected to: somebody goes around us", tape: started().conn("jobs.example.org", ok).query("quay.io", answers("203.0.113.9")).stop(late),
		status: "quay.io:resolved bypass", verdict: CannotTell, exit: 3},
	{why: "looked up just before the end: no connection had the time to follow, and nothing is cleared", tape: started().conn("jobs.example.org", ok).query("quay.io", answers("203.0.113.9")).stop(),
		status: "quay.io:unused jobs.example.org:used", verdict: CannotTell, exit: 3},
	{why: "look-ups alone clear nothing", tape: started().query("quay.io", answers("203.0.113.9")).stop(late),
		status: "quay.io:resolved bypass", verdict: CannotTell, exit: 3},
	{why: "a look-up before its connection is explained", tape: started().query("quay.io", answers("203.0.113.9")).conn("quay.io", ok).stop(),
		status: "quay.io:used", verdict: Clear},
	{why: "a look-up is explained by a connection on another listed port", catalog: cat("c", "a x a.example.org port=80", "b x a.example.org"),
		tape: started().query("a.example.org", answers("203.0.113.9")).conn("a.example.org", ok, port(80)).stop(), status: "a.example.org:80:used a.example.org:443:unused", verdict: Clear},
	{why: "a host of a used wildcard went around us: no all-clear", tape: started().conn("cdn01.quay.io", ok).query("cdn02.quay.io", answers("203.0.113.9")).stop(late),
		status: "*.quay.io:used bypass", verdict: CannotTell, exit: 3},
	{why: "seen only in look-ups that failed: blocked at resolve", tape: started().query("quay.io", unanswered("SERVFAIL")).query("quay.io", unanswered("SERVFAIL"), qtype("AAAA")).stop(),
		status: "quay.io:blocked", verdict: Gaps, exit: 1},
	{why: "AAAA fails, A works: resolved", tape: started().query("quay.io", answers("203.0.113.9")).query("quay.io", unanswered("SERVFAIL"), qtype("AAAA")).stop(late),
		status: "quay.io:resolved bypass", verdict: CannotTell, exit: 3},
	{why: "no address in either family: blocked", tape: started().query("quay.io", answers()).query("quay.io", answers(), qtype("AAAA")).stop(),
		status: "quay.io:blocked", verdict: Gaps, exit: 1},
	{why: "no IPv6 address is no fault", tape: started().query("quay.io", answers("203.0.113.9")).query("quay.io", answers(), qtype("AAAA")).conn("quay.io", ok).stop(),
		status: "quay.io:used", verdict: Clear},
	{why: "a look-up of another type proves nothing", tape: started().conn("jobs.example.org", ok).query("quay.io", unanswered("NXDOMAIN"), qtype("HTTPS")).query("quay.io", answers("x"), qtype("TXT")).stop(),
		status: "quay.io:unused", verdict: Clear},
	{why: "the resolver fails after it worked: partial", tape: started().conn("quay.io", ok).query("quay.io", unanswered("SERVFAIL")).stop(),
		status: "quay.io:partial", verdict: Gaps, exit: 1},
	{why: "the resolver failed first: used, and flapping", tape: started().query("quay.io", unanswered("SERVFAIL")).query("quay.io", answers("203.0.113.9")).conn("quay.io", ok).stop(),
		status: "quay.io:used flapping", verdict: Clear},
	{why: "a look-up that failed before a connection that worked was not needed", tape: started().query("quay.io", unanswered("SERVFAIL")).conn("quay.io", ok).stop(),
		status: "quay.io:used", verdict: Clear},
	{why: "a look-up meets the endpoints of all ports, each the most specific", catalog: cat("c", "a x *.example.org", "b x cdn.example.org port=80", "d x d.example.org"),
		tape: started().conn("d.example.org", ok).query("cdn.example.org", answers("203.0.113.1")).stop(late), status: "*.example.org:443:resolved cdn.example.org:80:resolved bypass", verdict: CannotTell, exit: 3},
	{why: "an unlisted name that does not resolve was tried", tape: started().conn("quay.io", ok).query("gone.example", unanswered("NXDOMAIN")).stop(),
		status: "unlisted=gone.example:0", verdict: Gaps, exit: 1},
	{why: "an unlisted name that resolved was not tried by that", tape: started().conn("quay.io", ok).query("other.example", answers("203.0.113.9")).stop(),
		status: "quay.io:used", verdict: Clear},
	{why: "look-ups of cluster names are no matter", tape: started().conn("quay.io", ok).query("api.default.svc.cluster.local", unanswered("NXDOMAIN")).stop(),
		status: "quay.io:used", verdict: Clear},

	// NO_PROXY.
	{why: "NO_PROXY leads around us by intent", opt: Options{NoProxy: []string{".example.org"}}, tape: started().conn("quay.io", ok).query("jobs.example.org", answers("203.0.113.9")).stop(),
		status: "jobs.example.org:bypassed", verdict: Clear},
	{why: "NO_PROXY as the ledger has it", tape: started().conn("quay.io", ok).stop(func(r *policy.Record) { r.NoProxy = []string{"example.org"} }),
		status: "jobs.example.org:bypassed", verdict: Clear},
	{why: "everything bypassed: nothing is cleared", opt: Options{NoProxy: []string{"*"}}, tape: started().stop(),
		status: "quay.io:bypassed", verdict: CannotTell, exit: 3},
	{why: "NO_PROXY does not excuse what came to us and failed", opt: Options{NoProxy: []string{"quay.io"}}, tape: started().conn("quay.io", reset1).stop(),
		status: "quay.io:blocked", verdict: Gaps, exit: 1},

	// What counts as required.
	{why: "an optional endpoint that is blocked is shown, and changes nothing", catalog: cat("c", "a x a.example.org", "b x b.example.org optional"),
		tape: started().conn("a.example.org", ok).conn("b.example.org", reset1).stop(), status: "b.example.org:blocked", verdict: Clear},
	{why: "an optional endpoint that was reached changes nothing", catalog: cat("c", "a x a.example.org", "b x b.example.org optional"),
		tape: started().conn("a.example.org", ok).conn("b.example.org", left).stop(), status: "b.example.org:reached", verdict: Clear},
	{why: "only optional endpoints exercised: nothing is cleared", catalog: cat("c", "a x a.example.org", "b x b.example.org optional"),
		tape: started().conn("b.example.org", ok).stop(), status: "b.example.org:used", verdict: CannotTell, exit: 3},
	{why: "only another scope exercised: nothing is cleared", opt: Options{Scopes: []string{"workload"}}, tape: started().conn("quay.io", ok).stop(),
		status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "a gap of another scope is none", opt: Options{Scopes: []string{"workload"}}, tape: started().conn("quay.io", reset1).conn("jobs.example.org", ok).stop(),
		status: "quay.io:blocked jobs.example.org:used", verdict: Clear},
	{why: "a scope that no catalog has: nothing is cleared", opt: Options{Scopes: []string{"wrokload"}}, tape: started().conn("quay.io", ok).stop(),
		status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "an empty catalog clears nothing", catalog: cat("c"), tape: started().query("quay.io", answers("203.0.113.9")).stop(), verdict: CannotTell, exit: 3},
	{why: "a requirement that had expired lists nothing any more", catalog: cat("c", "a x a.example.org", "b x b.example.org until=2025-12-07"),
		tape: started().conn("a.example.org", ok).conn("b.example.org", ok).stop(), status: "unlisted=b.example.org:443", verdict: Gaps},
	{why: "and is not required", catalog: cat("c", "b x b.example.org until=2025-12-07"), tape: started().conn("b.example.org", ok).stop(),
		status: "unlisted=b.example.org:443", verdict: Gaps, exit: 3},
	{why: "a requirement of tomorrow is not required today", catalog: cat("c", "a x a.example.org", "b x b.example.org from=2026-02-01"), tape: started().conn("a.example.org", ok).stop(),
		status: "a.example.org:used", verdict: Clear},
	{why: "an expired row does not hide the wildcard that still holds", catalog: cat("c", "a x *.example.org", "b x b.example.org until=2025-12-07"),
		tape: started().conn("b.example.org", reset1).stop(), status: "*.example.org:blocked", verdict: Gaps, exit: 1},
	{why: "an alternative that is blocked stays a gap", catalog: cat("c", "a x a.example.org any_of=g", "b x b.example.org any_of=g"),
		tape: started().conn("a.example.org", ok).conn("b.example.org", reset1).stop(), status: "a.example.org:used b.example.org:blocked", verdict: Gaps, exit: 1},

	// TLS inspection.
	{why: "intercepted and accepted is used, and a finding", tape: started().conn("quay.io", ok, detail("issuer", "CN=Corp CA")).stop(),
		status: "quay.io:used tls_intercepted", verdict: Clear},
	{why: "but partial where inspection is forbidden", catalog: cat("c", "a x a.example.org need=no-tls-inspection"), tape: started().conn("a.example.org", ok, detail("issuer", "CN=Corp CA")).stop(),
		status: "a.example.org:partial tls_intercepted", verdict: Gaps, exit: 1},
	{why: "also where only our own probe saw it", catalog: cat("c", "a x a.example.org need=no-tls-inspection"),
		tape:   started().conn("a.example.org", ok).conn("a.example.org", origin(policy.OriginProbe), fails(policy.StageHandshake, policy.TLSIntercepted, policy.ByNetwork, policy.Certain, "issuer", "CN=Corp CA")).stop(),
		status: "a.example.org:partial tls_intercepted", verdict: Gaps, exit: 1},

	{why: "a probe that saw a trusted certificate says nothing", catalog: cat("c", "a x a.example.org need=no-tls-inspection"),
		tape:   started().conn("a.example.org", ok, detail("issuer", "CN=Public", "trusted", true)).conn("a.example.org", origin(policy.OriginProbe), ok, detail("issuer", "CN=Public", "trusted", true)).stop(),
		status: "a.example.org:used", verdict: Clear},
	{why: "a probe that was ok and saw another is evidence", catalog: cat("c", "a x a.example.org need=no-tls-inspection"),
		tape:   started().conn("a.example.org", ok).conn("a.example.org", origin(policy.OriginProbe), ok, detail("issuer", "CN=Corp CA", "trusted", false)).stop(),
		status: "a.example.org:partial tls_intercepted", verdict: Gaps, exit: 1},

	// QUIC, from which clients turn to TCP.
	{why: "QUIC that fails hides no TCP that works", tape: started().conn("quay.io", ok).conn("quay.io", silent1, quic).stop(), status: "quay.io:used", verdict: Clear},
	{why: "nor a TCP that does not", tape: started().conn("quay.io", ok, quic).conn("quay.io", reset1).stop(), status: "quay.io:partial", verdict: Gaps, exit: 1},
	{why: "alone it counts", tape: started().conn("quay.io", silent1, quic).stop(), status: "quay.io:blocked", verdict: Gaps, exit: 1},

	// Unlisted destinations.
	{why: "somebody who knocks and leaves tries no destination", tape: started().conn("quay.io", ok).conn("", left, port(0)).stop(), status: "quay.io:used", verdict: Clear},
	{why: "a target that is no host and port is no destination", tape: started().conn("quay.io", ok).conn("0x7f.1", denied(policy.HTTPRequestError), port(0)).stop(), status: "quay.io:used guarded", verdict: Clear},
	{why: "unlisted and worked is a gap that is not named by default", tape: started().conn("quay.io", ok).conn("other.example", ok).stop(), status: "unlisted=other.example:443", verdict: Gaps},
	{why: "unlisted and never worked is among the blocked", tape: started().conn("quay.io", ok).conn("other.example", dropped).stop(), status: "unlisted=other.example:443", verdict: Gaps, exit: 1},
	{why: "unlisted and abandoned never worked", tape: started().conn("quay.io", ok).conn("other.example", left).stop(), status: "unlisted=other.example:443", verdict: Gaps, exit: 1},
	{why: "unlisted and refused in enforce mode never worked", tape: started().conn("quay.io", ok).conn("other.example", denied(policy.HTTPRequestDenied)).stop(), status: "unlisted=other.example:443", verdict: Gaps, exit: 1},
	{why: "a text that is no name and went through is in no list", tape: started().conn("quay.io", ok).conn("\x1b[31m", ok).stop(), status: "unlisted=\x1b[31m:443", verdict: Gaps},
	{why: "unlisted, while something required was but reached: no exit 0", tape: started().conn("quay.io", left).conn("other.example", ok).stop(), status: "quay.io:reached unlisted=other.example:443", verdict: Gaps, exit: 3},
	{why: "metadata at the proxy is a matter of NO_PROXY", tape: started().conn("quay.io", ok).conn("169.254.169.254", denied(policy.DestinationProhibited), port(80)).stop(), status: "quay.io:used no_proxy", verdict: Clear},
	{why: "so are cluster names and private addresses", tape: started().conn("quay.io", ok).conn("kube-dns.kube-system.svc", dropped).conn("x.svc.cluster.local", ok).conn("10.96.0.1", dropped).stop(),
		status: "quay.io:used no_proxy", verdict: Clear},
	{why: "a private address that a catalog lists is an endpoint", catalog: cat("c", "a x 10.1.2.3"), tape: started().conn("10.1.2.3", dropped).stop(), status: "10.1.2.3:blocked", verdict: Gaps, exit: 1},
	{why: "a guarded address is no gap", tape: started().conn("quay.io", ok).conn("rebind.example", denied(policy.DestinationProhibited)).stop(), status: "quay.io:used guarded", verdict: Clear},

	// Nothing observed.
	{why: "no record at all", tape: &tape{}, verdict: CannotTell, exit: 3},
	{why: "only start, canary and stop", tape: started().stop(), status: "quay.io:unused", verdict: CannotTell, exit: 3},
	{why: "only guard denials", tape: started().conn("rebind.example", denied(policy.DestinationProhibited)).conn("169.254.169.254", denied(policy.DestinationProhibited)).stop(),
		status: "no_proxy guarded", verdict: CannotTell, exit: 3},
	{why: "only our own probes", tape: started().conn("quay.io", ok, origin(policy.OriginProbe)).stop(), status: "quay.io:unused", verdict: CannotTell, exit: 3},
	{why: "only what is inside the cluster", tape: started().conn("10.96.0.1", ok).stop(), status: "quay.io:unused no_proxy", verdict: CannotTell, exit: 3},
	{why: "what says a canary's name and failed is traffic", tape: started().conn("quay.io", ok).conn("evil."+canaryDomain, dropped).stop(), status: "quay.io:used unlisted=evil." + canaryDomain + ":443", verdict: Gaps, exit: 1},
	{why: "what says a canary's name and got an answer is traffic", tape: started().conn("quay.io", ok).conn("evil."+canaryDomain, ok).stop(), status: "unlisted=evil." + canaryDomain + ":443", verdict: Gaps},
	{why: "check tries endpoints on purpose: that is evidence", tape: started().conn("quay.io", ok, origin(policy.OriginCheck)).stop(), status: "quay.io:used", verdict: Clear},

	// The recording itself.
	{why: "lost records", tape: started().conn("quay.io", ok).lost(3, "queue full").stop(), status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "a lost record that says none was lost", tape: started().conn("quay.io", ok).lost(0, "queue full").stop(), status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "lost records and a gap: the gap is certain", tape: started().conn("quay.io", reset1).lost(3, "queue full").stop(), status: "quay.io:blocked", verdict: Gaps, exit: 1},
	{why: "lost records and a gap that is not named", tape: started().conn("quay.io", ok).conn("other.example", ok).lost(3, "queue full").stop(), status: "unlisted=other.example:443", verdict: Gaps, exit: 3},
	{why: "no canary", tape: quiet().conn("quay.io", ok).halt(), status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "no canary before stop", tape: started().conn("quay.io", ok).halt(), status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "another canary than the one announced", tape: quiet().conn("dead."+canaryDomain, denied(policy.HTTPRequestDenied), origin(policy.OriginCanary)).conn("quay.io", ok).stop(), status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "no canary through the second listener", tape: started().conn("quay.io", ok).stop(),
		catalog: small, opt: Options{Files: []string{"two-listeners"}}, status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "still running or killed: a blind spot, no doubt", tape: started().conn("quay.io", ok), status: "quay.io:used", verdict: Clear},
	{why: "no canary through the name server", tape: heard(0).conn("quay.io", ok).stop(), status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "the name server's canary only at the start", tape: heard(1).conn("quay.io", ok).stop(), status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "the name server's canary at both ends", tape: heard(2).conn("quay.io", ok).stop(), status: "quay.io:used", verdict: Clear},
	{why: "both families of one look-up are one sign of life", tape: heard(0).asked("udp", "A", "AAAA").conn("quay.io", ok).stop(), status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "a name server that hears no TCP before the end", tape: dual().conn("quay.io", ok).asked("udp", "A", "AAAA").stop(), status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "a name server that hears nothing before the end", tape: dual().conn("quay.io", ok).stop(), status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "a name server that hears both to the end", tape: dual().conn("quay.io", ok).asked("udp", "AAAA", "A").asked("tcp", "A", "AAAA").stop(), status: "quay.io:used", verdict: Clear},
	{why: "UDP of the TPROXY listener that is heard only at the start", tape: gateway().conn("quay.io", ok).overTProxy("tls").stop(), status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "TCP of the TPROXY listener that is heard only at the start", tape: gateway().conn("quay.io", ok).overTProxy("quic").stop(), status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "TCP and UDP of the TPROXY listener heard to the end", tape: gateway().conn("quay.io", ok).overTProxy("tls", "quic").stop(), status: "quay.io:used", verdict: Clear},
	{why: "killed and started again, both with canaries", tape: started().conn("quay.io", ok).restart().sing().conn("jobs.example.org", ok).stop(), status: "quay.io:used jobs.example.org:used", verdict: Clear},
	{why: "started again, and the first had no canary", tape: quiet().conn("quay.io", ok).restart().sing().stop(), status: "quay.io:used", verdict: CannotTell, exit: 3},
	{why: "a kind of record that we do not know", tape: started().conn("quay.io", ok).add(&policy.Record{Kind: "secret"}).stop(), status: "quay.io:used", verdict: CannotTell, exit: 3},

	// Connections that are still open.
	{why: "open and ok is ok", tape: started().conn("quay.io", ok, open("1")), status: "quay.io:used", verdict: Clear},
	{why: "open and silent is a failure until it closes", tape: started().conn("quay.io", open("1"), fails(policy.StageHello, policy.ConnectionReadTimeout, policy.ByNetwork, policy.Likely)), status: "quay.io:blocked", verdict: Gaps, exit: 1},
	{why: "the closing record replaces the silence", tape: started().conn("quay.io", open("1"), fails(policy.StageHello, policy.ConnectionReadTimeout, policy.ByNetwork, policy.Likely)).conn("quay.io", closes("1"), ok).stop(), status: "quay.io:used", verdict: Clear},
	{why: "the closing record replaces ok, too", tape: started().conn("quay.io", open("1"), ok).conn("quay.io", closes("1"), fails(policy.StageData, policy.ConnectionTerminated, policy.ByNetwork, policy.Likely)).stop(), status: "quay.io:blocked", verdict: Gaps, exit: 1},
	{why: "a restart settles what was open: the same id is another connection", tape: started().conn("quay.io", open("1"), dropped).restart().sing().conn("jobs.example.org", closes("1"), ok).stop(), status: "quay.io:blocked jobs.example.org:used", verdict: Gaps, exit: 1},
	{why: "a reload of the catalogs settles nothing: the connection goes on", tape: started().conn("quay.io", open("1"), silent1).stop().restart().sing().conn("quay.io", closes("1"), ok).stop(), status: "quay.io:used", verdict: Clear},
	{why: "what was open at a reload and never closed counts as it stood", tape: started().conn("quay.io", open("1"), silent1).stop().restart().sing().stop(), status: "quay.io:blocked", verdict: Gaps, exit: 1},
}

// restart is a start on the same file.
// quic makes an attempt one over UDP; silent1 is one without an answer.
var (
	quic    = func(r *policy.Record) { r.Protocol, r.Listener = "quic", "tproxy" }
	silent1 = fails(policy.StageHello, policy.ConnectionReadTimeout, policy.ByNetwork, policy.Certain)
)

// heard is a started trial with a name server, through which the canary was asked
// for some times.
func heard(times int) *tape {
	t := started()
	t.records[0].Listeners = append(t.records[0].Listeners, "dns 127.0.0.1:53/udp")
	for range times {
		t.asked("udp", "A")
	}
	return t
}

// gateway is a started trial with a TPROXY listener, heard at the start.
func gateway() *tape {
	t := started()
	t.records[0].Listeners = append(t.records[0].Listeners, "tproxy 127.0.0.1:3130", "tproxy 127.0.0.1:3130/udp")
	return t.overTProxy("tls", "quic")
}

// overTProxy sends a canary to the TPROXY listener by each of the protocols.
func (t *tape) overTProxy(protocols ...string) *tape {
	for _, p := range protocols {
		t.conn(canaryName, denied(policy.HTTPRequestDenied), origin(policy.OriginCanary), via("tproxy"), func(r *policy.Record) { r.Protocol = p })
	}
	return t
}

// dual is one whose name server was heard by UDP and TCP at the start, each asked
// for both families.
func dual() *tape {
	t := heard(0)
	t.records[0].Listeners = append(t.records[0].Listeners, "dns 127.0.0.1:53/tcp")
	return t.asked("udp", "A", "AAAA").asked("tcp", "AAAA", "A")
}

// asked asks the name server for the canary.
func (t *tape) asked(transport string, types ...string) *tape {
	for _, q := range types {
		t.query(canaryName, denied(""), origin(policy.OriginCanary), qtype(q), func(r *policy.Record) { r.Transport = transport })
	}
	return t
}

func (t *tape) restart() *tape { return t.add(quiet().records[0]) }
