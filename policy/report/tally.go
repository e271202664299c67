package report

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

const (
	maxEvidence  = 10
	maxWorkloads = 16
)

// evidence are the first records that show something, and how many there are.
type evidence struct {
	seqs []uint64
	n    int
}

func (e *evidence) add(seq uint64) {
	e.n++
	if len(e.seqs) < maxEvidence {
		e.seqs = append(e.seqs, seq)
	}
}

// moment orders attempts: by when they began, and within a millisecond, which is
// as fine as a duration is recorded, by the number in their ID, and then by their
// place in the ledger.
type moment struct {
	begun   time.Time
	ordinal uint64
	seq     uint64
}

func (m moment) after(o moment) bool {
	return order(m, o) > 0
}

// tally is what is remembered of the connections to one destination.
type tally struct {
	ok, failed, denied, guarded, abandoned int

	first, last         time.Time // of all
	failFirst, failLast time.Time // of those that failed
	denyFirst, denyLast time.Time // of those that were denied, and of QUIC flows that failed
	up, down            int64
	workloads           []string

	newest   moment // the last attempt that was ok or failed
	newestOK bool
	overQUIC bool // the newest one, for none was by TCP
	lastFail *failure
	bestFail *failure // the last one of the greatest confidence
	lastDeny *failure

	actions int        // bursts of failures: retries of one action count once
	client  netip.Addr // of the first failure
	several bool       // others failed, too
	traces

	issuer     string // of a certificate that the public does not trust, and that a client accepted
	seen       evidence
	failures   evidence
	intercepts evidence
}

// enter counts an attempt at this destination.
func (d *destination) enter(s sight) {
	d.lane.add(s.begun, s.beat())
	d.tally.add(s)
}

func (t *tally) add(s sight) {
	t.seen.add(s.seq)
	widen(&t.first, &t.last, s.begun, s.at)
	t.up = sum(t.up, s.BytesUp)
	t.down = sum(t.down, s.BytesDown)
	if w := s.Workload; w != "" && len(t.workloads) < maxWorkloads && !slices.Contains(t.workloads, short(w)) {
		t.workloads = append(t.workloads, keep(w))
	}
	switch s.Outcome {
	case policy.OK:
		t.ok++
		t.attempt(s, true)
		t.inspect(s)
		t.traces.add(s)
	case policy.Failed:
		if s.Protocol == "quic" { // clients turn to TCP, and that is what counts
			t.deny(s)
			return
		}
		t.failed++
		t.attempt(s, false)
		t.fail(s)
		t.traces.add(s)
	case policy.Denied:
		if guardDenial(s) {
			t.guarded++
		}
		t.deny(s)
	default: // abandoned, and what a later version may call otherwise: no evidence
		t.abandoned++
	}
}

// deny enters one that counts only where there is nothing else.
func (t *tally) deny(s sight) {
	t.denied++
	widen(&t.denyFirst, &t.denyLast, s.begun, s.at)
	if t.lastDeny == nil || s.moment().after(t.lastDeny.moment) {
		t.lastDeny = newFailure(s)
	}
}

// attempt enters one that counts. TCP counts before QUIC: rules let pass the one
// or the other, and catalogs ask for TCP.
func (t *tally) attempt(s sight, ok bool) {
	m, quic := s.moment(), s.Protocol == "quic"
	if t.ok+t.failed == 1 || t.overQUIC && !quic || t.overQUIC == quic && m.after(t.newest) {
		t.newest, t.newestOK, t.overQUIC = m, ok, quic
	}
}

// pause is how long a client waits at most between two tries of one action.
const pause = 10 * time.Second

func (t *tally) fail(s sight) {
	if t.failures.n == 0 || s.begun.After(t.failLast.Add(pause)) {
		t.actions++
	}
	if t.failures.n == 0 {
		t.client = s.Client.Addr()
	}
	t.several = t.several || t.client != s.Client.Addr()
	t.failures.add(s.seq)
	widen(&t.failFirst, &t.failLast, s.begun, s.at)
	last := t.lastFail == nil || s.moment().after(t.lastFail.moment)
	best := t.bestFail == nil || rank(s.Confidence) > rank(t.bestFail.Confidence) ||
		rank(s.Confidence) == rank(t.bestFail.Confidence) && s.moment().after(t.bestFail.moment)
	if !last && !best {
		return
	}
	f := newFailure(s)
	if last {
		t.lastFail = f
	}
	if best {
		t.bestFail = f
	}
}

// inspect notes a certificate that the public does not trust: that is what the
// issuer of a connection that was ok means, unless it is called trusted.
func (t *tally) inspect(s sight) {
	if issuer := fact(s.Detail, "issuer"); issuer != "" && s.Detail["trusted"] != true {
		if t.issuer == "" {
			t.issuer = keep(issuer)
		}
		t.intercepts.add(s.seq)
	}
}

// telling is the failure to report: the last one, unless that is a guess and
// another was surer.
func (t *tally) telling() *failure {
	if t.lastFail != nil && rank(t.lastFail.Confidence) <= rank(policy.Guess) {
		return t.bestFail
	}
	return t.lastFail
}

func (s sight) moment() moment { return moment{s.begun, ordinal(s.ID), s.seq} }

// ordinal is the number at the end of a connection's ID, which proxies count up
// as connections begin; 0 where there is none.
func ordinal(id string) (n uint64) {
	for _, c := range id[strings.LastIndexByte(id, '-')+1:] {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}

func rank(c policy.Confidence) int {
	return 1 + slices.Index([]policy.Confidence{policy.Guess, policy.Likely, policy.Certain}, c)
}

// widen makes first and last hold from and to.
func widen(first, last *time.Time, from, to time.Time) {
	if first.IsZero() || from.Before(*first) {
		*first = from
	}
	if to.After(*last) {
		*last = to
	}
}

// sum adds what a record claims; negative numbers and overflow are lies.
func sum(a, b int64) int64 {
	if b < 0 {
		return a
	}
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// failure is an attempt that did not work, kept for cause and ask.
type failure struct {
	policy.Verdict
	moment
	detail   map[string]any
	parent   string
	address  netip.AddrPort
	upstream string
}

// aboutClient are the details that tell who it was, and not what happened.
var aboutClient = []string{"owner", "service_account", "held_ms"}

func newFailure(s sight) *failure {
	f := &failure{moment: s.moment(), parent: s.parent, upstream: keep(s.Upstream), address: s.Address}
	f.Verdict = keepVerdict(s.Verdict)
	f.detail = keepDetail(s.Detail)
	for _, about := range aboutClient {
		delete(f.detail, about)
	}
	if f.Stage == "" && s.kind == policy.KindQuery {
		f.Stage = policy.StageResolve
	}
	if s.RCode != "" && f.Stage == policy.StageResolve && f.detail["rcode"] == nil && s.RCode != "NOERROR" {
		if f.detail == nil {
			f.detail = map[string]any{}
		}
		f.detail["rcode"] = keep(s.RCode)
	}
	return f
}
