package proxy

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// mover moves bytes between two sockets: through a buffer as long as they are
// looked at or few, by splice(2) once bulk flows. Between two arrivals it holds
// neither buffer nor pipe.
type mover struct {
	in, out  syscall.RawConn
	readable func(fd uintptr) bool
	writable func(fd uintptr) bool
	buf      *[32 << 10]byte
	pipe     *pipe
	n        int
	err      error
	taken    int64 // octets read here
	room     int64 // octets that may go by unseen
	more     int   // a flag of splice(2): something follows at once
}

// next waits until the source has something, and moves that.
func (f *flow) next() (who side, err error) {
	if f.in == nil {
		f.open()
	}
	if err := f.in.Read(f.readable); err != nil {
		return f.from, err
	}
	switch {
	case f.err != nil:
		return f.from, f.err
	case f.n == 0:
		return f.from, io.EOF
	case f.pipe != nil:
		return f.drain()
	}
	if f.n == len(f.buf) {
		f.full++
	} else if f.full < bulk || f.room > 0 { // what has to be looked at ends no bulk
		f.full = 0
	}
	who, err = f.pass(f.buf[:f.n])
	buffers.Put(f.buf)
	return who, err
}

func (f *flow) open() {
	f.in, _ = f.src.SyscallConn() // fails on a zero TCPConn alone
	f.readable = f.take
}

// take reads what is there: true when there was something, or an end.
func (f *flow) take(fd uintptr) bool {
	f.n, f.err, f.pipe, f.room = 0, nil, nil, 0
	if f.full >= bulk {
		f.room = f.tunnel.unseen(f.from)
	}
	if f.room > 0 {
		if f.pipe = takePipe(); f.pipe != nil {
			return f.suck(int(fd))
		}
	}
	f.buf = buffers.Get().(*[32 << 10]byte)
	f.n, f.err = retry(func() (int, error) { return unix.Read(int(fd), f.buf[:]) })
	if f.n <= 0 {
		buffers.Put(f.buf)
	}
	return f.settle(int(fd))
}

// settle counts what a read or splice took, and says whether there is something
// to tell. Linux tells a socket's error once, and splice(2) may keep it: then a
// reset looks like an end here.
func (f *flow) settle(fd int) bool {
	f.taken += int64(max(f.n, 0))
	if f.n == 0 && f.err == nil && f.wasReset(fd) {
		f.err = unix.ECONNRESET
	}
	return f.err != unix.EAGAIN
}

// wasReset says whether the source was reset and never ended before: its
// connection is gone although our side has not ended it, and no FIN came. TCP
// counts a FIN as one octet received (tcp_info, tcpi_bytes_received).
func (f *flow) wasReset(fd int) bool {
	if f.from != serverSide || f.tunnel.half.Load() {
		return false // what net/http read of the client nobody counted
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State == tcpClose && int64(info.Bytes_received) == f.tunnel.route.read+f.taken
}

// tcpClose is the state of a connection that is gone (include/net/tcp_states.h).
const tcpClose = 7

// suck splices from the source into the pipe.
func (f *flow) suck(fd int) bool {
	f.n, f.err = splice(fd, f.pipe.w, int(min(f.room, pipeSize)), 0)
	if f.err == unix.EAGAIN || f.n <= 0 {
		f.pipe.put()
		f.pipe = nil
	}
	return f.settle(fd)
}

// drain splices from the pipe to the destination until it is empty, but for the
// last octets where somebody has to look at them.
func (f *flow) drain() (side, error) {
	if f.out == nil {
		f.out, _ = f.dst.SyscallConn()
		f.writable = f.give
	}
	f.tunnel.touch()
	f.parting.Store(0) // nobody looked
	show := f.tunnel.skip(f.from, f.n)
	f.n, f.more = f.n-show, 0
	if show > 0 {
		f.more = unix.SPLICE_F_MORE // they go out together
	}
	err := f.out.Write(f.writable)
	if err == nil {
		err = f.err
	}
	if err == nil && show > 0 {
		err = f.showLast(show)
	}
	if err != nil {
		f.pipe.close() // it holds bytes that nobody will take
		return f.from.other(), err
	}
	f.pipe.put()
	return nobody, nil
}

// showLast passes the last n octets of the pipe on, looking at them.
func (f *flow) showLast(n int) error {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	got, err := retry(func() (int, error) { return unix.Read(f.pipe.r, buf[:n]) })
	if err != nil {
		return err
	}
	if got != n { // a pipe has all that was put into it, or something is very wrong
		return io.ErrUnexpectedEOF
	}
	_, err = f.pass(buf[:n])
	return err
}

func (f *flow) give(fd uintptr) bool {
	for f.n > 0 {
		n, err := splice(f.pipe.r, int(fd), f.n, f.more)
		if err == unix.EAGAIN {
			return false
		}
		if err != nil {
			f.err = err
			return true
		}
		f.n -= n
		f.bytes.Add(int64(n))
		f.tunnel.touch()
	}
	return true
}

func splice(from, to, n, flags int) (int, error) {
	return retry(func() (int, error) {
		m, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE|flags)
		return int(m), err
	})
}

func retry(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != unix.EINTR {
			return n, err
		}
	}
}

// pipe is a kernel buffer between two sockets.
type pipe struct{ r, w int }

const (
	pipeSize = 1 << 20
	spare    = 16 // pipes kept for the next burst
)

var pipes = make(chan *pipe, spare)

// takePipe returns an empty pipe; nil where none is to be had, and then the
// buffer does.
func takePipe() *pipe {
	select {
	case p := <-pipes:
		return p
	default:
	}
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return nil
	}
	unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize) // what the user may not have, a smaller pipe does
	return &pipe{fds[0], fds[1]}
}

func (p *pipe) put() {
	select {
	case pipes <- p:
	default:
		p.close()
	}
}

func (p *pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// left waits until c's peer ends the connection; false when bytes come first,
// or the read deadline.
func left(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	var one [1]byte
	err = raw.Read(func(fd uintptr) bool {
		n, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		gone = err != unix.EAGAIN && n <= 0
		return err != unix.EAGAIN
	})
	return err == nil && gone
}
