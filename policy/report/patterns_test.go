package report

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

const (
	here, there = "203.0.113.9:443", "203.0.113.10:443"
	squid       = "http://squid.corp:3128"
)

// big is a connection whose ClientHello spans segments.
var big = detail("hello_bytes", 1517.0)

// alive is a trial in which something else is answered, elsewhere.
func alive() *tape { return started().conn("jobs.example.org", ok, to("198.51.100.80:443")) }

// patterns are the rules of repeated patterns. want is the kind and words of the
// only pattern told; "" where none may be.
var patterns = []struct {
	why  string
	tape *tape
	want string
}{
	// Tunnels that die idle.
	{"three tunnels to two hosts of unrelated domains, all by RST", started().rests("a.one.example", "rst", 240).rests("b.two.example", "rst", 240.2).rests("b.two.example", "rst", 239.8),
		"idle_cut 3 tunnels|a.one.example, b.two.example|about 240 s without a byte|all by RST|the firewall|relay.example.org:443 needs websocket|confidence: likely"},
	{"the spread may be ten per cent either way", started().rests("a.one.example", "rst", 220).rests("b.two.example", "rst", 240).rests("b.two.example", "rst", 260), "idle_cut 220 s to 260 s"},
	{"more is no cluster", started().rests("a.one.example", "rst", 200).rests("b.two.example", "rst", 240).rests("b.two.example", "rst", 290), ""},
	{"two samples are too few", started().rests("a.one.example", "rst", 240).rests("b.two.example", "rst", 240), ""},
	{"one host has its own limit", started().rests("a.one.example", "rst", 240).rests("a.one.example", "rst", 240).rests("a.one.example", "rst", 240), ""},
	{"hosts of one domain may share one, so it is a guess", started().rests("a.one.example", "rst", 240).rests("b.one.example", "rst", 240).rests("c.one.example", "rst", 240),
		"idle_cut the far ends' own limit|confidence: guess"},
	{"origins close with FIN: two domains are a guess", started().rests("a.one.example", "fin", 75).rests("b.two.example", "fin", 75).rests("b.two.example", "fin", 75), "idle_cut all by FIN|confidence: guess"},
	{"three unrelated domains hardly agree by chance", started().rests("a.one.example", "fin", 75).rests("b.two.example", "fin", 75).rests("c.three.example", "fin", 75), "idle_cut all by FIN|confidence: likely"},
	{"RST and FIN together", started().rests("a.one.example", "rst", 60).rests("b.two.example", "rst", 60).rests("b.two.example", "fin", 61), "idle_cut 2 by RST, 1 by FIN|confidence: likely"},
	{"less than 20 s is what clients and servers do every day", started().rests("a.one.example", "rst", 15).rests("b.two.example", "rst", 15).rests("b.two.example", "rst", 15), ""},
	{"one that outlived it makes it a guess, told", started().rests("a.one.example", "rst", 60).rests("b.two.example", "rst", 60).rests("b.two.example", "rst", 60).rests("c.three.example", "fin", 300),
		"idle_cut though 1 stood idle for longer|confidence: guess"},
	{"three that outlived it refute it", started().rests("a.one.example", "rst", 60).rests("b.two.example", "rst", 60).rests("b.two.example", "rst", 60).rests("b.two.example", "rst", 60).
		rests("c.three.example", "fin", 300).rests("c.three.example", "fin", 500).rests("c.three.example", "fin", 800), ""},
	{"so do two of four", started().rests("a.one.example", "rst", 60).rests("b.two.example", "rst", 60).rests("b.two.example", "rst", 60).rests("b.two.example", "rst", 60).
		rests("c.three.example", "fin", 300).rests("c.three.example", "fin", 500), ""},
	{"those that we ended lived as long", started().rests("a.one.example", "rst", 60).rests("b.two.example", "rst", 60).rests("b.two.example", "rst", 60).
		conn("c.three.example", ours(900)).conn("c.three.example", ours(900)).conn("c.three.example", ours(900)), ""},
	{"our own limit is no device", started().conn("a.one.example", ours(900)).conn("b.two.example", ours(900)).conn("c.three.example", ours(900)), ""},
	{"lengths at random are no limit", spread(60), ""},
	{"an origin's keep-alive below does not hide the limit", started().rests("a.one.example", "fin", 75).rests("a.one.example", "fin", 75).rests("b.two.example", "fin", 75).
		rests("c.three.example", "rst", 240).rests("d.four.example", "rst", 241).rests("d.four.example", "rst", 240), "idle_cut about 240 s|confidence: likely"},
	{"through a parent both devices are named", started().parent(squid).rests("a.one.example", "rst", 60).rests("b.two.example", "rst", 60).rests("b.two.example", "rst", 60),
		"idle_cut the proxy http://squid.corp:3128 or the firewall behind it"},
	{"direct and through a parent are two paths", started().parent(squid).rests("a.one.example", "rst", 60).rests("b.two.example", "rst", 60).
		conn("c.three.example", ok, detail("close", "rst", "idle_ms", 60000.0, "direct", true)), ""},
	{"failures while data flowed count", started().conn("a.one.example", ok).conn("a.one.example", died(30)).conn("b.two.example", died(30)).conn("b.two.example", died(31)), "idle_cut about 30 s|confidence: likely"},
	{"failures before any answer are told as such", started().times(3, "a.one.example", silence, detail("close", "rst", "idle_ms", 30000.0)).conn("b.two.example", silence, detail("close", "rst", "idle_ms", 30000.0)), ""},
	{"an end that is neither FIN nor RST", started().rests("a.one.example", "timeout", 60).rests("b.two.example", "timeout", 60).rests("b.two.example", "timeout", 60), ""},
	{"numbers that are none", started().conn("a.one.example", ok, detail("close", "rst", "idle_ms", "60000")).conn("b.two.example", ok, detail("close", "rst", "idle_ms", math.NaN())).
		conn("c.three.example", ok, detail("close", "rst", "idle_ms", math.Inf(1))).conn("d.four.example", ok, detail("close", "rst", "idle_ms", -60000.0)), ""},

	// Large ClientHellos.
	{"large ones fail and small ones pass at the same host, by turns", started().conn("a.one.example", ok).times(3, "a.one.example", silence, big).conn("a.one.example", ok),
		"large_hello_dropped 3 ClientHellos of 1517 octets to a.one.example:443|2 that fit into one segment passed|the firewall|confidence: likely"},
	{"sizes are told", started().conn("a.one.example", ok).times(2, "a.one.example", reset1, big).conn("a.one.example", reset1, detail("hello_bytes", 1800)).conn("a.one.example", ok), "large_hello_dropped of 1517 to 1800 octets|likely"},
	{"first large, then small: a rule may have changed in between", started().times(3, "a.one.example", silence, big).conn("a.one.example", ok), "large_hello_dropped a rule changed|confidence: guess"},
	{"two are too few", started().conn("a.one.example", ok).times(2, "a.one.example", silence, big).conn("a.one.example", ok), ""},
	{"small ones fail, too: the host is blocked", started().times(3, "a.one.example", silence, big).conn("a.one.example", silence).conn("a.one.example", ok), ""},
	{"a large one passed there", started().conn("a.one.example", ok).times(3, "a.one.example", silence, big).conn("a.one.example", ok, big), ""},
	{"a large one passed elsewhere: it may be the host", started().conn("a.one.example", ok).times(3, "a.one.example", silence, big).conn("a.one.example", ok).conn("b.two.example", ok, big),
		"large_hello_dropped may be the far ends themselves|confidence: guess"},
	{"large ones fail at two hosts, small ones pass at others", started().times(2, "a.one.example", silence, big).conn("b.two.example", silence, big).conn("c.three.example", ok).times(2, "d.four.example", ok),
		"large_hello_dropped 3 ClientHellos|3 that fit|confidence: guess"},
	{"unless a large one passes anywhere", started().times(2, "a.one.example", silence, big).conn("b.two.example", silence, big).conn("c.three.example", ok).times(2, "d.four.example", ok, big), ""},
	{"one host alone may be blocked by its name", started().times(3, "a.one.example", silence, big).conn("c.three.example", ok).times(2, "d.four.example", ok), ""},
	{"an alert is an answer", started().conn("a.one.example", ok).times(3, "a.one.example", alert, big).conn("a.one.example", ok), ""},
	{"plain HTTP has no ClientHello", started().times(3, "a.one.example", ok, plain).times(3, "b.two.example", ok, plain).times(2, "c.three.example", silence, big).conn("d.four.example", silence, big), ""},
	{"through a parent both devices are named", started().parent(squid).conn("a.one.example", ok).times(3, "a.one.example", silence, big).conn("a.one.example", ok), "large_hello_dropped the proxy http://squid.corp:3128 or the firewall"},
	{"direct and through a parent are two paths", started().parent(squid).conn("a.one.example", ok).times(3, "a.one.example", silence, detail("hello_bytes", 1517, "direct", true)).conn("a.one.example", ok), ""},

	// A filter by name.
	{"one name is cut, its address answers another", started().conn("a.one.example", ok, to(here)).times(3, "b.two.example", reset1).conn("a.one.example", ok, to(here)),
		"sni_filter b.two.example:443 was cut off right after the ClientHello, 3 times|(203.0.113.9) answered a.one.example|confidence: likely"},
	{"silence is as good", started().conn("a.one.example", ok, to(here)).times(3, "b.two.example", silence).conn("a.one.example", ok, to(here)), "sni_filter was left in silence|likely"},
	{"both", started().conn("a.one.example", ok, to(here)).times(2, "b.two.example", silence).conn("b.two.example", reset1).conn("a.one.example", ok, to(here)), "sni_filter cut off or left in silence|likely"},
	{"the other answered afterwards only: the address may have been down", started().times(3, "b.two.example", reset1).conn("a.one.example", ok, to(here)), "sni_filter the address was down|confidence: guess"},
	{"two are too few", started().conn("a.one.example", ok, to(here)).times(2, "b.two.example", reset1).conn("a.one.example", ok, to(here)), ""},
	{"over several addresses of the name", started().conn("a.one.example", ok, to(here)).conn("a.one.example", ok, to(there)).times(2, "b.two.example", reset1).conn("b.two.example", reset1, to(there)).conn("a.one.example", ok, to(here)),
		"sni_filter 3 times|203.0.113.9, 203.0.113.10|likely"},
	{"mapped into IPv6 it is the same address", started().conn("a.one.example", ok, to("[::ffff:203.0.113.9]:443")).times(3, "b.two.example", reset1).conn("a.one.example", ok, to(here)), "sni_filter likely"},
	{"the name worked once: no filter by name", started().conn("a.one.example", ok, to(here)).times(3, "b.two.example", reset1).conn("b.two.example", ok, to(there)).conn("a.one.example", ok, to(here)), ""},
	{"another port answers: nothing known of this one", started().conn("a.one.example", ok, port(80), to("203.0.113.9:80")).times(3, "b.two.example", reset1).conn("a.one.example", ok, port(80), to("203.0.113.9:80")), ""},
	{"another address answers: nothing known of this one", started().conn("a.one.example", ok, to(there)).times(3, "b.two.example", reset1).conn("a.one.example", ok, to(there)), ""},
	{"behind a parent the address is the parent's", started().parent(squid).conn("a.one.example", ok, to(here)).times(3, "b.two.example", reset1).conn("a.one.example", ok, to(here)), ""},
	{"around the parent it is the destination's", started().parent(squid).conn("a.one.example", ok, to(here), detail("direct", true)).times(3, "b.two.example", reset1, detail("direct", true)).conn("a.one.example", ok, to(here), detail("direct", true)),
		"sni_filter likely"},
	{"without a start record it is not known whose address it is", headless().conn("a.one.example", ok, to(here)).times(3, "b.two.example", reset1).conn("a.one.example", ok, to(here)), ""},
	{"without a name in the ClientHello there is no filter by name", started().conn("a.one.example", ok, to(here)).times(3, "b.two.example", reset1, nameless).conn("a.one.example", ok, to(here)), ""},
	{"another name in the ClientHello is what a filter sees", started().conn("a.one.example", ok, to(here)).times(3, "b.two.example", reset1, sni("c.three.example")).conn("a.one.example", ok, to(here)), ""},
	{"only large hellos failed, only small ones passed: that says nothing of a name", started().conn("a.one.example", ok, to(here)).times(3, "b.two.example", reset1, big).conn("a.one.example", ok, to(here)), ""},
	{"large ones pass for the other name", started().conn("a.one.example", ok, big, to(here)).times(3, "b.two.example", reset1, big).conn("a.one.example", ok, to(here)), "sni_filter likely"},
	{"an alert is an answer", started().conn("a.one.example", ok, to(here)).times(3, "b.two.example", alert).conn("a.one.example", ok, to(here)), ""},
	{"a bare address has no name", started().conn("a.one.example", ok, to(here)).times(3, "203.0.113.9", reset1).conn("a.one.example", ok, to(here)), ""},

	// A rule for an address.
	{"all names at one address are dropped, others work", alive().times(2, "a.one.example", dropped).conn("b.two.example", dropped).conn("jobs.example.org", ok, to(there)),
		"address_rule all 3 connections to 203.0.113.9 (a.one.example, b.two.example) were refused or left unanswered|confidence: likely"},
	{"refused is the same", alive().times(2, "a.one.example", refused).conn("b.two.example", dropped).conn("jobs.example.org", ok, to(there)), "address_rule likely"},
	{"others answered before alone: the network may have gone down", alive().times(2, "a.one.example", dropped).conn("b.two.example", dropped), "address_rule confidence: guess"},
	{"silent after the hello it may be the names", alive().times(2, "a.one.example", silence).conn("b.two.example", silence), "address_rule cut off or left in silence|confidence: guess"},
	{"one domain may be down", alive().times(2, "a.one.example", dropped).conn("b.one.example", dropped), "address_rule or the host there is down|confidence: guess"},
	{"two are too few", alive().conn("a.one.example", dropped).conn("b.two.example", dropped), ""},
	{"one name says nothing of the address", alive().times(6, "a.one.example", dropped), ""},
	{"one name on two ports is one name", alive().times(2, "a.one.example", dropped).conn("a.one.example", port(8443), dropped, to("203.0.113.9:8443")), ""},
	{"nothing works anywhere: no rule for this address", started().times(2, "a.one.example", dropped).conn("b.two.example", dropped), ""},
	{"one of them works there, once", alive().times(2, "a.one.example", dropped).conn("b.two.example", dropped).conn("b.two.example", ok, to(here)), ""},
	{"the address answers on another port", alive().times(2, "a.one.example", dropped).conn("b.two.example", dropped).conn("b.two.example", port(80), ok, to("203.0.113.9:80")), ""},
	{"somebody answered there, if falsely", alive().times(2, "a.one.example", dropped).conn("b.two.example", dropped).conn("b.two.example", alert), ""},
	{"behind a parent the address is the parent's", alive().parent(squid).times(2, "a.one.example", silence).conn("b.two.example", silence), ""},
	{"dropped names of unrelated domains may have been given a false address", alive().conn("a.one.example", dropped).conn("b.two.example", dropped).conn("c.three.example", dropped).conn("jobs.example.org", ok, to(there)), "address_rule a resolver gave a false address|likely"},

	// One address in the place of many.
	{"three unrelated domains, and something that is not TLS", started().conn("a.one.example", notTLS).conn("b.two.example", notTLS).conn("c.three.example", notTLS),
		"shared_answer 203.0.113.9 stood for 3 unrelated domains (one.example, two.example, three.example)|all 3 connections|(not_tls_reply)|confidence: likely"},
	{"three sinkholed names", started().conn("a.one.example", sunk).conn("b.two.example", sunk).conn("c.three.example", sunk), "shared_answer 0.0.0.0 stood for 3|(dns_sinkhole)|likely"},
	{"block pages over plain HTTP", started().request("a.one.example", page302).request("b.two.example", page302).request("c.three.example", page302), "shared_answer (http_block_page)|likely"},
	{"the same at another address: a filter answers for all", started().conn("a.one.example", notTLS).conn("b.two.example", notTLS).conn("c.three.example", notTLS).conn("d.four.example", notTLS, to(there)),
		"shared_answer a filter answers in the place|confidence: guess"},
	{"silence alone is a guess", alive().conn("a.one.example", silence).conn("b.two.example", silence).conn("c.three.example", silence), "shared_answer or a filter cuts off the names or the address|confidence: guess"},
	{"silence everywhere says nothing", started().conn("a.one.example", silence).conn("b.two.example", silence).conn("c.three.example", silence), ""},
	{"different ways to fail", alive().conn("a.one.example", silence).conn("b.two.example", alert).conn("c.three.example", reset1), "shared_answer in several ways|guess"},
	{"two domains are too few", started().times(2, "a.one.example", notTLS).conn("b.two.example", notTLS).conn("c.two.example", notTLS), ""},
	{"one works there: many live at a CDN's address", started().conn("a.one.example", notTLS).conn("b.two.example", notTLS).conn("c.three.example", notTLS).conn("d.four.example", ok, to(here)), ""},
	{"all work there: a CDN", started().conn("a.one.example", ok, to(here)).conn("b.two.example", ok, to(here)).conn("c.three.example", ok, to(here)), ""},
	{"accounts of one store are related", started().conn("a.blob.core.windows.net", notTLS).conn("b.blob.core.windows.net", notTLS).conn("c.blob.core.windows.net", notTLS), ""},
	{"an inspecting device with an authority of its own, at an address of a CDN and at others", started().conn("a.one.example", inspected).conn("b.two.example", inspected).conn("c.three.example", inspected).conn("d.four.example", inspected, to(there)), ""},
	{"the same where others took the certificate", started().conn("a.one.example", inspected).conn("b.two.example", inspected).conn("c.three.example", inspected).conn("d.four.example", ok, detail("issuer", "CN=Corp CA"), to(there)), ""},
	{"a false certificate at this address alone", started().conn("a.one.example", inspected).conn("b.two.example", inspected).conn("c.three.example", inspected), "shared_answer or TLS is inspected|confidence: guess"},
	{"behind a parent the address is the parent's", started().parent(squid).conn("a.one.example", notTLS).conn("b.two.example", notTLS).conn("c.three.example", notTLS), ""},
	{"our own probes are no clients", started().conn("a.one.example", notTLS, origin(policy.OriginProbe)).conn("b.two.example", notTLS, origin(policy.OriginProbe)).conn("c.three.example", notTLS, origin(policy.OriginProbe)), ""},
}

var (
	alert     = fails(policy.StageHello, policy.TLSAlertReceived, policy.ByOrigin, policy.Likely, "alert", "handshake_failure")
	notTLS    = fails(policy.StageHello, policy.NotTLSReply, policy.ByNetwork, policy.Certain, "status", 403.0, "reply", "http")
	refused   = fails(policy.StageConnect, policy.ConnectionRefused, policy.ByNetwork, policy.Certain)
	sunk      = fails(policy.StageResolve, policy.DNSSinkhole, policy.ByResolver, policy.Certain, "addresses", []any{"0.0.0.0", "no address", 7.0})
	page302   = fails(policy.StageData, policy.HTTPBlockPage, policy.ByNetwork, policy.Likely, "status", 302.0)
	inspected = fails(policy.StageHandshake, policy.TLSIntercepted, policy.ByNetwork, policy.Certain, "issuer", "CN=Corp CA")
)

func plain(r *policy.Record)    { r.Protocol, r.SNIState = "http", policy.SNINotTLS }
func nameless(r *policy.Record) { r.SNIState = policy.SNIAbsent }

// ours is a tunnel that we ended for its idleness.
func ours(seconds float64) mod {
	return func(r *policy.Record) {
		ok(r)
		r.Error, r.By = policy.ConnectionTerminated, policy.BySelf
		detail("why", "idle", "idle_ms", seconds*1000)(r)
	}
}

// died is a connection that broke off in its data after it was idle.
func died(seconds float64) mod {
	return fails(policy.StageData, policy.ConnectionTerminated, policy.ByNetwork, policy.Certain, "close", "rst", "idle_ms", seconds*1000)
}

// headless is a trial whose start record is missing.
func headless() *tape { return &tape{vantage: "pod"} }

// spread has tunnels that were idle for any time between 20 s and 15 minutes.
func spread(n int) *tape {
	t := started()
	for i := range n {
		t.rests(fmt.Sprintf("h%d.d%d.example", i%7, i%5), "fin", 20+float64(i*880/n))
	}
	return t
}

var patternKinds = []Kind{IdleCut, LargeHelloDropped, SNIFilter, AddressRule, SharedAnswer}

// told are the patterns of a report.
func told(r *Report) (out []Finding) {
	for _, f := range r.Findings {
		for _, k := range patternKinds {
			if f.Kind == k {
				out = append(out, f)
			}
		}
	}
	return out
}

func TestPatterns(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("c", "a x relay.example.org need=websocket", "b x jobs.example.org", "c x a.one.example")}}
	for _, row := range patterns {
		t.Run(row.why, func(t *testing.T) {
			r := row.tape.report(o)
			requireShape(t, r)
			found := told(r)
			if row.want == "" {
				require.Empty(t, found)
				return
			}
			kind, words, _ := strings.Cut(row.want, " ")
			require.Len(t, found, 1, "%v", found)
			require.Equal(t, Kind(kind), found[0].Kind)
			for _, w := range strings.Split(words, "|") {
				require.Contains(t, found[0].Text, w)
			}
			require.Regexp(t, "; confidence: (likely|guess)$", found[0].Text)
			require.GreaterOrEqual(t, len(found[0].Evidence), minSample)
			requireEvidence(t, found[0], row.tape)
		})
	}
}

// requireEvidence checks that evidence names connections of the tape, each once.
func requireEvidence(t *testing.T, f Finding, tape *tape) {
	t.Helper()
	require.LessOrEqual(t, len(f.Evidence), maxEvidence)
	for i, seq := range f.Evidence {
		require.NotNil(t, tape.records[seq-1].Observation, "record %d", seq)
		require.NotEqual(t, policy.OriginCanary, tape.records[seq-1].Origin)
		require.True(t, i == 0 || f.Evidence[i-1] < seq)
	}
}

// Each kind of pattern is one that --fail-on takes, and the exit status follows.
func TestPatternsFailOn(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	for _, kind := range patternKinds {
		require.Contains(t, Kinds, kind)
		f, err := ParseFailOn(string(kind))
		require.NoError(t, err)
		seen := false
		for _, row := range patterns {
			is := strings.HasPrefix(row.want, string(kind)+" ")
			require.Equal(t, is, row.tape.report(o).fails(f), row.why)
			seen = seen || is
		}
		require.True(t, seen, kind)
	}
	require.IsIncreasing(t, kindsAsText())
}

func kindsAsText() (out []string) {
	for _, k := range Kinds {
		out = append(out, strings.ReplaceAll(string(k), "_", ""))
	}
	return out
}

// A pattern changes no status and no verdict, and nothing that is told of one
// takes a gap away: with and without what makes it, the rest of the report is
// the same.
func TestPatternsClearNothing(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	for _, row := range patterns {
		with := row.tape.report(o)
		bare := &tape{vantage: "pod"}
		for _, r := range row.tape.records {
			c := *r
			if r.Observation != nil {
				naked := *r.Observation
				naked.Detail, naked.Address = nil, policy.Observation{}.Address
				c.Observation = &naked
			}
			bare.records = append(bare.records, &c)
		}
		without := bare.report(o)
		require.Empty(t, told(without), row.why)
		require.Equal(t, without.Summary, with.Summary, row.why)
		require.Equal(t, without.Verdict, with.Verdict, row.why)
		require.Equal(t, without.Doubts, with.Doubts, row.why)
		for _, u := range with.Unlisted {
			require.True(t, u.Outcome == Worked || u.Cause != nil || u.Outcome == string(Reached))
		}
	}
}
