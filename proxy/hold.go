package proxy

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy/hello"
)

// hold keeps the client's first message back, in enforce mode, until it is
// judged: a server name in it must be listed too. It returns the bytes to begin
// with; where the answer is no, nothing has reached the destination.
func (t *tunnel) hold(b []byte) (first []byte, ok bool) {
	if !t.p.enforce || t.through {
		return b, true
	}
	h, b, _ := t.message(b, 0)
	if t.listed(h, b) {
		return b, true
	}
	t.mu.Lock()
	t.parsed, t.hello, t.barred, t.first = true, h, true, time.Now()
	t.hello.Protocol = hello.TLS // as far as it went
	fail(&t.o, denied(policy.HTTPRequestDenied), detail{"why": "the server name is in no catalog, and the mode is enforce"})
	t.mu.Unlock()
	t.client.Write(accessDenied)
	lastWord(t.client)
	t.cut("denied")
	return nil, false
}

// message reads the client's first message, behind b: for as long as wait says, or,
// where that is 0, for the limit's time from its first octet. A wait ends when all is
// cut. left says that the client ended before its message did.
func (t *tunnel) message(b []byte, wait time.Duration) (h hello.Hello, read []byte, left bool) {
	parser := hello.Parser{Limit: t.p.limits.FirstBytes}
	buf := make([]byte, 4096)
	timed := wait > 0
	if timed {
		t.client.SetReadDeadline(time.Now().Add(wait))
		stop := context.AfterFunc(t.p.life, func() { t.client.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	for seen := 0; !parser.Feed(b[seen:]); {
		if seen = len(b); seen > 0 && !timed {
			timed = true
			t.client.SetReadDeadline(time.Now().Add(t.p.limits.FirstTimeout))
		}
		n, err := t.client.Read(buf)
		if b = append(b, buf[:n]...); err != nil && n == 0 {
			left = !errors.Is(err, os.ErrDeadlineExceeded)
			parser.End(hello.TimedOut)
			break
		}
	}
	t.client.SetReadDeadline(time.Time{})
	return parser.Hello(), b, left
}

// listed says whether what the client's first message names may pass: nothing, or
// a listed name. A hello that cannot be read may name anything.
func (t *tunnel) listed(h hello.Hello, b []byte) bool {
	switch {
	case h.Protocol == hello.TLS && h.Reason == hello.NoName, h.Protocol != hello.TLS && h.Reason != hello.TimedOut && h.Reason != hello.TooLong:
		return true
	case h.Reason != hello.None:
		return len(b) == 0 // the client said nothing
	}
	sni, err := policy.ParseName(h.ServerName)
	return err == nil && (sni == t.name || len(t.p.index.Load().Match(nil, sni, t.o.Port)) > 0)
}

// accessDenied is a fatal TLS alert (RFC 8446 section 6).
var accessDenied = []byte{21, 3, 3, 0, 2, 2, 49}
