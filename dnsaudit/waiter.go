package dnsaudit

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"
)

// waiter waits for the answer to one question, over all the ways it was sent.
type waiter struct {
	query   *query
	first   func(event) bool // takes the first event instead; nil: nobody does
	events  chan event
	done    chan struct{} // closed when the question has ended
	ignored atomic.Int32  // answers with the right ID and the wrong question

	mu      sync.Mutex
	left    bool
	tickets []ticket
}

// event is what came over one way: an answer, or the end of it.
type event struct {
	way    way
	packet []byte
	err    error
	again  bool // the way is worth another try at once
}

// ticket is a place in some socket's table.
type ticket struct {
	socket interface{ leave(id uint16) }
	id     uint16
}

func newWaiter(q *query) *waiter {
	return &waiter{query: q, events: make(chan event, 8), done: make(chan struct{})}
}

// tell hands an event over. One that finds no room is lost: the question has
// heard enough by then.
func (w *waiter) tell(e event) {
	if w.first != nil && w.first(e) {
		return
	}
	select {
	case w.events <- e:
	default:
	}
}

// hold keeps a ticket, to be given back at the end; false says that this was
// before.
func (w *waiter) hold(t ticket) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.left {
		w.tickets = append(w.tickets, t)
	}
	return !w.left
}

// leave ends the wait: no socket knows the question any more.
func (w *waiter) leave() {
	close(w.done)
	w.mu.Lock()
	tickets := w.tickets
	w.left = true
	w.mu.Unlock()
	for _, t := range tickets {
		t.socket.leave(t.id)
	}
}

// answeredBy compares header and question section, octet for octet, so that the
// case of letters (draft-vixie-dnsext-dns0x20) is worth what the client made of
// it. Over a stream, where nobody can slip an answer in, fold takes another case
// for the same, since some servers answer in lower case. A failure may come
// without the question, as in question.answeredBy.
func (w *waiter) answeredBy(pkt []byte, fold bool) bool {
	if len(pkt) < headerLen || pkt[2]&(flagQR|opcode) != flagQR {
		return false
	}
	asked := w.query.question
	switch binary.BigEndian.Uint16(pkt[4:]) {
	case 0:
		return failure(int(pkt[3] & 0x0F))
	case 1:
		if len(pkt) < headerLen+len(asked) {
			return false
		}
		got := pkt[headerLen : headerLen+len(asked)]
		return bytes.Equal(got, asked) || fold && foldedEqual(got, asked)
	}
	return false
}

func failure(rcode int) bool {
	return rcode == dns.RcodeFormatError || rcode == dns.RcodeServerFailure ||
		rcode == dns.RcodeNotImplemented || rcode == dns.RcodeRefused
}

// foldedEqual compares two question sections without regard to the case of
// ASCII letters in the name.
func foldedEqual(a, b []byte) bool {
	n := len(a) - 4
	return bytes.Equal(a[n:], b[n:]) && bytes.Equal(lower(a[:n]), lower(b[:n]))
}

// lower is a name in wire format in lower case. A length octet is below 64, and
// so never a letter.
func lower(name []byte) []byte {
	name = slices.Clone(name)
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			name[i] = c + 'a' - 'A'
		}
	}
	return name
}
