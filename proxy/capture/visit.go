package capture

import (
	"bytes"
	"fmt"
	"maps"
	"syscall"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy/hello"
)

// visit is one connection of a client, as far as its name tells it from others:
// what one observation is about.
type visit struct {
	observed policy.Observation
	read     Initials
	held     [][]byte // datagrams that wait for the verdict
	born     time.Time

	heldBytes int
	judged    bool
	allowed   bool
	opened    bool // an open record was made
	recorded  bool // the last record was made
	done      bool // the server's handshake was taken by the client

	first    time.Time // a datagram passed
	asking   time.Time // the first one behind the server's last
	asks     int       // those, in number
	insisted time.Time // the last of them
	answered time.Time // the server's first datagram
	answer   AnswerKind
	code     uint64   // of a CONNECTION_CLOSE
	serverID [][]byte // what the client calls the server, the newest last
	up, down int64
	why      string // it ended
}

// maxOddName bounds a server name that is none.
const maxOddName = 255

// describe writes what the hello says.
func (v *visit) describe() { v.read.Describe(&v.observed) }

// Describe writes into o what the hello says, as far as it was read.
func (r *Initials) Describe(o *policy.Observation) {
	h := r.Hello()
	o.Protocol, o.ALPN = "other", h.ALPN
	if r.QUIC() {
		o.Protocol = "quic"
	}
	name, err := policy.ParseName(h.ServerName)
	if o.SNI = name.String(); err != nil {
		o.SNI = h.ServerName[:min(len(h.ServerName), maxOddName)]
	}
	o.SNIState = sniState(h)
}

func sniState(h hello.Hello) policy.SNIState {
	switch {
	case h.Protocol == hello.Other:
		return policy.SNINotTLS
	case h.ECH:
		return policy.SNIECH
	case h.ServerName != "":
		return policy.SNIPresent
	case h.Reason == hello.NoName:
		return policy.SNIAbsent
	}
	return policy.SNIUnparsed
}

// asked counts a datagram that the client sent on.
func (v *visit) asked(now time.Time) {
	if v.first.IsZero() {
		v.first = now
	}
	if v.asks++; v.asks == 1 {
		v.asking = now
	}
	v.insisted = now
}

// maxServerIDs bounds the connection IDs of a server that are remembered.
const maxServerIDs = 8

// known says whether a packet is addressed to a connection ID of the server's.
func (v *visit) known(p packet) bool {
	for i := len(v.serverID) - 1; i >= 0; i-- {
		if addressed(p, v.serverID[i]) {
			return true
		}
	}
	return false
}

// rank says how likely a visit is the one that a packet to an unknown connection
// ID belongs to.
func (v *visit) rank() int {
	switch {
	case v.answer == Greeted && !v.done:
		return 2
	case v.allowed:
		return 1
	}
	return 0
}

// sent takes note of a client's datagram that passed. One with 1-RTT packets says
// that the client has taken the server's handshake and its certificate: before, it
// has no keys for them (RFC 9001 section 5.7).
func (v *visit) sent(b []byte, now time.Time) {
	v.asked(now)
	v.up += int64(len(b))
	if v.answer != Greeted {
		return
	}
	for p, rest, ok := parsePacket(b); ok; p, rest, ok = parsePacket(rest) {
		const fixed = 0x40
		if p.typ == typeShort && p.raw[0]&fixed != 0 {
			v.done = true
			v.learn(p)
		}
	}
}

// learn remembers what a client calls its server in a short header; the server's
// connection IDs are of one length.
func (v *visit) learn(p packet) {
	n := 1 + len(v.serverID[0])
	if v.known(p) || len(p.raw) < n {
		return
	}
	if len(v.serverID) == maxServerIDs {
		v.serverID = v.serverID[1:]
	}
	v.serverID = append(v.serverID, bytes.Clone(p.raw[1:n]))
}

// received takes note of a server's datagram. Of what is no QUIC, any answers.
func (v *visit) received(b []byte, now time.Time) {
	v.down += int64(len(b))
	v.asks = 0
	if v.answered.IsZero() {
		v.answered = now
	}
	if !v.read.QUIC() {
		v.done = true
		return
	}
	if v.answer == Greeted {
		return
	}
	if a := v.read.Answer(b); a.Kind > v.answer {
		v.answer, v.code, v.serverID = a.Kind, a.Code, [][]byte{bytes.Clone(a.ConnID)}
	}
}

// record makes the last observation of a visit, once.
func (f *flow) record(v *visit) {
	if !v.recorded {
		v.recorded = true
		f.observe(v, v.observed)
	}
}

// interim makes an open one.
func (f *flow) interim(v *visit) {
	o := v.observed
	o.Open, v.opened = true, true
	f.observe(v, o)
}

func (f *flow) observe(v *visit, o policy.Observation) {
	o.Detail = maps.Clone(o.Detail)
	if o.Detail == nil {
		o.Detail = map[string]any{}
	}
	o.BytesUp, o.BytesDown = v.up, v.down
	o.DurationMS = f.last.Sub(o.Begun).Milliseconds()
	if !v.answered.IsZero() {
		o.FirstByteMS = v.answered.Sub(v.first).Milliseconds()
	}
	o.Decision = policy.Allow
	if !v.allowed {
		o.Decision, o.WouldDeny = policy.Deny, false
	} else {
		o.Verdict = f.conclude(v, o.Detail)
	}
	if v.read.QUIC() && v.read.Version() != 0 {
		o.Detail["quic_version"] = versionName(v.read.Version())
	}
	if v.answer == Greeted && readable(v.read.Version()) {
		o.TLSVersion = "1.3" // RFC 9001 section 4.2
	}
	f.relay.sink(&o)
}

func versionName(version uint32) string {
	switch version {
	case version1:
		return "1"
	case version2:
		return "2"
	}
	return fmt.Sprintf("0x%08x", version)
}

func failed(s policy.Stage, e policy.Error, by policy.By, c policy.Confidence) policy.Verdict {
	return policy.Verdict{Outcome: policy.Failed, Stage: s, Error: e, By: by, Confidence: c}
}

// conclude judges a visit that passed. That a flow ends for want of datagrams is
// the way of all of them.
func (f *flow) conclude(v *visit, d map[string]any) policy.Verdict {
	cut := v.why == drained
	if cut {
		d["why"] = v.why
	}
	switch {
	case v.done && cut:
		return policy.Verdict{Outcome: policy.OK, Stage: policy.StageData, Error: policy.ConnectionTerminated, By: policy.BySelf}
	case v.done:
		return policy.Verdict{Outcome: policy.OK, Stage: policy.StageData}
	case v.answer >= Closed:
		return f.greeted(v, d)
	case f.errno != nil:
		return unreachable(f.errno, d)
	}
	if v.answer != NoAnswer {
		d["reply"] = v.answer.String()
	}
	switch v.answer {
	case Junk:
		return failed(policy.StageHello, policy.NotTLSReply, policy.ByNetwork, policy.Likely)
	case Negotiation:
		return failed(policy.StageHello, policy.ConnectionTerminated, policy.ByOrigin, policy.Likely)
	}
	return f.silence(v, d, policy.StageHello)
}

// greeted judges a visit whose server answered, and then something went wrong.
func (f *flow) greeted(v *visit, d map[string]any) policy.Verdict {
	const cryptoError = 0x100 // and the alert, RFC 9001 section 4.8
	switch {
	case v.answer == Greeted:
		return f.silence(v, d, policy.StageHandshake)
	case v.code&^0xff == cryptoError:
		d["alert"] = hello.AlertName(uint8(v.code))
		return failed(policy.StageHello, policy.TLSAlertReceived, policy.ByOrigin, policy.Likely)
	}
	d["reply"], d["quic_error"] = v.answer.String(), int64(v.code)
	return failed(policy.StageHello, policy.ConnectionTerminated, policy.ByOrigin, policy.Likely)
}

// silence judges a visit by who spoke last. A server that is silent for long
// enough is so whatever the client does meanwhile: no end of a flow would keep its
// answer away. Of one datagram one cannot be sure, it may just have been lost; and
// behind the server's handshake the client must have insisted, for one that
// refuses the certificate takes its leave unseen, and the server rightly is silent.
func (f *flow) silence(v *visit, d map[string]any, s policy.Stage) policy.Verdict {
	limit, quiet := f.relay.limits.Answer, time.Since(v.asking)
	insists := s == policy.StageHello || v.insisted.Sub(v.asking) >= limit/5
	if v.asks == 0 || quiet < limit || !insists {
		by := policy.ByClient
		if v.why == drained {
			by = policy.BySelf
		}
		return policy.Verdict{Outcome: policy.Abandoned, Stage: s, By: by}
	}
	d["silent_ms"], d["datagrams"] = quiet.Milliseconds(), v.asks
	c := policy.Certain
	if v.asks == 1 {
		c = policy.Likely
	}
	return failed(s, policy.ConnectionReadTimeout, policy.ByNetwork, c)
}

// unreachable judges an ICMP message, or a way that could not be opened.
func unreachable(err error, d map[string]any) policy.Verdict {
	errno, _ := err.(syscall.Errno)
	d["errno"] = errnoName(errno)
	switch errno {
	case syscall.ECONNREFUSED:
		return failed(policy.StageConnect, policy.ConnectionRefused, policy.ByNetwork, policy.Certain)
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM:
		return failed(policy.StageConnect, policy.ProxyInternalError, policy.BySelf, policy.Certain)
	}
	return failed(policy.StageConnect, policy.DestinationUnroutable, policy.ByNetwork, policy.Certain)
}
