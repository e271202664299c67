package proxy

import (
	"crypto/tls"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy/hello"
)

// recent is how fresh the last byte must be for a reset to count as one in the
// middle of data; on an idle tunnel it is a normal end.
const recent = 5 * time.Second

// oneSegment is what surely fits into one TCP segment. Firewalls that look at
// one packet drop larger hellos; that they are large is evidence.
const oneSegment = 1300

// describe writes what the first bytes said, and the counts, into o.
func (t *tunnel) describe(o *policy.Observation) {
	o.BytesUp, o.BytesDown = t.up.bytes.Load(), t.down.bytes.Load()
	if !t.answered.IsZero() {
		since := o.Begun
		if !t.first.IsZero() && t.first.Before(t.answered) {
			since = t.first
		}
		o.FirstByteMS = t.answered.Sub(since).Milliseconds()
	}
	h := t.hello
	if !t.parsed {
		h = t.parser.Hello()
	}
	o.ALPN = h.ALPN
	o.Protocol, o.SNIState = h.Protocol.String(), sniState(h)
	switch {
	case t.first.IsZero() && t.answered.IsZero():
		o.Protocol, o.SNIState = "none", policy.SNINotTLS
	case o.Protocol == "":
		o.Protocol = "other"
	}
	o.TLSVersion = tlsVersion(t.shake.Version())
	if t.isTLS() && t.helloSize > oneSegment {
		note(o, detail{"hello_bytes": t.helloSize})
	}
	t.rename(o, h)
	t.route.suspect = t.route.suspect || t.parsed && t.sunk(o)
	if t.astray {
		note(o, detail{"sni_elsewhere": true}) // DNS gave that name other addresses
	}
}

// tlsVersion is "1.2" for 0x0303, "" for 0.
func tlsVersion(v uint16) string {
	if v == 0 {
		return ""
	}
	return strings.TrimPrefix(tls.VersionName(v), "TLS ")
}

// maxOddName bounds a server name that is none.
const maxOddName = 255

func sniState(h hello.Hello) policy.SNIState {
	switch {
	case h.Protocol != hello.TLS:
		return policy.SNINotTLS
	case h.ECH:
		return policy.SNIECH
	case h.Reason == hello.None:
		return policy.SNIPresent
	case h.Reason == hello.NoName:
		return policy.SNIAbsent
	}
	return policy.SNIUnparsed
}

// rename takes the server name, or the HTTP host, as what is judged where the
// client asked for a bare address.
func (t *tunnel) rename(o *policy.Observation, h hello.Hello) {
	sni, err := policy.ParseName(h.ServerName)
	if o.SNI = sni.String(); err != nil {
		o.SNI = h.ServerName[:min(len(h.ServerName), maxOddName)]
	}
	if _, bare := t.name.Addr(); !bare {
		return
	}
	if host, err2 := hostName(h.Host); err == nil {
		t.p.name(o, sni, policy.FromSNI)
	} else if err2 == nil {
		t.p.name(o, host, policy.FromHost)
	}
}

// hostName reads a Host field: a name, and perhaps a port.
func hostName(s string) (policy.Name, error) {
	if n, _, err := policy.ParseTarget(s); err == nil {
		return n, nil
	}
	return policy.ParseName(s)
}

// conclude judges the tunnel from what went by so far.
func (t *tunnel) conclude(o *policy.Observation) {
	switch {
	case t.barred:
		return
	case t.answeredInProtocol():
		t.concludeAnswered(o)
		return
	}
	var d detail
	o.Verdict, d = t.unanswered()
	note(o, d)
	if o.Outcome != policy.Failed {
		return
	}
	if t.route.suspect && o.By != policy.ByClient {
		t.p.blameResolver(o)
	}
	if t.route.parent != nil && o.Confidence == policy.Certain {
		o.Confidence = policy.Likely // it may have been the parent as well
	}
}

// concludeAnswered judges a tunnel whose destination is reached beyond doubt: it
// can still be cut in the middle of its data.
func (t *tunnel) concludeAnswered(o *policy.Observation) {
	o.Verdict = okVerdict
	switch {
	case t.ended == serverSide && t.how == closeRST && t.partedTLS():
		// The destination had taken its leave: a system resets instead of ending where
		// the client's own close_notify arrived unread.
	case t.ended == serverSide && t.how != closeFIN && t.quiet <= recent, t.short() && !t.blocked(o):
		o.Verdict = failed(policy.StageData, policy.ConnectionTerminated, policy.ByNetwork, policy.Certain)
		note(o, detail{"close": t.how, "idle_ms": t.quiet.Milliseconds()})
		if t.route.parent != nil {
			o.Confidence = policy.Likely
		}
	case t.ended == serverSide && t.quiet > recent:
		note(o, detail{"close": t.how, "idle_ms": t.quiet.Milliseconds()}) // one is normal, many at the same time are a device
	case t.isHTTP() && t.blocked(o):
	case t.why != "":
		o.Error, o.By = policy.ConnectionTerminated, policy.BySelf
		note(o, detail{"why": t.why, "idle_ms": t.idle().Milliseconds()})
	}
}

// short says that a plain HTTP destination ended before a reply that it had begun.
func (t *tunnel) short() bool {
	return t.isHTTP() && t.ended == serverSide && t.talk != nil && t.talk.Short()
}

// partedTLS says that the destination's last bytes were its close_notify.
func (t *tunnel) partedTLS() bool {
	v := max(t.shake.Version(), tls.VersionTLS12)
	return t.isTLS() && t.down.parting.Load() == uint32(min(v, tls.VersionTLS13))
}

// blocked says whether a device's page came instead of the plain-HTTP origin, and
// judges that.
func (t *tunnel) blocked(o *policy.Observation) bool {
	r := t.reply.Reply()
	mark := r.Mark
	if lower := strings.ToLower(mark); !strings.HasPrefix(lower, "x-squid-error") && !marked(lower) {
		mark = ""
	}
	c, d := t.p.blockPage(page{r.Status, r.Server, mark, r.Location}, o.Name)
	if c == "" {
		return false
	}
	o.Verdict = failed(policy.StageData, policy.HTTPBlockPage, policy.ByNetwork, c)
	note(o, d)
	if t.route.suspect {
		t.p.blameResolver(o)
	}
	return true
}

// unanswered judges a tunnel whose destination gave no answer in its protocol.
func (t *tunnel) unanswered() (policy.Verdict, detail) {
	if v, d := t.badAnswer(); v.Outcome != "" {
		return v, d
	}
	stage := t.stage()
	d := detail{}
	if t.ended != nobody {
		d["idle_ms"] = t.quiet.Milliseconds()
	}
	if t.why != "" {
		d["why"] = t.why
	}
	if t.how != "" {
		d["close"] = t.how
	}
	switch {
	case t.silence() >= t.p.limits.AnswerTimeout: // whoever had enough of it
		d["silent_ms"] = t.silence().Milliseconds()
		return failed(stage, policy.ConnectionReadTimeout, policy.ByNetwork, policy.Certain), d
	case t.ended == serverSide:
		return failed(stage, policy.ConnectionTerminated, policy.ByNetwork, policy.Certain), d
	}
	v := abandoned(stage)
	if t.why != "" {
		v.By = policy.BySelf
	}
	return v, d
}

// badAnswer judges an answer that says no by itself.
func (t *tunnel) badAnswer() (policy.Verdict, detail) {
	if !t.isTLS() {
		return policy.Verdict{}, nil
	}
	d := detail{}
	if name, ok := t.shake.Alert(); ok {
		d["alert"] = name
	}
	switch t.shake.Stage() {
	case hello.NotTLSReply:
		r := t.reply.Reply()
		for key, v := range map[string]string{"server": r.Server, "reply": r.Class} {
			if v != "" {
				d[key] = v
			}
		}
		if r.Status != 0 {
			d["status"], d["reply"] = r.Status, "http"
		}
		return failed(policy.StageHello, policy.NotTLSReply, policy.ByNetwork, policy.Certain), d
	case hello.ServerAlert:
		return failed(t.stage(), policy.TLSAlertReceived, policy.ByOrigin, policy.Likely), d
	case hello.ClientAlert:
		if t.ended == serverSide && t.shook != hello.ClientAlert {
			return policy.Verdict{}, nil // OpenSSL complains so when it is cut off
		}
		c := policy.Certain
		if t.shake.ClientShort() {
			d["alert"], c = "encrypted", policy.Likely
		}
		return failed(policy.StageHandshake, policy.TLSAlertReceived, policy.ByClient, c), d
	}
	return policy.Verdict{}, nil
}

// stage is how far a connection got that was not answered in its protocol.
func (t *tunnel) stage() policy.Stage {
	switch {
	case t.first.IsZero():
		return policy.StageConnect
	case t.isTLS() && t.shake.Version() != 0:
		return policy.StageHandshake
	}
	return policy.StageHello
}
