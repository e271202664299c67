package dnsaudit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// Of a UDP listener.
const (
	udpBatch  = 32
	udpQueue  = 1024    // answers that wait to be written
	udpPacket = 4096    // a question that is longer is cut off, and so malformed
	udpBuffer = 4 << 20 // of the kernel, each way
	// udpFailures is how many reads may fail in a row.
	udpFailures = 100
	// At the end, what has arrived is read until nothing comes for drain, and for
	// drainAtMost.
	drain       = 50 * time.Millisecond
	drainAtMost = time.Second
)

// udpDoor answers on one UDP socket.
type udpDoor struct {
	f        *Forwarder
	conn     *net.UDPConn
	batch    batchConn
	wildcard bool // bound to no address: answers leave from the one that was asked
	out      chan ipv4.Message
	asking   sync.WaitGroup
}

// batchConn is what ipv4.PacketConn and ipv6.PacketConn have in common.
type batchConn interface {
	ReadBatch([]ipv4.Message, int) (int, error)
	WriteBatch([]ipv4.Message, int) (int, error)
}

func newUDPDoor(f *Forwarder, conn *net.UDPConn) *udpDoor {
	d := &udpDoor{f: f, conn: conn, out: make(chan ipv4.Message, udpQueue)}
	_ = conn.SetReadBuffer(udpBuffer) // as much as the system allows
	_ = conn.SetWriteBuffer(udpBuffer)
	at := conn.LocalAddr().(*net.UDPAddr)
	d.wildcard = at.IP.IsUnspecified()
	if at.IP.To4() != nil {
		p := ipv4.NewPacketConn(conn)
		d.batch = p
		d.wildcard = d.wildcard && p.SetControlMessage(ipv4.FlagDst, true) == nil
	} else {
		p := ipv6.NewPacketConn(conn)
		d.batch = p
		d.wildcard = d.wildcard && p.SetControlMessage(ipv6.FlagDst, true) == nil
	}
	return d
}

// serve reads until the Forwarder closes, and returns when every question that
// was read is answered.
func (d *udpDoor) serve() error {
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-d.f.closing:
			_ = d.conn.SetReadDeadline(time.Unix(1, 0))
		case <-stop:
		}
	}()
	readers := min(runtime.GOMAXPROCS(0), 4)
	ended := make(chan error, readers)
	for range readers {
		go func() { ended <- d.read() }()
	}
	written := make(chan struct{})
	go func() { d.write(); close(written) }()
	var first error
	for range readers {
		if err := <-ended; err != nil && first == nil {
			first = fmt.Errorf("serve DNS on %v: %w", d.conn.LocalAddr(), err)
			d.f.close()
		}
	}
	d.asking.Wait()
	close(d.out)
	<-written
	return first
}

// read takes packets until the Forwarder closes, and those that have arrived by
// then.
func (d *udpDoor) read() error {
	batch := make([]ipv4.Message, udpBatch)
	for i := range batch {
		batch[i].Buffers = [][]byte{make([]byte, udpPacket)}
		if d.wildcard {
			batch[i].OOB = make([]byte, 64)
		}
	}
	var end time.Time // of reading; zero: not soon
	for failures := 0; ; {
		n, err := d.batch.ReadBatch(batch, 0)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if !end.IsZero() {
				return nil
			}
			end = time.Now().Add(drainAtMost)
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil && failures >= udpFailures:
			return err
		case err != nil: // of one packet, on some systems
			failures++
			continue
		}
		failures = 0
		if !end.IsZero() {
			_ = d.conn.SetReadDeadline(drained(end))
		}
		for i := range max(n, 0) {
			d.take(&batch[i])
		}
	}
}

// drained is until when more may come, at the end of reading.
func drained(end time.Time) time.Time {
	if t := time.Now().Add(drain); t.Before(end) {
		return t
	}
	return end
}

// take handles one packet. Its buffer is free again afterwards.
func (d *udpDoor) take(m *ipv4.Message) {
	from, ok := m.Addr.(*net.UDPAddr)
	if !ok || from.Port == 0 {
		return
	}
	client := from.AddrPort()
	if !d.f.admits(client, d.conn.LocalAddr()) {
		d.f.counts.strangers.Add(1)
		return
	}
	back := &udpClient{d, from, d.source(m)}
	q, now := d.f.receive(slices.Clone(m.Buffers[0][:m.N]), client, viaUDP)
	switch {
	case q != nil:
		d.asking.Add(1)
		d.f.handle(q, back, d.asking.Done)
	case now != nil:
		back.send(now)
	}
}

// source is the control message that makes an answer leave from the address that
// was asked; nil where the socket has only one.
func (d *udpDoor) source(m *ipv4.Message) []byte {
	if !d.wildcard {
		return nil
	}
	dst := destination(m.OOB[:m.NN])
	switch {
	case dst == nil:
		return nil
	case dst.To4() != nil:
		return (&ipv4.ControlMessage{Src: dst}).Marshal()
	}
	return (&ipv6.ControlMessage{Src: dst}).Marshal()
}

func destination(oob []byte) net.IP {
	var v6 ipv6.ControlMessage
	if v6.Parse(oob) == nil && v6.Dst != nil {
		return v6.Dst
	}
	var v4 ipv4.ControlMessage
	if v4.Parse(oob) == nil {
		return v4.Dst
	}
	return nil
}

// write sends what waits, several packets at a time where several do.
func (d *udpDoor) write() {
	batch := make([]ipv4.Message, 0, udpBatch)
	for m := range d.out {
		batch = append(batch[:0], m)
	more:
		for len(batch) < udpBatch {
			select {
			case m, open := <-d.out:
				if !open {
					break more
				}
				batch = append(batch, m)
			default:
				break more
			}
		}
		d.writeAll(batch)
	}
}

// writeAll sends each packet that can be sent.
func (d *udpDoor) writeAll(batch []ipv4.Message) {
	for len(batch) > 0 {
		n, err := d.batch.WriteBatch(batch, 0)
		if err != nil {
			n = max(n, 0) + 1 // the one that cannot
		}
		batch = batch[min(n, len(batch)):]
	}
}

// udpClient is where one packet came from.
type udpClient struct {
	door *udpDoor
	addr *net.UDPAddr
	oob  []byte
}

func (c *udpClient) answer(_ *query, pkt []byte) { c.send(pkt) }

func (c *udpClient) send(pkt []byte) {
	c.door.out <- ipv4.Message{Buffers: [][]byte{pkt}, OOB: c.oob, Addr: c.addr}
}
