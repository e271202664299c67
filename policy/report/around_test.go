package report

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// dns makes the trial one with a forwarder.
func (t *tape) dns() *tape {
	t.records[0].Listeners = append(t.records[0].Listeners, "dns 10.0.0.5:53")
	return t
}

// only are the findings of a kind.
func only(r *Report, k Kind) (out []Finding) {
	for _, f := range r.Findings {
		if f.Kind == k {
			out = append(out, f)
		}
	}
	return out
}

// Addresses of the scenes. None of the clients is the resolver.
var (
	c1, c2, c3 = client("10.1.0.1:1"), client("10.1.0.2:2"), client("10.1.0.3:3")
	coreDNS    = client("10.1.0.53:53")
)

// at1 is where the first of the scenes' names is.
const quay1, quay2 = "203.0.113.10", "2001:db8::10"

var found, foundSix = answers(quay1), answers(quay2)

// pod is a workload.
var pod = from1("ns/p")

// asksFor is a connection that asked for nothing: it was captured, and named by
// its ClientHello.
func took(r *policy.Record) { r.Asked, r.Listener, r.NameFrom = "", "redirect", policy.FromSNI }

func resolving(ms int64) mod { return func(r *policy.Record) { r.ResolveMS = ms } }

// bypassRows are scenes; each says who is accused: "client name confidence".
var bypassRows = []struct {
	why    string
	tape   *tape
	opt    Options
	want   string // words of the one finding; "": nobody is accused
	not    string // words that must not be there
	status Status // of quay.io; "": no matter
}{
	{why: "the client never connected there, and it does elsewhere: certain", status: Resolved,
		tape: started().conn("jobs.example.org", ok, c1).query("quay.io", found, c1).stop(late), want: "10.1.0.1 looked up quay.io|confidence: certain"},
	{why: "three clients, of which one ignores HTTPS_PROXY, each going to the same site", status: Used,
		tape: started().conn("quay.io", ok, c1).query("quay.io", found, c3).query("quay.io", foundSix, qtype("AAAA"), c3).conn("quay.io", ok, c2).stop(late),
		want: "10.1.0.3 looked up quay.io, 2 times|others went there|confidence: likely", not: "10.1.0.1 10.1.0.2"},
	{why: "three clients that all ask, captured, of which one is not", status: Used,
		tape: started().query("quay.io", found, c1).query("quay.io", found, c2).query("quay.io", found, c3).conn("quay.io", ok, took, c1).conn("quay.io", ok, took, c2).stop(late),
		want: "10.1.0.3 looked up quay.io, once|confidence: likely", not: "10.1.0.1 10.1.0.2"},
	{why: "the one that goes around connects for other names: certain",
		tape: started().query("quay.io", found, c3).conn("jobs.example.org", ok, c3).conn("jobs.example.org", ok, c1).stop(late),
		want: "10.1.0.3 looked up quay.io, once|confidence: certain"},
	{why: "another client never mends it, beside one that was used: the status stays", status: Used,
		tape: started().query("quay.io", found, c3).conn("jobs.example.org", ok, c3).conn("quay.io", ok, c1, at(60)).stop(late), want: "10.1.0.3 looked up quay.io|certain"},

	{why: "others went there at the same time, so it may have asked for them", status: Used,
		tape: started().conn("jobs.example.org", ok, c3).query("quay.io", found, c3).conn("quay.io", ok, c1).stop(late), want: "10.1.0.3 looked up quay.io|others went there|likely"},

	{why: "it connects within the window after", tape: started().query("quay.io", found, c1).conn("quay.io", ok, c1, at(31)).stop(late), status: Used},
	{why: "it connects, and that lasts for an hour", tape: started().query("quay.io", found, c1).conn("quay.io", ok, c1, at(3600), lasted(3590*time.Second)).stop(at(3700)), status: Used},
	{why: "it connects too late", tape: started().query("quay.io", found, c1).conn("quay.io", ok, c1, at(33)).stop(late), status: Used, want: "10.1.0.1 looked up quay.io|certain"},
	{why: "it connected within the window before", tape: started().conn("quay.io", ok, c1).query("quay.io", found, c1, at(31)).stop(late), status: Used},
	{why: "it connected too early", tape: started().conn("quay.io", ok, c1).query("quay.io", found, c1, at(40)).stop(late), status: Used, want: "looked up quay.io|certain"},
	{why: "a window of one's own", opt: Options{BypassWindow: time.Minute}, tape: started().conn("quay.io", ok, c1).query("quay.io", found, c1, at(40)).stop(at(200)), status: Used},
	{why: "and the finding names it", opt: Options{BypassWindow: time.Second}, tape: started().query("quay.io", found, c1).conn("jobs.example.org", ok, c1).stop(), status: Resolved, want: "within 1s before or after"},
	{why: "a connection that failed came to us all the same", tape: started().query("quay.io", found, c1).conn("quay.io", dropped, c1).stop(late), status: Blocked},
	{why: "so did one on another port", tape: started().conn("jobs.example.org", ok, c1).query("quay.io", found, c1).conn("quay.io", ok, c1, port(80)).stop(late)},
	{why: "a keep-alive connection is still open", status: Used,
		tape: started().conn("quay.io", ok, c1, open("1")).query("quay.io", found, c1, at(200)).stop(at(300))},
	{why: "and what it explained stays so when it closes", status: Used,
		tape: started().conn("quay.io", ok, c1, open("1")).query("quay.io", found, c1, at(200)).conn("quay.io", ok, c1, closes("1"), at(290), lasted(287*time.Second)).stop(at(300))},
	{why: "what was open ends with a restart", status: Used,
		tape: started().conn("quay.io", ok, c1, open("1")).restart().query("quay.io", found, c1, at(200)).stop(at(300)), want: "10.1.0.1 looked up quay.io"},
	{why: "HTTP/2 coalescing: a connection to an address of the answer is open", status: Unused,
		tape: started().conn("jobs.example.org", ok, c1, to(quay1+":443"), open("1")).query("quay.io", found, c1, at(100)).stop(at(200))},
	{why: "HTTP/2 coalescing, and it had asked for both families", status: Unused,
		tape: started().query("quay.io", found, c1).query("quay.io", foundSix, qtype("AAAA"), c1).conn("jobs.example.org", ok, took, c1, to(quay1+":443")).stop(late)},
	{why: "and so where the connection came first", status: Unused,
		tape: started().conn("jobs.example.org", ok, took, c1, to(quay1+":443"), open("1")).query("quay.io", foundSix, qtype("AAAA"), c1).query("quay.io", found, c1).stop(late)},
	{why: "in the other order", status: Unused,
		tape: started().conn("jobs.example.org", ok, took, c1, to(quay1+":443"), lasted(time.Second)).query("quay.io", found, c1).query("quay.io", foundSix, qtype("AAAA"), c1).stop(late)},
	{why: "in between", status: Unused,
		tape: started().query("quay.io", foundSix, qtype("AAAA"), c1).conn("jobs.example.org", ok, took, c1, to(quay1+":443"), lasted(time.Second)).query("quay.io", found, c1).stop(late)},
	{why: "but another question, later, is not part of it", status: Resolved,
		tape: started().query("quay.io", found, c1).conn("jobs.example.org", ok, took, c1, to(quay1+":443"), lasted(time.Second)).query("quay.io", foundSix, qtype("AAAA"), c1, at(20)).stop(late), want: "10.1.0.1 looked up quay.io, once"},
	{why: "a resolver asks for both families on behalf of a pod that was captured", status: Unused,
		tape: started().query("quay.io", found, coreDNS).query("quay.io", foundSix, qtype("AAAA"), coreDNS).conn("jobs.example.org", ok, took, c1, to(quay1+":443")).stop(late)},
	{why: "a pod of two addresses asks from one and connects from the other", status: Used,
		tape: started().conn("jobs.example.org", ok, c1, pod).query("quay.io", found, c1, pod).conn("quay.io", ok, c3, pod).stop(late)},
	{why: "and connected before", status: Used,
		tape: started().conn("jobs.example.org", ok, c1, pod).conn("quay.io", ok, c3, pod).query("quay.io", found, c1, pod).stop(late)},
	{why: "another pod is another one", status: Used,
		tape: started().conn("jobs.example.org", ok, c1, pod).query("quay.io", found, c1, pod).conn("quay.io", ok, c3, from1("ns/q")).stop(late), want: "10.1.0.1 (ns/p) looked up quay.io|likely"},
	{why: "an address mapped into IPv6 is the same one", status: Unused,
		tape: started().conn("jobs.example.org", ok, client("[::ffff:10.1.0.1]:1"), to("[::ffff:203.0.113.10]:443")).query("quay.io", found, c1).stop(late)},
	{why: "behind a parent the address is the parent's", status: Resolved,
		tape: started().parent("http://"+quay1+":3128").conn("jobs.example.org", ok, c1, to(quay1+":443")).query("quay.io", found, c1).stop(late), want: "certain"},
	{why: "it went to the bare address", tape: started().query("quay.io", found, c1).conn(quay1, ok, c1, to(quay1+":443")).conn("jobs.example.org", ok, c1).stop(late), status: Unused},
	{why: "it connected by IPv6, and asked for both families", status: Used,
		tape: started().query("quay.io", found, c1).query("quay.io", foundSix, qtype("AAAA"), c1).conn("quay.io", ok, took, c1, to("["+quay2+"]:443")).stop(late)},
	{why: "it asked for HTTPS records alone", tape: started().conn("jobs.example.org", ok, c1).query("quay.io", answers("1 ."), qtype("HTTPS"), c1).stop(late), status: Unused},
	{why: "it asked, and there was no address", tape: started().conn("jobs.example.org", ok, c1).query("quay.io", answers(), qtype("AAAA"), c1).stop(late)},
	{why: "too close to the end to tell", tape: started().conn("jobs.example.org", ok, c1).query("quay.io", found, c1).stop(), status: Unused},
	{why: "NO_PROXY of the recording, beside that of the flag", opt: Options{NoProxy: []string{"other.example"}},
		tape: started().passing("quay.io").conn("jobs.example.org", ok, c1).query("quay.io", found, c1).stop(late), status: Bypassed},
	{why: "NO_PROXY of the flag", opt: Options{NoProxy: []string{"quay.io"}}, tape: started().conn("jobs.example.org", ok, c1).query("quay.io", found, c1).stop(late), status: Bypassed},
	{why: "NO_PROXY of the ledger", tape: started().conn("jobs.example.org", ok, c1).query("quay.io", found, c1).stop(late, func(r *policy.Record) { r.NoProxy = []string{"quay.io"} }), status: Bypassed},
	{why: "of another scope", opt: Options{Scopes: []string{"workload"}}, tape: started().conn("jobs.example.org", ok, c1).query("quay.io", found, c1).stop(late)},
	{why: "in no list", tape: started().conn("jobs.example.org", ok, c1).query("other.example", found, c1).stop(late)},

	// A resolver in between.
	{why: "CoreDNS asks for pods that are captured", status: Used,
		tape: started().query("quay.io", found, coreDNS).conn("quay.io", ok, took, c1).query("quay.io", foundSix, qtype("AAAA"), coreDNS).stop(late)},
	{why: "also where the pod came just before, out of a cache", status: Used,
		tape: started().conn("quay.io", ok, took, c1).query("quay.io", found, coreDNS).stop(late)},
	{why: "also where it only has the address in common", status: Unused,
		tape: started().query("quay.io", found, coreDNS).conn("jobs.example.org", ok, took, c1, to(quay1+":443")).stop(late)},
	{why: "one of the pods behind it goes around: it cannot be told which", status: Resolved,
		tape: started().query("jobs.example.org", answers("203.0.113.5"), coreDNS).conn("jobs.example.org", ok, took, c1).query("quay.io", found, coreDNS).stop(late),
		want: "an unknown client behind the resolver 10.1.0.53 looked up quay.io|confidence: likely"},
	{why: "also where the resolver connects to us itself, as a node does",
		tape: started().query("jobs.example.org", answers("203.0.113.5"), coreDNS).conn("jobs.example.org", ok, took, c1).conn("a.quay.io", ok, coreDNS).query("quay.io", found, coreDNS).stop(late),
		want: "an unknown client behind the resolver 10.1.0.53 looked up quay.io|confidence: likely"},
	{why: "where it is known to be a resolver, CONNECT of others explains its questions", status: Used,
		tape: started().query("jobs.example.org", answers("203.0.113.5"), coreDNS).conn("jobs.example.org", ok, took, c1).query("quay.io", found, coreDNS).conn("quay.io", ok, c2).stop(late)},
	{why: "our own look-ups that come back to us through CoreDNS", status: Used,
		tape: started().query("quay.io", found, coreDNS).query("quay.io", foundSix, qtype("AAAA"), coreDNS).conn("quay.io", ok, c1, lasted(3*time.Second), resolving(2500)).stop(late)},
	{why: "but not what was asked at another time than ours", status: Used,
		tape: started().query("quay.io", found, c3).conn("quay.io", ok, c1, at(20), lasted(3*time.Second), resolving(2)).stop(late), want: "10.1.0.3 looked up quay.io|likely"},
	{why: "a client that is not known is accused of nothing that anybody did", status: Used, tape: started().query("quay.io", found).conn("quay.io", ok, c1).stop(late)},
	{why: "before it, too", status: Used, tape: started().conn("quay.io", ok, c1).query("quay.io", found).stop(late)},
	{why: "and else it is unknown", status: Resolved, tape: started().query("quay.io", found).conn("jobs.example.org", ok, c1).stop(late), want: "an unknown client looked up quay.io|likely"},
}

func TestBypassFinder(t *testing.T) {
	all, err := ParseFailOn("bypass")
	require.NoError(t, err)
	for _, row := range bypassRows {
		t.Run(row.why, func(t *testing.T) {
			o := row.opt
			o.Catalogs = []*policy.Catalog{small}
			r := row.tape.report(o)
			if row.status != "" {
				require.Equal(t, row.status, r.Endpoints[0].Status)
			}
			told := only(r, Bypass)
			require.Equal(t, row.want != "", r.ExitStatus(all) == 1, "%v", told)
			if row.want == "" {
				require.Empty(t, told)
				return
			}
			require.Len(t, told, 1, "%v", told)
			for _, w := range strings.Split(row.want, "|") {
				require.Contains(t, told[0].Text, w)
			}
			for _, w := range strings.Fields(row.not) {
				require.NotContains(t, told[0].Text, w)
			}
			for _, seq := range told[0].Evidence {
				require.Equal(t, policy.KindQuery, row.tape.records[seq-1].Kind, "the evidence is the look-up")
			}
		})
	}
}

// Beside an endpoint that others used a bypass takes no all-clear away, but is
// not passed over in silence, and --fail-on names it.
func TestBypassBesideUsed(t *testing.T) {
	r := started().conn("quay.io", ok, c1).conn("jobs.example.org", ok, c3).query("quay.io", found, c3).stop(late).report(Options{Catalogs: []*policy.Catalog{small}})
	require.Equal(t, Clear, r.Verdict)
	require.Len(t, only(r, Bypass), 1)
	var b bytes.Buffer
	require.NoError(t, r.WriteText(&b, TextOptions{}))
	require.Contains(t, b.String(), "Next:  find out why somebody goes around egressaudit")
	for list, want := range map[string]int{"bypass": 1, DefaultFailOn: 0, "resolved": 0} {
		f, err := ParseFailOn(list)
		require.NoError(t, err)
		require.Equal(t, want, r.ExitStatus(f), list)
	}
}

// What was looked up within the window before the end is a doubt, and no more.
func TestLookupsNearTheEnd(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	r := started().conn("jobs.example.org", ok, c1).query("quay.io", found, c1).stop().report(o)
	require.Equal(t, CannotTell, r.Verdict)
	require.Contains(t, r.Doubts, "quay.io:443: quay.io was looked up less than 30s before the end: too early to tell whether a connection follows, so let the trial run longer")
	r = started().conn("quay.io", ok, c1).conn("jobs.example.org", ok, c1).query("quay.io", found, c1, at(50)).stop(at(60)).report(o)
	require.Equal(t, Clear, r.Verdict, "what was used needs no second proof: %v", r.Doubts)
}

// A client that asks again and again is accused of what is left when some of it
// is explained, with records that show it.
func TestManyLookups(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	tape := started()
	for i := range 100 {
		tape.query("quay.io", found, c1, at(10+i*10))
	}
	tape.conn("quay.io", ok, c1, at(500), lasted(480*time.Second)).stop(at(2000))
	told := only(tape.report(o), Bypass)
	require.Len(t, told, 1)
	require.Equal(t, []uint64{102}, told[0].Evidence, "the last one is kept beside the first ones")
	require.Contains(t, told[0].Text, "confidence: certain")
}

// A look-up of more clients at a time than can be followed accuses nobody and
// clears nothing.
func TestTooManySuspects(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	tape := started().conn("jobs.example.org", ok, c1)
	for i := range maxMarked + 10 {
		tape.query("quay.io", found, client(fmt.Sprintf("10.2.%d.%d:5", i/256, i%256)), at(10))
	}
	for i := range maxMarked + 10 {
		tape.conn("jobs.example.org", ok, client(fmt.Sprintf("10.2.%d.%d:5", i/256, i%256)), at(11), to(quay1+":443"))
	}
	r := tape.stop(late).report(o)
	require.Empty(t, only(r, Bypass))
	require.Contains(t, strings.Join(r.BlindSpots, "\n"), "is not told in full for quay.io")
	require.Equal(t, Resolved, r.Endpoints[0].Status, "whether those that were not followed are explained is unknown")
}

// Coalescing leaves a word.
func TestCoalescedNamesAreTold(t *testing.T) {
	r := started().conn("jobs.example.org", ok, c1, to(quay1+":443")).query("quay.io", found, c1).stop(late).report(Options{Catalogs: []*policy.Catalog{small}})
	require.Contains(t, strings.Join(r.BlindSpots, "\n"), "1 name was looked up by clients with a connection to the same address, which may have served for both: quay.io")
}

// A bare address that DNS gave a name is counted for that name.
func TestBareAddressWithANameCounts(t *testing.T) {
	byDNS := func(r *policy.Record) {
		r.Asked, r.Resolved, r.Name, r.NameFrom, r.SNIState = quay1, "quay.io", "quay.io", policy.FromDNS, policy.SNIAbsent
	}
	r := heard(2).query("quay.io", found, c1).conn(quay1, ok, c1, to(quay1+":443"), byDNS).stop(late).report(Options{Catalogs: []*policy.Catalog{small}})
	require.Equal(t, Used, r.Endpoints[0].Status)
	require.Empty(t, r.Unlisted)
	require.Empty(t, r.Findings)
	require.Equal(t, Clear, r.Verdict)
}

// Addresses that no look-up gave.
func TestHardcodedAddress(t *testing.T) {
	const bare = "198.51.100.7"
	asks := func() *tape { return started().dns().conn("quay.io", ok, c1).query("quay.io", found, c1) }
	for _, row := range []struct {
		why  string
		tape *tape
		opt  Options
		want string
	}{
		{"asked for by CONNECT", asks().conn(bare, ok, c1), Options{}, "10.1.0.1 connected to 198.51.100.7:443, once|confidence: likely"},
		{"captured, and named by its ClientHello", asks().conn("quay.io", ok, took, c1, to(bare+":443")), Options{}, "198.51.100.7:443 (as quay.io)|confidence: likely"},
		{"by a client that never asks us", asks().conn(bare, ok, c2), Options{}, "10.1.0.2 connected|confidence: guess"},
		{"a look-up gave it", asks().query("other.example", answers(bare), c2).conn(bare, ok, c1), Options{}, ""},
		{"a look-up gave it later", asks().conn(bare, ok, c1).query("other.example", answers("203.0.113.1", bare), c2), Options{}, ""},
		{"a service record gave it", asks().query("other.example", answers(`1 . alpn="h3" ipv4hint="203.0.113.1,198.51.100.7"`), qtype("HTTPS"), c2).conn(bare, ok, c1), Options{}, ""},
		{"we resolved the name", asks().conn("quay.io", ok, c1, to(bare+":443")), Options{}, ""},
		{"captured on the way to a parent", asks().parent("http://p:1").conn("quay.io", ok, took, c1, to(bare+":443")), Options{}, ""},
		{"NO_PROXY covers it", asks().conn(bare, ok, c1), Options{NoProxy: []string{"198.51.100.0/24"}}, ""},
		{"inside the cluster", asks().conn("10.96.0.1", ok, c1), Options{}, ""},
		{"our guard refused it", asks().conn(bare, denied(policy.DestinationProhibited), c1), Options{}, ""},
		{"a canary", asks().conn(bare, ok, c1, origin(policy.OriginCanary)), Options{}, ""},
		{"listed as an address", asks().conn("192.0.2.50", ok, c1), Options{}, ""},
		{"no forwarder listened", started().conn("quay.io", ok, c1).query("quay.io", found, c1).conn(bare, ok, c1), Options{}, ""},
		{"nobody asked the forwarder", started().dns().conn("quay.io", ok, c1).conn(bare, ok, c1), Options{}, ""},
	} {
		t.Run(row.why, func(t *testing.T) {
			row.opt.Catalogs = []*policy.Catalog{small, cat("addresses", "a x 192.0.2.50")}
			told := only(row.tape.stop(late).report(row.opt), HardcodedAddress)
			if row.want == "" {
				require.Empty(t, told)
				return
			}
			require.Len(t, told, 1)
			for _, w := range strings.Split(row.want, "|") {
				require.Contains(t, told[0].Text, w)
			}
			require.NotEmpty(t, told[0].Evidence)
		})
	}
}

// What DNS offers that hides something is a blind spot.
func TestOffersInDNS(t *testing.T) {
	https := func(name string, facts ...any) *tape {
		return started().dns().conn("quay.io", ok).query(name, answers("1 ."), qtype("HTTPS"), detail(facts...)).stop()
	}
	for _, row := range []struct {
		why  string
		tape *tape
		want string
	}{
		{"HTTP/3", https("quay.io", "alpn", []any{"h2", "h3"}), "1 name offers HTTP/3 in DNS"},
		{"HTTP/3, as a sensor tells it", https("quay.io", "alpn", []string{"h3-29"}), "1 name offers HTTP/3 in DNS"},
		{"ECH", https("quay.io", "ech", true), "1 name offers keys for Encrypted ClientHello in DNS"},
		{"ECH that could not be taken out", https("quay.io", "ech", true, "ech_stripped", false), "1 name offers keys for Encrypted ClientHello in DNS"},
		{"ECH that was taken out", https("quay.io", "ech", true, "ech_stripped", true), "--strip-ech took the keys for Encrypted ClientHello out of the answers for 1 name"},
	} {
		spots := strings.Join(row.tape.report(Options{Catalogs: []*policy.Catalog{small}}).BlindSpots, "\n")
		require.Contains(t, spots, row.want, row.why)
		require.Equal(t, 1, strings.Count(spots, "ClientHello")+strings.Count(spots, "HTTP/3 in DNS"), row.why)
	}
	none := https("quay.io", "alpn", []any{"h2"}).report(Options{Catalogs: []*policy.Catalog{small}}).BlindSpots
	require.NotContains(t, strings.Join(none, "\n"), "in DNS:")
}
