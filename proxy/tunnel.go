package proxy

import (
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy/hello"
)

// interimAfter is how long a connection may live without a record of its own.
const interimAfter = 10 * time.Second

// tunnel carries one connection, and learns from its first bytes what became of
// it. Once that is decided it only counts.
type tunnel struct {
	p        *Proxy
	client   *net.TCPConn
	route    route
	name     policy.Name // asked for
	entered  bool        // it counts against the limits
	through  bool        // the operator named the destination (Config.Through)
	told     bool        // the client was refused in its own protocol
	up, down flow
	alarm    *time.Timer
	active   atomic.Int64 // when the last byte went by, Unix nanoseconds
	decided  atomic.Bool  // no more bytes need to be looked at; till then, see unseen
	half     atomic.Bool  // one direction has ended
	phase    atomic.Int32
	gone     chan time.Duration // when the client left, while watching

	mu        sync.Mutex // guards what follows
	o         policy.Observation
	first     time.Time // the client's first bytes
	asked     time.Time // the last ones of a plain request
	answered  time.Time // the destination's first bytes
	progress  time.Time // the destination's last bytes before it was decided
	parser    hello.Parser
	parsed    bool
	hello     hello.Hello
	helloSize int // octets until it was parsed
	shake     hello.Handshake
	reply     hello.ReplyParser
	replied   bool            // its header is whole
	talk      *hello.Exchange // of plain HTTP; nil: of none
	ended     side            // who ended first
	how       string          // and how: fin, rst, timeout, error
	endedAt   time.Time
	quiet     time.Duration // how long nothing had gone by then
	shook     hello.Stage   // and how far the handshake had come
	why       string        // we cut it: idle, drain
	silent    bool          // its silence was recorded
	interim   bool          // its success was recorded
	passed    *probe        // the certificate that went by in the clear
	barred    bool          // denied by its server name: o has the verdict
	astray    bool          // its server name has other addresses
	closed    bool          // the closing record is made
}

// side is one end of a tunnel.
type side uint8

const (
	nobody side = iota
	clientSide
	serverSide
)

// accept tells the client that its tunnel is open.
func (t *tunnel) accept() bool {
	t.touch()
	_, err := t.client.Write([]byte(established))
	if err != nil {
		t.over(clientSide, ending(err))
		t.route.conn.Close()
	}
	return err == nil
}

// carry runs both directions until both have ended.
func (t *tunnel) carry(pending []byte) {
	server := t.route.conn
	defer t.p.busy.leave()
	defer t.end()
	defer server.Close()
	defer t.client.Close()
	t.alarm.Reset(t.p.limits.AnswerTimeout)
	t.p.track(t)
	defer t.p.untrack(t)
	t.up = flow{tunnel: t, src: t.client, dst: server, from: clientSide}
	t.down = flow{tunnel: t, src: server, dst: t.client, from: serverSide}
	beyond := t.route.pending
	t.route.pending = nil
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		t.down.run(beyond)
	}()
	if pending, ok := t.hold(pending); ok {
		t.up.run(pending)
	}
	done.Wait()
}

// end makes the tunnel's one record.
func (t *tunnel) end() {
	if t.entered {
		t.p.carried.leave(t.o.Client.Addr())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.alarm != nil {
		t.alarm.Stop()
	}
	if t.route.conn != nil {
		t.parseEnd()
		t.describe(&t.o)
		t.conclude(&t.o)
		t.inspect()
	}
	t.closed = true
	t.p.record(&t.o)
}

// touch notes that a byte went by, now.
func (t *tunnel) touch() time.Time {
	now := time.Now()
	t.active.Store(now.UnixNano())
	return now
}

// idle is how long nothing has gone by.
func (t *tunnel) idle() time.Duration { return time.Duration(time.Now().UnixNano() - t.active.Load()) }

// saw looks at bytes before they are passed on.
func (t *tunnel) saw(from side, b []byte, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if from == clientSide {
		t.sawClient(b, now)
	} else {
		t.sawServer(b, now)
	}
	t.decided.Store(!t.undecided() && (t.talk == nil || t.talk.Lost()))
}

func (t *tunnel) sawClient(b []byte, now time.Time) {
	if t.first.IsZero() {
		t.first = now
		if t.answered.IsZero() && hello.MayBeHTTP(b) {
			t.talk = new(hello.Exchange)
		}
	}
	if !t.parsed {
		t.helloSize += len(b)
	}
	if !t.parsed && t.parser.Feed(b) {
		t.parseEnd()
	}
	if t.parsed && !t.isHTTP() {
		t.talk = nil
	} else if t.talk != nil {
		t.talk.Client(b)
		t.asked = now
	}
	if t.maybeTLS() {
		t.shake.Client(b)
	}
}

// parseEnd takes what the client's first bytes say, as far as they went.
func (t *tunnel) parseEnd() {
	if t.parsed {
		return
	}
	t.parser.End(hello.Truncated)
	t.parsed, t.hello = true, t.parser.Hello()
	t.astray = t.strays(t.hello)
	t.shake.EarlyData = t.hello.EarlyData
}

func (t *tunnel) sawServer(b []byte, now time.Time) {
	t.progress = now
	if t.answered.IsZero() {
		t.answered = t.progress
	}
	if t.maybeTLS() {
		t.shake.Server(b)
		if chain := t.shake.TakeChain(); chain != nil {
			t.passed = t.p.prober.pass(chain, t.wanted())
		}
	}
	if !t.isTLS() || t.shake.Stage() == hello.NotTLSReply {
		t.replied = t.reply.Feed(b)
	}
	if t.talk != nil {
		t.talk.Server(b)
	}
}

// maybeTLS says that the client's first bytes are TLS as far as they go.
func (t *tunnel) maybeTLS() bool { return !t.parsed || t.isTLS() }

func (t *tunnel) isTLS() bool { return t.parsed && t.hello.Protocol == hello.TLS }

func (t *tunnel) isHTTP() bool { return t.parsed && t.hello.Protocol == hello.HTTP }

// undecided says whether the next bytes can still change the verdict. A
// destination that speaks first has answered, unless the client then turns out to
// speak TLS or HTTP.
func (t *tunnel) undecided() bool {
	switch {
	case !t.parsed, t.answered.IsZero():
		return true
	case t.isTLS():
		return !t.shake.Decided()
	case t.isHTTP():
		return !t.replied
	}
	return false
}

// answeredInProtocol says whether the destination is reached beyond doubt: ok.
func (t *tunnel) answeredInProtocol() bool {
	switch {
	case t.isTLS():
		return t.shake.Stage() == hello.Finished
	case t.isHTTP() && t.hello.Method != "PRI": // HTTP/2 has no status line
		return t.reply.Reply().Protocol == hello.HTTP
	}
	return !t.answered.IsZero() && (t.parsed || t.first.IsZero())
}

// over notes who ended first, and how.
func (t *tunnel) over(who side, how string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if who == clientSide {
		t.parseEnd()
	}
	if t.ended == who && how == closeRST {
		t.how = closeRST // Linux tells a reset once: the other direction took it for an end
	}
	if t.ended == nobody && t.why == "" && how != "" {
		t.ended, t.how, t.endedAt, t.quiet, t.shook = who, how, time.Now(), t.idle(), t.shake.Stage()
	}
}

// cut ends the tunnel from our side.
func (t *tunnel) cut(why string) {
	t.mu.Lock()
	if t.why == "" && t.ended == nobody {
		t.why = why
	}
	t.mu.Unlock()
	t.client.Close()
	if t.route.conn != nil {
		t.route.conn.Close()
	}
}

// silence is how long the destination has owed an answer: up to now, or to the end.
func (t *tunnel) silence() time.Duration {
	if t.first.IsZero() || t.answeredInProtocol() || t.isTLS() && t.shake.Decided() {
		return 0
	}
	since, until := t.first, time.Now()
	for _, later := range [...]time.Time{t.asked, t.progress} {
		if later.After(since) {
			since = later
		}
	}
	if t.ended != nobody {
		until = t.endedAt
	}
	return until.Sub(since)
}

// pointless says that the client has left in the middle of a TLS handshake. No
// client half-closes there: what may still come is for nobody.
func (t *tunnel) pointless() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended == clientSide && t.isTLS() && t.shake.Stage() != hello.Finished && t.shake.Stage() != hello.NotTLSReply
}

// recordOpen makes an interim record; the closing one has the same ID.
func (t *tunnel) recordOpen() {
	o := t.o
	o.Detail = maps.Clone(t.o.Detail)
	t.describe(&o)
	t.conclude(&o)
	o.Open = true
	t.p.record(&o)
}
