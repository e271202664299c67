package dnsaudit

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Of the sockets to one server.
const (
	// socketSlots is how many sockets questions may be given to. A guess at an
	// answer is no better where there are few: it has to hit a port and the ID of a
	// question that waits there. Few share the fresh ports among them, so that each
	// lives shortly, and many answers are read at one waking.
	socketSlots = 4
	socketsMax  = 512 // open at once, those included that only wait for answers
	// freshPerSecond is how many questions a second get a port of their own. What
	// comes beyond goes out from a random one of those open, each for socketUses
	// questions at most.
	freshPerSecond = 250
	socketUses     = 256
)

var errTooMany = errors.New("no free ID on any socket")

// sockets sends questions to one server over UDP, each with a random ID from a
// random port. Every socket is connected: the kernel chooses its port at random,
// drops what does not come from the server, and hands on the ICMP error of a
// closed port. Safe for use by several goroutines at once.
type sockets struct {
	to     netip.AddrPort
	counts *counters

	mu      sync.Mutex
	slots   [socketSlots]*socket
	open    int
	budget  float64 // fresh sockets that may be opened now
	counted time.Time
	closed  bool
	reading sync.WaitGroup
	dice    dice
}

// dice throws random numbers that cannot be guessed.
type dice struct {
	buf  [512]byte
	left []byte
}

func (d *dice) uint16() uint16 {
	if len(d.left) < 2 {
		_, _ = rand.Read(d.buf[:]) // never fails
		d.left = d.buf[:]
	}
	n := binary.BigEndian.Uint16(d.left)
	d.left = d.left[2:]
	return n
}

// send sends w's question. What comes back is told to w, with the way given.
func (p *sockets) send(w *waiter, by way) error {
	s, id, err := p.enter(w, by)
	if err != nil {
		return err
	}
	w.hold(ticket{s, id})
	binary.BigEndian.PutUint16(w.query.packet, id)
	if _, err = s.conn.Write(w.query.packet); err != nil {
		_, err = s.conn.Write(w.query.packet) // the first error can be an earlier question's
	}
	return brief(err)
}

// enter finds a port for w and enters it there under a random ID.
func (p *sockets) enter(w *waiter, by way) (*socket, uint16, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	slot := &p.slots[p.dice.uint16()%socketSlots]
	if p.wants(*slot) {
		if err := p.replace(slot); err != nil && *slot == nil {
			return nil, 0, err
		}
	}
	s := *slot
	for range 64 {
		id := p.dice.uint16()
		if s.enter(id, w, by) {
			return s, id, nil
		}
	}
	return nil, 0, errTooMany
}

// wants says whether a slot gets a fresh socket.
func (p *sockets) wants(s *socket) bool {
	now := time.Now()
	p.budget = min(freshPerSecond, p.budget+now.Sub(p.counted).Seconds()*freshPerSecond)
	p.counted = now
	switch {
	case s == nil:
		return true
	case p.open >= socketsMax:
		return false
	}
	return p.budget >= 1 || s.uses >= socketUses
}

// replace opens a socket for a slot. The one it had closes with its last
// answer.
func (p *sockets) replace(slot **socket) error {
	if p.closed {
		return net.ErrClosed
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.to))
	if err != nil {
		return brief(err)
	}
	p.budget = max(0, p.budget-1)
	p.open++
	if *slot != nil {
		(*slot).retire()
	}
	s := &socket{conn: conn, sockets: p, waiting: make(map[uint16]place)}
	*slot = s
	p.reading.Go(s.read)
	return nil
}

// shut closes all sockets; no question may wait any more.
func (p *sockets) shut() {
	p.mu.Lock()
	p.closed = true
	for i, s := range p.slots {
		if s != nil {
			s.retire()
			p.slots[i] = nil
		}
	}
	p.mu.Unlock()
	p.reading.Wait()
}

// socket is one of them. Its uses belong to sockets.
type socket struct {
	conn    *net.UDPConn
	sockets *sockets
	uses    int

	mu      sync.Mutex
	waiting map[uint16]place
	retired bool
}

// place is a question that waits, and the way it went.
type place struct {
	w  *waiter
	by way
}

func (s *socket) enter(id uint16, w *waiter, by way) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.waiting[id]; taken {
		return false
	}
	s.waiting[id] = place{w, by}
	s.uses++
	return true
}

func (s *socket) leave(id uint16) {
	s.mu.Lock()
	delete(s.waiting, id)
	s.closeIfDone()
	s.mu.Unlock()
}

// retire lets the socket close as soon as nobody waits for it.
func (s *socket) retire() {
	s.mu.Lock()
	s.retired = true
	s.closeIfDone()
	s.mu.Unlock()
}

func (s *socket) closeIfDone() {
	if s.retired && len(s.waiting) == 0 {
		_ = s.conn.Close() // a second time does no harm
	}
}

// read hands answers to those who wait for them until the socket is closed.
func (s *socket) read() {
	defer s.gone()
	buf := packets.Get().(*[dns.MaxMsgSize]byte)
	defer packets.Put(buf)
	for {
		n, err := s.conn.Read(buf[:])
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // of an ICMP message, which does not say for which question
			s.failed(brief(err))
		default:
			s.heard(buf[:n])
		}
	}
}

func (s *socket) gone() {
	s.sockets.mu.Lock()
	s.sockets.open--
	s.sockets.mu.Unlock()
}

// heard tells the question that pkt answers. What answers none is late or
// forged.
func (s *socket) heard(pkt []byte) {
	at, waits := s.take(pkt)
	if !waits {
		s.sockets.counts.ignored.Add(1)
		return
	}
	at.w.tell(event{way: at.by, packet: append([]byte(nil), pkt...)})
}

// take finds the question that pkt answers, which then waits no more.
func (s *socket) take(pkt []byte) (at place, waits bool) {
	if len(pkt) < headerLen {
		return place{}, false
	}
	id := binary.BigEndian.Uint16(pkt)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, waits = s.waiting[id]; !waits {
		return place{}, false
	}
	if !at.w.answeredBy(pkt, false) {
		at.w.ignored.Add(1)
		return place{}, false
	}
	delete(s.waiting, id)
	s.closeIfDone()
	return at, true
}

func (s *socket) failed(err error) {
	s.mu.Lock()
	waiting := s.waiting
	s.waiting = make(map[uint16]place)
	s.closeIfDone()
	s.mu.Unlock()
	for _, at := range waiting {
		at.w.tell(event{way: at.by, err: err})
	}
}
