package report

import (
	"net/netip"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// epoch is when the trials of these tests begin.
var epoch = time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)

const canaryName = "c0ffee." + canaryDomain

// cat is a catalog of requirements written as
// "id scope host[,host] port [protocol] [flag...]".
func cat(name string, lines ...string) *policy.Catalog {
	c := &policy.Catalog{Name: name, Revision: "r1", Source: policy.Source{URL: "https://pages.example/" + name}, Digest: "sha256:0123456789abcdef"}
	for _, l := range lines {
		f := strings.Fields(l)
		r := &policy.Requirement{ID: f[0], Scope: f[1], Port: 443, Protocol: policy.HTTPS}
		for _, h := range strings.Split(f[2], ",") {
			r.Hosts = append(r.Hosts, policy.MustPattern(h))
		}
		for _, flag := range f[3:] {
			key, value, _ := strings.Cut(flag, "=")
			switch key {
			case "port":
				_, port, err := policy.ParseTarget("x:" + value)
				if err != nil {
					panic(err)
				}
				r.Port = port
			case "optional":
				r.Optional = true
			case "need":
				r.Needs = append(r.Needs, policy.Need(value))
			case "proto":
				r.Protocol = policy.Protocol(value)
			case "any_of":
				r.AnyOf = value
			case "from":
				r.From = day(value)
			case "until":
				r.Until = day(value)
			case "for":
				r.Purpose = strings.ReplaceAll(value, "_", " ")
			default:
				panic("unknown flag " + flag)
			}
		}
		c.Requirements = append(c.Requirements, r)
	}
	return c
}

func day(s string) time.Time {
	t, err := time.Parse("2006-01-02", s)
	if err != nil {
		panic(err)
	}
	return t
}

// tape is a ledger in the making. Each record is a second after the other.
type tape struct {
	records []*policy.Record
	vantage string
}

// mod changes an observation.
type mod func(*policy.Record)

func (t *tape) add(r *policy.Record, mods ...mod) *tape {
	r.Schema, r.Seq, r.Trial, r.Vantage = 1, uint64(len(t.records)+1), "install", t.vantage
	r.Time = epoch.Add(time.Duration(len(t.records)) * time.Second)
	for _, m := range mods {
		m(r)
	}
	t.records = append(t.records, r)
	return t
}

// quiet is a trial with a start and nothing else.
func quiet() *tape {
	t := &tape{vantage: "pod"}
	return t.add(&policy.Record{Kind: policy.KindStart, Session: &policy.Session{Canary: canaryName, Listeners: []string{"connect 127.0.0.1:3128"}, Ledger: "11111111-2222-3333-4444-555555555555"}})
}

// started is a trial whose first canary was seen.
func started() *tape { return quiet().sing() }

// sing sends a canary.
func (t *tape) sing() *tape {
	return t.conn(canaryName, denied(policy.HTTPRequestDenied), origin(policy.OriginCanary), via("connect"))
}

// stop ends the trial as it should be.
func (t *tape) stop(mods ...mod) *tape { return t.sing().halt(mods...) }

// halt ends it without a canary.
func (t *tape) halt(mods ...mod) *tape {
	return t.add(&policy.Record{Kind: policy.KindStop, Session: &policy.Session{}}, mods...)
}

func (t *tape) conn(name string, mods ...mod) *tape {
	return t.observe(policy.KindConnection, name, mods)
}
func (t *tape) request(name string, mods ...mod) *tape {
	return t.observe(policy.KindRequest, name, mods)
}

func (t *tape) observe(k policy.Kind, name string, mods []mod) *tape {
	o := &policy.Observation{Origin: policy.OriginClient, Listener: "connect", Name: name, Asked: name, Port: 443, NameFrom: policy.FromAsked}
	return t.add(&policy.Record{Kind: k, Observation: o}, mods...)
}

func (t *tape) query(name string, mods ...mod) *tape {
	return t.add(&policy.Record{Kind: policy.KindQuery, Observation: &policy.Observation{Name: name, Type: "A"}}, mods...)
}

func (t *tape) mark(text string) *tape {
	return t.add(&policy.Record{Kind: policy.KindMark, Text: text})
}

// event is what befell a pod.
func (t *tape) event(workload, reason, text string, count int) *tape {
	return t.add(&policy.Record{Kind: policy.KindEvent, Observation: &policy.Observation{Workload: workload}, Reason: reason, Text: text, Count: count})
}

// pull is what the kubelet and containerd 1.7 say of a pull that failed.
func pull(image, url string) string {
	return `Failed to pull image "` + image + `": failed to pull and unpack image "` + image + `": failed to copy: httpReadSeeker: failed open: failed to do request: Get "` +
		url + `": dial tcp 203.0.113.20:443: i/o timeout`
}

func (t *tape) lost(n int, why string) *tape {
	return t.add(&policy.Record{Kind: policy.KindLost, Count: n, Why: why})
}

// report judges the tape.
func (t *tape) report(o Options) *Report {
	return Build(o, func(yield func(*policy.Record, error) bool) {
		for _, r := range t.records {
			if !yield(r, nil) {
				return
			}
		}
	})
}

// ok is an answer in the protocol.
func ok(r *policy.Record) {
	r.Verdict, r.BytesUp, r.BytesDown, r.Protocol, r.SNIState = policy.Verdict{Outcome: policy.OK}, 500, 4000, "tls", policy.SNIPresent
}

// fails is an attempt that failed.
func fails(s policy.Stage, e policy.Error, by policy.By, c policy.Confidence, facts ...any) mod {
	return func(r *policy.Record) {
		r.Verdict = policy.Verdict{Outcome: policy.Failed, Stage: s, Error: e, By: by, Confidence: c}
		r.Address = netip.MustParseAddrPort("203.0.113.9:443")
		detail(facts...)(r)
	}
}

// reset is the filter by server name that cuts.
var reset1 = fails(policy.StageHello, policy.ConnectionTerminated, policy.ByNetwork, policy.Certain, "close", "rst")

// dropped is the rule that drops.
var dropped = fails(policy.StageConnect, policy.ConnectionTimeout, policy.ByNetwork, policy.Certain)

func detail(facts ...any) mod {
	return func(r *policy.Record) {
		for i := 0; i < len(facts); i += 2 {
			if r.Detail == nil {
				r.Detail = map[string]any{}
			}
			r.Detail[facts[i].(string)] = facts[i+1]
		}
	}
}

func denied(e policy.Error) mod {
	return func(r *policy.Record) {
		r.Decision = policy.Deny
		r.Verdict = policy.Verdict{Outcome: policy.Denied, Stage: policy.StagePolicy, Error: e, By: policy.BySelf, Confidence: policy.Certain}
	}
}

// left is a client that went before the destination answered.
func left(r *policy.Record) {
	r.Verdict = policy.Verdict{Outcome: policy.Abandoned, Stage: policy.StageHello, By: policy.ByClient}
}

func origin(o policy.Origin) mod { return func(r *policy.Record) { r.Origin = o } }
func via(l string) mod           { return func(r *policy.Record) { r.Listener = l } }
func port(p uint16) mod          { return func(r *policy.Record) { r.Port = p } }
func sni(s string) mod           { return func(r *policy.Record) { r.SNI, r.SNIState = s, policy.SNIPresent } }
func client(a string) mod        { return func(r *policy.Record) { r.Client = netip.MustParseAddrPort(a) } }
func open(id string) mod         { return func(r *policy.Record) { r.ID, r.Open = id, true } }
func closes(id string) mod       { return func(r *policy.Record) { r.ID = id } }
func lasted(d time.Duration) mod { return func(r *policy.Record) { r.DurationMS = d.Milliseconds() } }
func from1(w string) mod         { return func(r *policy.Record) { r.Workload = w } }
func qtype(t string) mod         { return func(r *policy.Record) { r.Type = t } }

// answers is a look-up with success; without addresses it is NODATA.
func answers(list ...string) mod {
	return func(r *policy.Record) { r.Verdict.Outcome, r.RCode, r.Answers = policy.OK, "NOERROR", list }
}

// unanswered is a look-up that failed.
func unanswered(rcode string) mod {
	return func(r *policy.Record) {
		r.Verdict = policy.Verdict{Outcome: policy.Failed, Stage: policy.StageResolve, Error: policy.DNSError, By: policy.ByResolver, Confidence: policy.Likely}
		r.RCode = rcode
	}
}

// at sets the time, as seconds after the epoch.
func at(seconds int) mod {
	return func(r *policy.Record) { r.Time = epoch.Add(time.Duration(seconds) * time.Second) }
}

// late is when no window of a bypass is open any more.
var late = at(100)

// to is where a connection went.
func to(a string) mod {
	return func(r *policy.Record) { r.Address = netip.MustParseAddrPort(a) }
}

// silence is what follows the client's first bytes where a filter drops.
var silence = fails(policy.StageHello, policy.ConnectionReadTimeout, policy.ByNetwork, policy.Certain)

// parent makes the session go through a parent proxy.
func (t *tape) parent(url string) *tape {
	t.records[0].Parent = url
	return t
}

// times adds a connection n times.
func (t *tape) times(n int, name string, mods ...mod) *tape {
	for range n {
		t.conn(name, mods...)
	}
	return t
}

// rests is a tunnel that was ok, and that the far side ended after it was idle.
func (t *tape) rests(name, how string, seconds float64) *tape {
	return t.conn(name, ok, detail("close", how, "idle_ms", seconds*1000))
}
