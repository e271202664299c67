package dnsaudit

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Of a TCP listener.
const (
	tcpConns     = 1024 // at once, where nobody says
	tcpShare     = 8    // of them for one address: one in so many
	tcpQuestions = 128  // that wait on one connection before more are read
	// tcpIdle is how long a connection may be silent while no question waits, and
	// how long one question may take to arrive.
	tcpIdle = 10 * time.Second
)

// tcpDoor answers on one TCP listener.
type tcpDoor struct {
	f        *Forwarder
	listener net.Listener
	idle     time.Duration
	most     int // connections at once

	mu    sync.Mutex
	conns map[*tcpClient]struct{}
	each  map[netip.Addr]int
	done  sync.WaitGroup
}

func newTCPDoor(f *Forwarder, l net.Listener) *tcpDoor {
	return &tcpDoor{f: f, listener: l, idle: tcpIdle, most: cmp.Or(f.config.Connections, tcpConns), conns: make(map[*tcpClient]struct{}), each: make(map[netip.Addr]int)}
}

// serve accepts until the Forwarder closes, and returns when every question that
// was read is answered.
func (d *tcpDoor) serve() error {
	stop := make(chan struct{})
	go func() {
		select {
		case <-d.f.closing:
			d.stopAccepting()
		case <-stop:
		}
	}()
	err := d.accept()
	close(stop)
	d.listener.Close()
	d.stopReading()
	d.done.Wait()
	select {
	case <-d.f.closing:
		return nil
	default:
		return fmt.Errorf("serve DNS on %v: %w", d.listener.Addr(), err)
	}
}

// stopAccepting lets those in who have knocked.
func (d *tcpDoor) stopAccepting() {
	l, ok := d.listener.(interface{ SetDeadline(time.Time) error })
	if !ok || l.SetDeadline(time.Now().Add(drain)) != nil {
		d.listener.Close()
	}
}

func (d *tcpDoor) accept() error {
	for {
		conn, err := d.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case err != nil: // no descriptor is free: some will be
			if !d.pause() {
				return err
			}
			continue
		}
		if !d.enter(conn) {
			conn.Close()
		}
	}
}

// pause waits a little; false says that the Forwarder closes.
func (d *tcpDoor) pause() bool {
	select {
	case <-d.f.closing:
		return false
	case <-time.After(10 * time.Millisecond):
		return true
	}
}

// enter serves conn, unless its client may not ask or has too many.
func (d *tcpDoor) enter(conn net.Conn) bool {
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil || !d.f.admits(from, conn.LocalAddr()) {
		d.f.counts.strangers.Add(1)
		return false
	}
	a := from.Addr().Unmap()
	c := &tcpClient{door: d, conn: conn, from: from, room: make(chan struct{}, tcpQuestions)}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.conns) >= d.most || d.each[a] >= max(d.most/tcpShare, 1) {
		d.f.counts.dropped.Add(1)
		return false
	}
	d.conns[c] = struct{}{}
	d.each[a]++
	d.done.Go(func() {
		c.serve()
		d.leave(c, a)
	})
	return true
}

func (d *tcpDoor) leave(c *tcpClient, a netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
	if d.each[a]--; d.each[a] == 0 {
		delete(d.each, a)
	}
}

func (d *tcpDoor) stopReading() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		c.stopReading()
	}
}

// tcpClient is one connection of a client. Its questions are answered as their
// answers come, in any order (RFC 7766 section 7).
type tcpClient struct {
	door *tcpDoor
	conn net.Conn
	from netip.AddrPort
	room chan struct{} // holds a token for each question that waits

	mu      sync.Mutex // of the deadline
	waiting int
	until   time.Time // reading ends then, at the latest; zero: not soon

	writing sync.Mutex
	asking  sync.WaitGroup
}

// serve reads questions until the client ends, is silent for too long, or the
// Forwarder closes. Those read are answered all the same.
func (c *tcpClient) serve() {
	defer c.conn.Close()
	defer c.asking.Wait()
	for {
		c.await(0)
		pkt, err := readFrame(c.conn)
		if err != nil {
			return
		}
		q, now := c.door.f.receive(pkt, c.from, viaTCP)
		switch {
		case q != nil:
			c.await(1)
			c.room <- struct{}{}
			c.asking.Add(1)
			c.door.f.handle(q, c, func() {
				<-c.room
				c.await(-1)
				c.asking.Done()
			})
		case now != nil:
			c.write(now)
		case len(pkt) < headerLen:
			return // it does not speak DNS
		}
	}
}

// await counts questions that wait, and sets how long silence is borne: for ever
// while some do; at the end only for as long as it takes to read what has
// arrived.
func (c *tcpClient) await(more int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting += more
	var until time.Time
	switch {
	case !c.until.IsZero():
		until = drained(c.until)
	case c.waiting == 0:
		until = time.Now().Add(c.door.idle)
	}
	_ = c.conn.SetReadDeadline(until)
}

func (c *tcpClient) stopReading() {
	c.mu.Lock()
	c.until = time.Now().Add(drainAtMost)
	c.mu.Unlock()
	c.await(0)
}

func (c *tcpClient) answer(_ *query, pkt []byte) { c.write(pkt) }

// write sends one message. A client that does not read is left.
func (c *tcpClient) write(pkt []byte) {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(pkt)), uint16(len(pkt)))
	b = append(b, pkt...)
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeWithin))
	if _, err := c.conn.Write(b); err != nil {
		c.conn.Close()
	}
}
