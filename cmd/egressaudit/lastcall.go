package main

import (
	"net"
	"sync/atomic"
	"time"
)

const (
	// lastCall is how long a listener that ends still waits for the end of
	// handshakes that are under way: a client whose handshake is done believes that
	// it is served. It is the wait of dnsaudit, too.
	lastCall = 50 * time.Millisecond
	// quiet is how long nobody may come for the last one to have come. That is tried
	// for lastCallAtMost, or for lastCallOpen where new ones cannot be kept away.
	quiet          = time.Millisecond
	lastCallAtMost = time.Minute
	lastCallOpen   = time.Second
)

// listener lets those in who have knocked before it ends. The kernel resets what
// waits in a listening socket that is closed: a client that was told "connected"
// would lose its connection for no reason that it could know.
//
// Close begins the last call, and returns at once: no new handshake begins (Linux),
// Accept goes on until nobody waits, and closes the socket. So somebody has to be
// in Accept; a listener that never was is closed at once, as is one that is closed
// again.
type listener struct {
	*net.TCPListener
	accepting atomic.Bool
	end       atomic.Pointer[time.Time] // when the last call is over, at the latest; nil: not yet
}

func (l *listener) Accept() (net.Conn, error) {
	l.accepting.Store(true)
	c, err := l.TCPListener.Accept()
	end := l.end.Load()
	if err == nil || end == nil {
		return c, err
	}
	if now := time.Now(); now.Before(*end) { // those who wait come without waiting
		l.TCPListener.SetDeadline(now.Add(quiet))
		if c, err = l.TCPListener.Accept(); err == nil {
			return c, nil
		}
	}
	l.TCPListener.Close()
	return nil, net.ErrClosed
}

// Close ends the listener, as above.
func (l *listener) Close() error {
	if !l.accepting.Load() || l.end.Load() != nil {
		return l.TCPListener.Close()
	}
	return l.SetDeadline(time.Now().Add(lastCall))
}

// SetDeadline begins the last call, which ends then: so dnsaudit ends a listener.
func (l *listener) SetDeadline(t time.Time) error {
	most := lastCallOpen
	if admitNone(l.TCPListener) {
		most = lastCallAtMost
	}
	end := time.Now().Add(most)
	l.end.Store(&end)
	return l.TCPListener.SetDeadline(t)
}
