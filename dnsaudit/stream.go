package dnsaudit

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

// writeWithin is how long a peer may take to read what is written to it.
const writeWithin = 5 * time.Second

// stream is one connection to a server, with the questions that wait on it.
type stream struct {
	conn    net.Conn
	streams *streams
	writing sync.Mutex

	mu      sync.Mutex
	waiting map[uint16]askedAt
	answers int  // that came
	stale   bool // it takes no more questions
	dead    bool
	dice    dice
}

// askedAt is a question that waits, and how many answers had come before it.
type askedAt struct {
	place
	answers int
}

// load is how many questions wait, and whether there may be more.
func (c *stream) load() (waiting int, usable bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting), !c.stale
}

// send asks. An error is told to w as an answer is.
func (c *stream) send(w *waiter, by way) {
	id, ok := c.enter(w, by)
	if !ok {
		w.tell(event{way: by, err: net.ErrClosed, again: true})
		return
	}
	if !w.hold(ticket{c, id}) {
		c.leave(id)
		return
	}
	pkt := framed(w.query.packet, id)
	c.writing.Lock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeWithin))
	_, err := c.conn.Write(pkt)
	c.writing.Unlock()
	if err != nil {
		c.end(err)
	}
}

// framed is pkt as it goes over a stream, with another ID.
func framed(pkt []byte, id uint16) []byte {
	b := make([]byte, 0, 2+len(pkt))
	b = binary.BigEndian.AppendUint16(b, uint16(len(pkt)))
	b = binary.BigEndian.AppendUint16(b, id)
	return append(b, pkt[2:]...)
}

func (c *stream) enter(w *waiter, by way) (id uint16, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stale {
		return 0, false
	}
	for range 64 {
		id = c.dice.uint16()
		if _, taken := c.waiting[id]; !taken {
			c.waiting[id] = askedAt{place{w, by}, c.answers}
			c.rest()
			return id, true
		}
	}
	return 0, false
}

// rest sets how long silence is borne: for ever while questions wait, since they
// know how long they do.
func (c *stream) rest() {
	var until time.Time
	switch {
	case len(c.waiting) > 0:
	case c.stale:
		until = time.Unix(1, 0)
	default:
		until = time.Now().Add(streamIdle)
	}
	_ = c.conn.SetReadDeadline(until)
}

// leave gives up waiting. A connection that was silent all the while is not
// used again: the network may have forgotten it.
func (c *stream) leave(id uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, waits := c.waiting[id]
	if !waits {
		return
	}
	delete(c.waiting, id)
	c.stale = c.stale || at.answers == c.answers
	c.rest()
}

// read hands answers to those who wait for them until the connection ends.
func (c *stream) read() {
	for {
		pkt, err := readFrame(c.conn)
		if err != nil {
			c.end(err)
			return
		}
		c.heard(pkt)
	}
}

// readFrame reads one message of a stream (RFC 1035 section 4.2.2).
func readFrame(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	pkt := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, pkt)
	return pkt, err
}

func (c *stream) heard(pkt []byte) {
	at, waits := c.take(pkt)
	if !waits {
		c.streams.counts.ignored.Add(1)
		return
	}
	at.w.tell(event{way: at.by, packet: pkt})
}

// take finds the question that pkt answers, which then waits no more.
func (c *stream) take(pkt []byte) (at askedAt, waits bool) {
	if len(pkt) < headerLen {
		return askedAt{}, false
	}
	id := binary.BigEndian.Uint16(pkt)
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, waits = c.waiting[id]; !waits || !at.w.answeredBy(pkt, true) {
		return askedAt{}, false
	}
	c.answers++
	delete(c.waiting, id)
	c.rest()
	return at, true
}

// end closes the connection. Questions that wait are told; where it had
// answered others before, they may be asked again over another one, for servers
// close connections when they like.
func (c *stream) end(err error) {
	c.mu.Lock()
	waiting, again := c.waiting, c.answers > 0 && !c.dead
	c.stale, c.dead, c.waiting = true, true, nil
	c.mu.Unlock()
	_ = c.conn.Close()
	c.streams.remove(c)
	for _, at := range waiting {
		at.w.tell(event{way: at.by, err: brief(err), again: again})
	}
}
