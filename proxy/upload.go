package proxy

import (
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// upload is a request's body on its way to the destination. It counts, and knows
// since when the destination owes an answer: not while the client is waited for. A
// client that sends nothing for too long has ended.
type upload struct {
	io.ReadCloser
	client   *net.TCPConn
	patience time.Duration // for each read
	n        atomic.Int64
	waits    atomic.Bool  // for the client
	moved    atomic.Int64 // when the client last sent something, or ended, Unix nanoseconds
}

func (u *upload) Read(b []byte) (int, error) {
	u.client.SetReadDeadline(time.Now().Add(u.patience))
	u.waits.Store(true)
	n, err := u.ReadCloser.Read(b)
	u.moved.Store(time.Now().UnixNano())
	u.waits.Store(err != nil && err != io.EOF) // a client that broke off owes the rest for ever
	u.n.Add(int64(n))
	if err == io.EOF {
		u.client.SetReadDeadline(time.Time{}) // what comes next is another request
	}
	return n, err
}

// silence is how long the destination has owed an answer at a time.
func (x *request) silence(at time.Time) time.Duration {
	since := x.sent
	if moved := time.Unix(0, x.up.moved.Load()); moved.After(since) {
		since = moved
	}
	if x.up.waits.Load() {
		return 0
	}
	return max(0, at.Sub(since))
}

// watchSilence makes an interim record once the destination has owed an answer for
// too long, unless the closing one was made meanwhile.
func (x *request) watchSilence(o policy.Observation) {
	x.mu.Lock()
	defer x.mu.Unlock()
	limit := x.p.limits.AnswerTimeout
	if left := limit - x.silence(time.Now()); x.heard {
		return
	} else if left > 0 {
		x.watch.Reset(left)
	} else {
		o.Verdict = failed(policy.StageHello, policy.ConnectionReadTimeout, policy.ByNetwork, x.confidence())
		o.Open = true
		x.p.record(&o)
	}
}

// hear ends the watch: there is an answer, or there will be none.
func (x *request) hear() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.heard = true
	x.watch.Stop()
}
