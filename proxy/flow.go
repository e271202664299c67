package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

// flow is one direction of a tunnel.
type flow struct {
	tunnel  *tunnel
	src     *net.TCPConn
	dst     *net.TCPConn
	from    side
	bytes   atomic.Int64
	full    int           // reads in a row that filled the buffer: bulk
	parting atomic.Uint32 // hello.AlertAtEnd of the last bytes
	mover                 // what the system needs to move bytes
}

// buffers are taken only while there are bytes to move, so that a tunnel that
// waits holds none.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// bulk is how many full reads in a row make the kernel take over.
const bulk = 2

// run passes bytes on until the source ends, first those that were read
// already. An end goes on as an end (half-close), a reset as a reset.
func (f *flow) run(first []byte) {
	who, err := f.pass(first)
	for err == nil {
		who, err = f.next()
	}
	if errors.Is(err, syscall.EPIPE) {
		return // the destination of this direction is gone: the other one reads how
	}
	how := ending(err)
	f.tunnel.over(who, how)
	if err == io.EOF && !(f.from == clientSide && f.tunnel.pointless()) {
		if !f.tunnel.half.Swap(true) {
			f.dst.CloseWrite() // the second end closes both
		}
		return
	}
	if how == closeRST {
		f.dst.SetLinger(0)
		f.src.SetLinger(0)
	}
	f.dst.Close()
	f.src.Close()
}

// pass looks at b, as long as that can tell something, and writes it on. who is
// the end that failed.
func (f *flow) pass(b []byte) (who side, err error) {
	if len(b) == 0 {
		return nobody, nil
	}
	now := f.tunnel.touch()
	if !f.tunnel.decided.Load() {
		f.tunnel.saw(f.from, b, now)
	}
	f.parting.Store(uint32(hello.AlertAtEnd(b)))
	n, err := f.dst.Write(b)
	f.bytes.Add(int64(n))
	return f.from.other(), err
}

func (s side) other() side {
	if s == clientSide {
		return serverSide
	}
	return clientSide
}
