package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// canaryDomain is where canaries live.
const canaryDomain = "canary.egressaudit.invalid"

// maxWords bounds the lists of phases, reasons and the like.
const maxWords = 64

// trial is what the records say of the recording itself.
type trial struct {
	name       string
	vantages   []string
	unplaced   bool // a record has no vantage
	blurred    bool // one has a vantage that is not among them, for they are many, or it is long
	started    time.Time
	latest     time.Time
	stopped    time.Time // last
	endless    bool      // another ledger follows one without a stop
	phases     []string
	marks      []Phase
	versions   []string
	regions    []string
	ledgers    []string
	noProxy    []string
	told       []string // blind spots that the recording tells of itself
	listeners  []string
	child      *int
	source     int     // whose records come
	session    session // of the source
	sessions   int
	stretch    *stretch          // of the session
	aside      map[int]recording // of the other ledgers
	pauses     int               // sessions that ended, and another began later in the same ledger
	killed     int               // sessions that a start ended
	canaryless []string          // where an announced canary was not seen
	damages    []string
	moreDamage int
	lost       uint64
	lostWhy    []string
}

// stretch is a time of recording without a break: a session, with those that
// renew it.
type stretch struct {
	latest time.Time // record
}

// session is the time from a start to its stop.
type session struct {
	running   bool
	ledger    string
	dns       bool // a forwarder listened
	parent    string
	canary    string
	listeners map[string]int // socket → how many
	canaries  map[string]int // socket → connections and look-ups seen
}

// common takes from a record what all kinds have.
func (t *trial) common(r *policy.Record) {
	if t.name == "" {
		t.name = keep(r.Trial)
	}
	t.place(r.Vantage)
	at := stamp(r.Time)
	if !at.IsZero() {
		widen(&t.started, &t.latest, at, at)
	}
	if r.Kind != policy.KindStart && at.After(t.stretch.latest) {
		t.stretch.latest = at
	}
}

// renews says whether the start r follows the last stop at once: recording went
// on, under other circumstances.
func (t *trial) renews(r *policy.Record) bool {
	return t.resumes(r) && stamp(r.Time).Sub(t.stretch.latest).Abs() <= time.Second
}

// resumes says whether the start r goes on with the ledger of the last session,
// which had a stop.
func (t *trial) resumes(r *policy.Record) bool {
	return t.sessions > 0 && !t.session.running && r.Session != nil && short(r.Ledger) == t.session.ledger
}

func (t *trial) start(r *policy.Record) {
	if t.session.running {
		t.killed++
		t.endless = t.endless || r.Session != nil && short(r.Ledger) != t.session.ledger
		t.missing(&t.canaryless, t.session.demand(1))
	}
	if !t.renews(r) {
		t.pauses += bit(t.resumes(r))
		t.stretch = &stretch{stamp(r.Time)}
	}
	t.sessions++
	t.session = session{running: true, listeners: map[string]int{}, canaries: map[string]int{}}
	s := r.Session
	if s == nil {
		return
	}
	t.session.parent, t.session.ledger = keep(s.Parent), keep(s.Ledger)
	if n, err := policy.ParseName(s.Canary); err == nil {
		t.session.canary = keep(n.String())
	} else if s.Canary != "" {
		t.session.canary = keep(s.Canary) // never seen, then
	}
	for _, l := range s.Listeners {
		t.listeners = addWord(t.listeners, l)
		t.session.dns = t.session.dns || listenerKind(l) == "dns"
		if k := socket(l); k != "" {
			t.session.listeners[k]++
		}
	}
	t.take(s)
}

func (t *trial) stop(r *policy.Record) {
	if t.session.running {
		t.missing(&t.canaryless, t.session.demand(2))
	}
	t.session.running = false
	if at := stamp(r.Time); at.After(t.stopped) {
		t.stopped = at
	}
	if r.Session == nil {
		return
	}
	t.take(r.Session)
	if c := r.Session.ChildStatus; c != nil {
		status := *c
		t.child = &status
	}
}

// take keeps the circumstances that start and stop both tell.
func (t *trial) take(s *policy.Session) {
	t.ledgers = addWord(t.ledgers, s.Ledger)
	t.versions = addWord(t.versions, s.Version)
	for _, r := range s.Regions {
		t.regions = addWord(t.regions, r)
	}
	for _, b := range s.BlindSpots {
		t.told = addWord(t.told, b)
	}
	for _, n := range s.NoProxy {
		t.noProxy = addWord(t.noProxy, n)
	}
}

// ended is when the trial did; zero where a ledger has no end.
func (t *trial) ended() time.Time {
	if t.unended() > 0 {
		return time.Time{}
	}
	return t.stopped
}

// mark begins a phase, which may have begun before.
func (t *trial) mark(text string, at time.Time) {
	t.phases = addWord(t.phases, text)
	t.began(text, at)
}

// phase is that of an observation. One that no mark has told of, for that is
// lost, began at its first observation.
func (t *trial) phase(text string, at time.Time) {
	if n := len(t.phases); text != "" {
		if t.phases = addWord(t.phases, text); len(t.phases) > n {
			t.began(text, at)
		}
	}
}

func (t *trial) began(text string, at time.Time) {
	if at = stamp(at); text != "" && !at.IsZero() && len(t.marks) < maxWords {
		t.marks = append(t.marks, Phase{keep(text), at})
	}
}

func (t *trial) damage(err error) {
	if err == nil {
		return
	}
	if len(t.damages) >= maxWords {
		t.moreDamage++
		return
	}
	t.damages = addWord(t.damages, err.Error())
}

// place notes the vantage of a record.
func (t *trial) place(v string) {
	t.vantages = addWord(t.vantages, v)
	t.unplaced = t.unplaced || v == ""
	t.blurred = t.blurred || len(v) > maxText || v != "" && len(t.vantages) == maxWords && !slices.Contains(t.vantages, v)
}

// known takes an outcome that nobody knows for damage: it may be a failure.
func (t *trial) known(r *policy.Record) {
	switch r.Outcome {
	case policy.OK, policy.Failed, policy.Denied, policy.Abandoned, "":
	default:
		t.damage(fmt.Errorf("record %d has the unknown outcome %q", r.Seq, short(string(r.Outcome))))
	}
}

func (t *trial) lose(n uint64, why string) {
	if t.lost+n < t.lost {
		n = 0
	}
	t.lost += n
	t.lostWhy = addWord(t.lostWhy, why)
}

// canary takes s as a sign of life of a listener, where it is one. What only says a
// canary's name, and was not refused by us for it, is traffic.
func (t *trial) canary(s sight) bool {
	n, err := policy.ParseName(s.Name)
	if err != nil {
		n, err = policy.ParseName(s.Asked)
	}
	ours := err == nil && n.Within(canaryDomain)
	if s.Origin != policy.OriginCanary && (!ours || s.Outcome != policy.Denied) {
		return false
	}
	if c := &t.session; c.running && c.canary != "" && said(s, c.canary) {
		c.canaries[c.through(s)]++
	}
	return true
}

// through is the socket that a canary came by. A look-up asks for two families,
// and is one canary: that is its question of type A.
func (c *session) through(s sight) string {
	kind, transport := carries(s.Listener), ""
	switch {
	case s.kind == policy.KindQuery && s.Type != "A":
		return ""
	case s.kind == policy.KindQuery:
		kind, transport = "dns", s.Transport
	case s.Protocol == "quic":
		transport = "udp"
	}
	if by := kind + "/" + transport; c.listeners[by] > 0 {
		return by
	}
	return kind
}

// said says whether name is what s was about.
func said(s sight, name string) bool {
	for _, text := range []string{s.Name, s.Asked, s.SNI, s.Host} {
		if n, err := policy.ParseName(text); err == nil && n.String() == name {
			return true
		}
	}
	return false
}

// demand lists the sockets through which fewer than times canaries a
// listener were seen. When each was is no matter: a recorder whose canary fails at
// the end records that as a loss.
func (s *session) demand(times int) []string {
	if s.canary == "" {
		return nil
	}
	var out []string
	total := 0
	for k, n := range s.listeners {
		total += n
		if seen := s.canaries[k]; seen < n*times {
			out = append(out, fmt.Sprintf("%s (%d of %d seen)", k, seen, n*times))
		}
	}
	slices.Sort(out)
	if total > 0 {
		return out
	}
	seen := 0
	for _, n := range s.canaries {
		seen += n
	}
	if seen < times {
		out = append(out, fmt.Sprintf("unnamed (%d of %d seen)", seen, times))
	}
	return out
}

func (t *trial) missing(to *[]string, what []string) {
	for _, w := range what {
		*to = addWord(*to, w)
	}
}

// listenerKind is the kind of "connect 127.0.0.1:3128".
func listenerKind(l string) string {
	kind, _, _ := strings.Cut(strings.TrimSpace(l), " ")
	return kind
}

// socket is what carries tells of a listener such as "dns 10.0.0.5:53/udp", with
// the transport where one is named.
func socket(listener string) string {
	k := carries(listenerKind(listener))
	if i := strings.LastIndexByte(listener, '/'); k != "" && (listener[i+1:] == "udp" || listener[i+1:] == "tcp") {
		k += listener[i:]
	}
	return k
}

// carries is the socket that a listener's connections come through: CONNECT and
// absolute-form arrive at the same one. It is "" for listeners that carry nothing
// to destinations.
func carries(kind string) string {
	switch kind {
	case "connect", "http", "proxy":
		return "proxy"
	case "redirect", "tproxy", "dns":
		return kind
	}
	return ""
}

// addWord appends s to a short list of distinct texts.
func addWord(list []string, s string) []string {
	if s == "" || len(list) >= maxWords {
		return list
	}
	if slices.Contains(list, short(s)) {
		return list
	}
	return append(list, keep(s))
}
