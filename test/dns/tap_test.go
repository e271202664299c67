//go:build linux

package dns

import (
	"bytes"
	"encoding/binary"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// tap stands in front of a name server, UDP and TCP, passes packets on as they
// are, both ways, and keeps them.
type tap struct {
	at, to string // ADDRESS:PORT
	// pass sends an answer on; nil: as it came. It runs in a goroutine of the
	// answer's own, and may send other packets before.
	pass func(answer []byte, send func(pkt []byte))

	udp *net.UDPConn
	tcp net.Listener

	mu       sync.Mutex
	up, down [][]byte // to the server and from it, as sent on
	closed   bool
	conns    []io.Closer
	ways     map[netip.AddrPort]net.Conn // of UDP clients
	running  sync.WaitGroup
}

// listen opens the tap's door.
func listen(t *testing.T, to string, pass func([]byte, func([]byte))) *tap {
	t.Helper()
	x := &tap{at: address() + ":53", to: to, pass: pass, ways: map[netip.AddrPort]net.Conn{}}
	pc, err := net.ListenPacket("udp", x.at)
	require.NoError(t, err)
	x.udp = pc.(*net.UDPConn)
	x.tcp, err = net.Listen("tcp", x.at)
	require.NoError(t, err)
	x.running.Go(x.serveUDP)
	x.running.Go(x.serveTCP)
	t.Cleanup(x.close)
	return x
}

func (x *tap) close() {
	x.mu.Lock()
	x.closed = true
	for _, c := range append(x.conns, x.udp, x.tcp) {
		c.Close()
	}
	x.mu.Unlock()
	x.running.Wait()
}

// opened keeps c to be closed with the tap; false says that it is closed.
func (x *tap) opened(c io.Closer) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		c.Close()
		return false
	}
	x.conns = append(x.conns, c)
	return true
}

// riddle is in the name that serve asks each upstream for at its start, to see
// whether it is asked in turn: no client's question.
var riddle = []byte("\x04loop\x0begressaudit\x07invalid\x00")

func (x *tap) keep(list *[][]byte, pkt []byte) {
	if bytes.Contains(pkt, riddle) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	*list = append(*list, slices.Clone(pkt))
}

// packets are those that went up and down so far, without their IDs.
func (x *tap) packets() (up, down [][]byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return withoutIDs(x.up), withoutIDs(x.down)
}

func withoutIDs(pkts [][]byte) [][]byte {
	var all [][]byte
	for _, p := range pkts {
		all = append(all, p[min(2, len(p)):])
	}
	return all
}

// answered passes one answer on.
func (x *tap) answered(pkt []byte, send func([]byte)) {
	pkt = slices.Clone(pkt)
	deliver := func(p []byte) {
		x.keep(&x.down, p)
		send(p)
	}
	if x.pass == nil || bytes.Contains(pkt, riddle) {
		deliver(pkt)
		return
	}
	x.running.Go(func() { x.pass(pkt, deliver) })
}

func (x *tap) serveUDP() {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := x.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		x.keep(&x.up, buf[:n])
		if far := x.way(from); far != nil {
			far.Write(buf[:n])
		}
	}
}

// way is the socket to the server for one client; nil when all is over.
func (x *tap) way(from netip.AddrPort) net.Conn {
	x.mu.Lock()
	far := x.ways[from]
	x.mu.Unlock()
	if far != nil {
		return far
	}
	far, err := net.Dial("udp", x.to)
	if err != nil || !x.opened(far) {
		return nil
	}
	x.mu.Lock()
	x.ways[from] = far
	x.mu.Unlock()
	x.running.Go(func() { x.returnUDP(far, from) })
	return far
}

// clients are those who asked over UDP.
func (x *tap) clients() []netip.AddrPort {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Collect(maps.Keys(x.ways))
}

func (x *tap) returnUDP(conn net.Conn, to netip.AddrPort) {
	buf := make([]byte, 1<<16)
	for {
		n, err := conn.Read(buf)
		switch {
		case err == nil:
			x.answered(buf[:n], func(p []byte) { x.udp.WriteToUDPAddrPort(p, to) })
		case x.isClosed():
			return
		}
	}
}

func (x *tap) isClosed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.closed
}

func (x *tap) serveTCP() {
	for {
		near, err := x.tcp.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", x.to)
		if err != nil {
			near.Close()
			continue
		}
		if !x.opened(near) || !x.opened(far) {
			return
		}
		x.running.Go(func() {
			defer far.(*net.TCPConn).CloseWrite()
			frames(near, func(p []byte) { x.keep(&x.up, p); writeFrame(far, p) })
		})
		x.running.Go(func() {
			defer near.(*net.TCPConn).CloseWrite()
			var one sync.Mutex
			frames(far, func(p []byte) {
				x.answered(p, func(p []byte) { one.Lock(); defer one.Unlock(); writeFrame(near, p) })
			})
		})
	}
}

// frames reads messages of a stream (RFC 1035 section 4.2.2) to its end.
func frames(r io.Reader, each func([]byte)) {
	for {
		pkt, err := readFrame(r)
		if err != nil {
			return
		}
		each(pkt)
	}
}

func readFrame(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	pkt := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, pkt)
	return pkt, err
}

func writeFrame(w io.Writer, pkt []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(pkt))), pkt...))
	return err
}
