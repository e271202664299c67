package capture

import (
	"bytes"
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy/hello"
)

// Bounds of what is held until a name is there, and of the names of one flow: a
// client may use one socket for many connections.
const (
	maxHeld      = 8 // datagrams
	maxHeldBytes = 64 << 10
	maxVisits    = 16
)

// flow is the traffic between one client's address and one server's.
type flow struct {
	relay *Relay
	path  path

	mu     sync.Mutex
	ended  bool
	timer  *time.Timer
	last   time.Time    // a datagram, either way
	up     *net.UDPConn // nil until something may pass
	back   *net.UDPConn // to the client, from the server's address; nil until something is to be said
	errno  error        // an ICMP message, where nothing answered
	visits []*visit     // oldest first; the later ones may still be reading
}

// fromClient takes a datagram; false when the flow has ended.
func (f *flow) fromClient(b []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return false
	}
	f.last = time.Now()
	v := f.owner(b)
	if !v.done {
		defer f.arm()
	}
	switch {
	case !v.read.decided:
		f.read(v, b)
	case v.allowed:
		f.send(v, b)
	default:
		f.refuse(v)
	}
	return true
}

// owner finds the visit that a datagram belongs to: by the server's connection ID
// once there is one, by the client's while the hello comes in, and else by what the
// Initial packets say. A hello that none of them had begins a new one.
func (f *flow) owner(b []byte) *visit {
	p, _, ok := parsePacket(b)
	if n := len(f.visits); n > 0 && (!ok || p.typ == typeShort || p.typ == typeHandshake) {
		return f.byServerID(p)
	}
	for _, v := range slices.Backward(f.visits) {
		if !v.read.decided && bytes.Equal(v.read.scid, p.scid) {
			return v
		}
	}
	for _, v := range slices.Backward(f.visits) {
		if v.read.decided && v.read.Owns(b) {
			return v
		}
	}
	return f.visit()
}

// byServerID finds the visit whose server a packet is addressed to. A client may
// have been given other connection IDs, unseen (RFC 9000 section 19.15): one that
// nobody is known by is of the newest visit whose handshake is still open, else of
// the newest that passed, else of the newest.
func (f *flow) byServerID(p packet) *visit {
	found := f.visits[len(f.visits)-1]
	for _, v := range slices.Backward(f.visits) {
		if v.answer == Greeted && v.known(p) {
			return v
		}
		if v.rank() > found.rank() {
			found = v
		}
	}
	return found
}

// addressed says whether a packet is for a connection ID; a short header does not
// say how long it is.
func addressed(p packet, id []byte) bool {
	if p.typ == typeShort {
		return bytes.HasPrefix(p.raw[1:], id)
	}
	return bytes.Equal(p.dcid, id)
}

// visit begins a new one. It takes the place of one in a version that is not read:
// the client tries another, for the server refused that. Beyond the bound, the
// oldest is recorded as it stands.
func (f *flow) visit() *visit {
	now := time.Now()
	v := &visit{observed: begin(f.path, now), born: now}
	if n := len(f.visits); n > 0 {
		if old := f.visits[n-1]; old.read.quic && !readable(old.read.version) && old.answer < Closed && !old.recorded {
			v.observed.Begun, v.observed.ID, v.up, v.down = old.observed.Begun, old.observed.ID, old.up, old.down
			f.visits[n-1] = v
			return v
		}
	}
	if len(f.visits) == maxVisits {
		f.conclusive(f.visits[0])
		f.visits = f.visits[1:]
	}
	f.visits = append(f.visits, v)
	return v
}

// read feeds a datagram to a hello that is not whole yet, and holds it until the
// hello is judged, unless time has run out already.
func (f *flow) read(v *visit, b []byte) {
	decided := v.read.Feed(b)
	if v.judged && v.allowed {
		f.send(v, b)
	} else {
		v.held = append(v.held, bytes.Clone(b))
		v.heldBytes += len(b)
	}
	if !decided && (len(v.held) >= maxHeld || v.heldBytes >= maxHeldBytes) {
		v.read.End(hello.TooLong)
		decided = true
	}
	if decided {
		f.judge(v)
	}
}

// judge asks whether a visit may pass, and lets its datagrams go or drops them.
func (f *flow) judge(v *visit) {
	f.ask(v)
	if !v.allowed && !v.read.decided {
		return // the name may come yet
	}
	held := v.held
	v.held, v.heldBytes = nil, 0
	if !v.allowed {
		f.deny(v)
		return
	}
	v = f.merge(v)
	for _, b := range held {
		f.send(v, b)
	}
}

// ask has a visit judged by what is known of it.
func (f *flow) ask(v *visit) {
	v.describe()
	v.observed.Verdict, v.observed.Detail = policy.Verdict{}, nil
	v.allowed, v.judged = f.relay.config.Judge(&v.observed), true
}

// merge folds a hello into the visit with the same name whose server wanted it
// once more: after a Retry, or in another version.
func (f *flow) merge(v *visit) *visit {
	for _, old := range f.visits {
		again := old.answer == Retry || old.answer == Negotiation
		if old == v || !again || !old.allowed || old.recorded || !v.read.decided || old.observed.SNI != v.observed.SNI {
			continue
		}
		old.read, old.observed.ALPN = v.read, v.observed.ALPN
		f.visits = slices.DeleteFunc(f.visits, func(x *visit) bool { return x == v })
		return old
	}
	return v
}

// deny records a refusal at once: nothing more comes of it.
func (f *flow) deny(v *visit) {
	f.record(v)
	f.refuse(v)
}

// refuse tells the client to turn to TCP.
func (f *flow) refuse(v *visit) {
	if b, ok := v.read.Refusal(); ok {
		f.reply(b)
	}
}

// send passes a client's datagram on.
func (f *flow) send(v *visit, b []byte) {
	if f.up == nil && !f.open(v) {
		return
	}
	v.sent(b, f.last)
	if _, err := f.up.Write(b); err != nil {
		f.failed(err)
	}
}

// open makes the way to the server, and begins to read from it.
func (f *flow) open(v *visit) bool {
	up, err := f.relay.dial(f.path.client, f.path.to)
	if err != nil {
		v.asked(f.last)
		f.failed(err)
		return false
	}
	f.up = up
	go f.receive(up)
	return true
}

// failed keeps what the network, or our own system, says against the way: ICMP
// messages come so. The client is told where nothing was answered.
func (f *flow) failed(err error) {
	var errno syscall.Errno
	if !errors.As(err, &errno) || errno == syscall.EMSGSIZE || errno == syscall.ENOBUFS {
		return // one datagram is lost, as datagrams are
	}
	f.errno = errno
	for _, v := range f.visits {
		if v.allowed && v.answer < Closed {
			f.refuse(v)
		}
	}
}

// reply sends a datagram to the client, as from the server.
func (f *flow) reply(b []byte) {
	if f.back == nil {
		back, err := f.relay.answer(f.path.to)
		if err != nil {
			return // the listener had the same rights: descriptors have run out
		}
		f.back = back
	}
	f.back.WriteToUDPAddrPort(b, f.path.client) // a datagram may be lost
}

// receive takes what the server sends, until the flow ends. Between two datagrams
// it holds no buffer.
func (f *flow) receive(up *net.UDPConn) {
	raw, err := up.SyscallConn()
	for err == nil {
		err = await(raw, f.received)
	}
}

// received takes a datagram of the server's, or what its socket has to say.
func (f *flow) received(b []byte, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.ended:
	case err != nil:
		f.failed(err)
	default:
		f.fromServer(b)
	}
}

func (f *flow) fromServer(b []byte) {
	f.last, f.errno = time.Now(), nil
	if v := f.addressee(b); v != nil {
		v.received(b, f.last)
	}
	f.reply(b)
}

// addressee finds the visit whose client a datagram is for, else the newest that
// passed.
func (f *flow) addressee(b []byte) (found *visit) {
	p, _, ok := parsePacket(b)
	for _, v := range f.visits {
		if !v.allowed {
			continue
		}
		if ok && len(v.read.scid) > 0 && addressed(p, v.read.scid) {
			return v
		}
		found = v
	}
	return found
}
