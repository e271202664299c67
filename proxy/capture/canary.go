package capture

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// minInitial is how long a client's first datagram is at least (RFC 9000 section
// 14.1).
const minInitial = 1200

// Canary is a client's first QUIC datagram that asks for a server name: what the
// trial says to its own listener, as a sign of life (Config.Canary).
func Canary(name policy.Name) ([]byte, error) {
	hello, err := quicHello(name.String())
	if err != nil {
		return nil, err
	}
	id := make([]byte, 8)
	rand.Read(id)                                        // never fails
	b := append(header(nil, 0xc0, version1, id, nil), 0) // no token
	frames := appendVarint([]byte{frameCrypto, 0}, uint64(len(hello)))
	frames = append(frames, hello...)
	const behind = 2 + 1 + tagSize // length, packet number, tag
	frames = append(frames, make([]byte, max(0, minInitial-len(b)-behind-len(frames)))...)
	b = appendVarint(b, uint64(1+len(frames)+tagSize))
	return newKeys(version1, id).client.seal(append(b, 0), 1, frames), nil
}

// quicHello is the handshake message that begins a connection.
func quicHello(name string) ([]byte, error) {
	c := tls.QUICClient(&tls.QUICConfig{TLSConfig: &tls.Config{ServerName: name, MinVersion: tls.VersionTLS13}})
	defer c.Close()
	c.SetTransportParameters(nil)
	if err := c.Start(context.Background()); err != nil {
		return nil, err
	}
	for e := c.NextEvent(); e.Kind != tls.QUICNoEvent; e = c.NextEvent() {
		if e.Kind == tls.QUICWriteData {
			return e.Data, nil
		}
	}
	return nil, errors.New("crypto/tls makes no hello")
}

// stray counts a datagram that no rule had redirected. The trial's own sign of life
// is recorded, and goes no further.
func (r *Relay) stray(at path, b []byte) {
	r.strayed.Add(1)
	v := visit{observed: begin(at, time.Now())}
	if r.config.Canary.IsZero() || len(b) < minInitial || !v.read.Feed(b) {
		return
	}
	v.describe()
	o := &v.observed
	if o.SNI != r.config.Canary.String() {
		return
	}
	o.Origin, o.Decision = policy.OriginCanary, policy.Deny
	o.Name, o.NameFrom = o.SNI, policy.FromSNI
	o.Verdict = policy.Verdict{Outcome: policy.Denied, Stage: policy.StagePolicy, Error: policy.HTTPRequestDenied, By: policy.BySelf, Confidence: policy.Certain}
	o.Detail = map[string]any{"why": "canary"}
	r.sink(o)
}
