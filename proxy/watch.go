package proxy

import "time"

// slowOpen is after how long somebody looks whether the client is still there.
const slowOpen = 50 * time.Millisecond

// The phases of a tunnel, for its one timer.
const (
	opening  int32 = iota
	watching       // opening takes long: somebody looks whether the client leaves
	carrying
)

// watch begins to look, after a while, whether the client leaves while the way is
// still being opened. opened ends that, and notes what was seen.
func (t *tunnel) watch() { t.alarm = time.AfterFunc(slowOpen, t.ring) }

func (t *tunnel) ring() {
	if t.phase.Load() == carrying {
		t.tick()
		return
	}
	t.gone = make(chan time.Duration, 1)
	if !t.phase.CompareAndSwap(opening, watching) {
		return // it opened just now
	}
	if left(t.client) {
		t.gone <- time.Since(t.o.Begun)
	}
	close(t.gone)
}

func (t *tunnel) opened() {
	t.touch()
	if t.phase.CompareAndSwap(opening, carrying) {
		return
	}
	t.client.SetReadDeadline(time.Unix(1, 0)) // ends left
	if after, ok := <-t.gone; ok {
		note(&t.o, detail{"client_left_ms": after.Milliseconds()})
	}
	t.client.SetReadDeadline(time.Time{})
	t.phase.Store(carrying)
}

// tick runs when something may be due: the record of a silence or of a long
// life, or the end of an idle tunnel.
func (t *tunnel) tick() {
	if t.idle() >= t.p.limits.IdleTimeout {
		t.cut("idle")
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	next := t.p.limits.AnswerTimeout
	switch ok := t.answeredInProtocol(); {
	case ok && t.interim:
		next = t.p.limits.IdleTimeout
	case ok && time.Since(t.o.Begun) >= interimAfter:
		t.interim = true
		t.recordOpen()
	case ok:
		next = interimAfter - time.Since(t.o.Begun)
	case !t.silent && t.silence() >= t.p.limits.AnswerTimeout:
		t.silent = true
		t.recordOpen()
	case !t.silent && t.silence() > 0:
		next = t.p.limits.AnswerTimeout - t.silence()
	}
	t.alarm.Reset(max(min(next, t.p.limits.IdleTimeout-t.idle()), time.Millisecond))
}
