package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy/hello"
)

// probeTimeout is how long a handshake of our own may take.
const probeTimeout = 10 * time.Second

// maxProbes bounds how many hosts are probed in one run.
const maxProbes = 1024

// prober sees who signed a host's certificate, by one handshake of our own for
// each host and port that a client reached. TLS 1.3 hides the certificate from
// whoever only watches.
type prober struct {
	p     *Proxy
	mode  ProbeMode
	roots *x509.CertPool

	mu     sync.Mutex
	seen   map[probeTarget]*probe
	passed map[passing]*probe // chains of TLS 1.2 that went by
}

// passing is a chain that was shown for a name.
type passing struct {
	sni   string
	chain [sha256.Size]byte
}

type probeTarget struct {
	name   policy.Name // dialled
	port   uint16
	sni    string // "" says none, and takes a certificate for any name
	open   bool   // a captured client went there: private addresses are no secret to it
	direct bool   // and around the parent, which may show a certificate of its own
}

// probe is what one handshake showed.
type probe struct {
	once    sync.Once      // makes the handshake
	judged  sync.WaitGroup // until a chain that went by is judged
	issuer  string         // "" where no certificate was seen
	spki    string         // SHA-256 of the leaf's public key, hex
	trusted bool           // signed by somebody the public trusts, for that name
	why     string         // why not
}

func newProber(p *Proxy, mode ProbeMode, roots *x509.CertPool) *prober {
	if roots == nil {
		mode = ProbeNever
	}
	return &prober{p: p, mode: mode, roots: roots, seen: map[probeTarget]*probe{}, passed: map[passing]*probe{}}
}

// wants says whether a tunnel's certificate is worth a handshake: the client
// refused it or may have, or the endpoint answered and must not be inspected.
func (b *prober) wants(t *tunnel) bool {
	refused := t.o.Error == policy.TLSAlertReceived && t.o.By == policy.ByClient
	answered := t.o.Outcome == policy.OK && t.isTLS()
	switch b.mode {
	case ProbeSuspect:
		return refused || answered && (t.mute() || t.sensitive())
	case ProbeAlways:
		return refused || answered
	}
	return false
}

// look returns what the handshake with the target showed, making it when it was
// not made yet; nil where none is to be made.
func (b *prober) look(t probeTarget) *probe {
	b.mu.Lock()
	one, ok := b.seen[t]
	if !ok && len(b.seen) < maxProbes && b.p.life.Err() == nil {
		one = &probe{}
		b.seen[t] = one
	}
	b.mu.Unlock()
	if one != nil {
		one.once.Do(func() { b.shake(t, one) })
	}
	return one
}

// shake makes the handshake, and its record.
func (b *prober) shake(t probeTarget, into *probe) {
	o := b.p.begin(policy.KindConnection, "connect", addrOf(nil))
	o.Origin, o.Asked, o.Port, o.Protocol, o.SNI = policy.OriginProbe, t.name.String(), t.port, "tls", t.sni
	if o.SNIState = policy.SNIPresent; t.sni == "" {
		o.SNIState = policy.SNIAbsent
	}
	listed := b.p.name(&o, t.name, policy.FromAsked)
	defer b.p.record(&o)
	r := b.p.open(&o, aim{name: t.name, port: t.port, listed: listed || t.open, direct: t.direct})
	if r.conn == nil {
		return
	}
	defer r.conn.Close()
	ctx, cancel := context.WithTimeout(b.p.life, probeTimeout)
	defer cancel()
	c := tls.Client(&claimed{TCPConn: r.conn, pending: r.pending}, &tls.Config{
		ServerName: t.sni, InsecureSkipVerify: true, // the certificate is looked at, nothing is sent
		NextProtos: []string{"h2", "http/1.1"},
		VerifyConnection: func(s tls.ConnectionState) error {
			b.judge(s.PeerCertificates, t.sni, into)
			return nil
		},
	})
	if err := c.HandshakeContext(ctx); err != nil && into.issuer == "" {
		fail(&o, failed(policy.StageHandshake, policy.ConnectionTerminated, policy.ByNetwork, policy.Guess), detail{"close": ending(err)})
		return
	}
	o.Verdict = okVerdict
	o.TLSVersion = tlsVersion(c.ConnectionState().Version)
	into.note(&o)
	note(&o, detail{"trusted": into.trusted})
}

// pass takes a chain that went by in the clear, and returns what it shows; that is
// found out beside the connection, once for each chain and name. nil: unknown.
func (b *prober) pass(chain [][]byte, sni string) *probe {
	if b.roots == nil {
		return nil
	}
	h := sha256.New()
	for _, c := range chain {
		h.Write(c)
	}
	key := passing{sni: sni, chain: [sha256.Size]byte(h.Sum(nil))}
	b.mu.Lock()
	defer b.mu.Unlock()
	one, ok := b.passed[key]
	if !ok && len(b.passed) < maxProbes {
		one = &probe{}
		b.passed[key] = one
		one.judged.Add(1)
		go b.judgeRaw(chain, sni, one)
	}
	return one
}

func (b *prober) judgeRaw(chain [][]byte, sni string, into *probe) {
	defer into.judged.Done()
	var certs []*x509.Certificate
	for _, raw := range chain {
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			return
		}
		certs = append(certs, c)
	}
	b.judge(certs, sni, into)
}

// judge verifies a chain for the name against the public's roots; any name will
// do for "".
func (b *prober) judge(chain []*x509.Certificate, name string, into *probe) {
	leaf := chain[0]
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	into.issuer, into.spki = printable(leaf.Issuer.String()), hex.EncodeToString(sum[:])
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: b.roots, Intermediates: between, DNSName: name})
	into.trusted = err == nil
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		into.why = unknownAuthority
	case errors.As(err, &host):
		into.why = "other_name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		into.why = "expired"
	case err != nil:
		into.why = "invalid"
	}
}

// unknownAuthority is why a certificate counts as an inspecting device's.
const unknownAuthority = "unknown_authority"

// note writes the evidence into o.
func (r *probe) note(o *policy.Observation) {
	note(o, detail{"issuer": r.issuer, "spki_sha256": r.spki})
	if r.why != "" {
		note(o, detail{"certificate": r.why})
	}
}

// inspect completes a tunnel's verdict by who signed the certificate.
func (t *tunnel) inspect() {
	o := &t.o
	if t.barred || o.Origin != policy.OriginClient {
		return
	}
	seen := t.certificate()
	if seen == nil || seen.issuer == "" {
		return
	}
	if seen.trusted {
		if o.Outcome != policy.OK { // the client's own reasons
			seen.note(o)
			note(o, detail{"trusted": true})
		}
		return
	}
	if o.Outcome == policy.OK && !t.mute() && seen.why != unknownAuthority {
		return // a client that takes an old certificate knows why
	}
	seen.note(o)
	if o.Outcome == policy.OK && t.mute() {
		o.Verdict = failed(policy.StageHandshake, policy.TLSAlertReceived, policy.ByClient, policy.Likely)
	}
	if o.Outcome == policy.Failed && seen.why == unknownAuthority {
		o.Error, o.By = policy.TLSIntercepted, policy.ByNetwork
		if t.route.suspect {
			t.p.blameResolver(o)
		}
	}
}

// certificate is what is known of the destination's: seen in passing, or by a
// handshake of our own where one is wanted; nil for nothing.
func (t *tunnel) certificate() *probe {
	if t.passed != nil {
		t.passed.judged.Wait()
		if t.passed.issuer != "" {
			return t.passed
		}
	}
	if !t.p.prober.wants(t) {
		return nil
	}
	return t.p.prober.look(probeTarget{t.name, t.o.Port, t.wanted(), t.captured(), t.captured() && t.route.parent == nil})
}

// wanted is the name that the certificate must be for; "" where any will do, for
// nobody knows what a captured client that says none expects.
func (t *tunnel) wanted() string {
	if sni, err := policy.ParseName(t.hello.ServerName); err == nil {
		return sni.String()
	}
	if t.captured() {
		return ""
	}
	return t.name.String()
}

// mute says that the client answered the handshake and left without a word: so
// do GnuTLS's clients when they refuse the certificate.
func (t *tunnel) mute() bool {
	return t.shake.Stage() == hello.Finished && !t.shake.Spoke() && (t.shake.Parted() || t.ended == clientSide)
}

// sensitive says whether an endpoint met must not be inspected.
func (t *tunnel) sensitive() bool {
	n, err := policy.ParseName(t.o.Name)
	if err != nil {
		return false
	}
	for _, e := range t.p.index.Load().Best(nil, n, t.o.Port) {
		if e.Requirement.Wants(policy.NeedNoTLSInspection) {
			return true
		}
	}
	return false
}
