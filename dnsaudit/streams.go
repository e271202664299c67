package dnsaudit

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// Of the connections to one server.
const (
	streamsMax = 8
	// streamLoad is how many questions wait on each connection before another is
	// opened.
	streamLoad = 64
	// streamIdle is how long a connection without questions stays (RFC 7766
	// section 6.2.3: a few seconds).
	streamIdle = 10 * time.Second
)

// streams sends questions to one server over TCP or TLS, several at a time over
// each connection, which it keeps while it is used (RFC 7766, RFC 7858). Safe
// for use by several goroutines at once.
type streams struct {
	to      *upstream
	tls     *tls.Config   // nil: plain TCP
	timeout time.Duration // for a dial
	counts  *counters

	mu      sync.Mutex
	open    []*stream
	dial    *dial // the one under way; nil: none is
	closed  bool
	running sync.WaitGroup
}

// dial is one attempt to connect.
type dial struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // set before done is closed
}

var errLeft = errors.New("the question has ended")

// send sends w's question in a goroutine of its own. What comes back is told to
// w, with the way given.
func (s *streams) send(w *waiter, by way) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		w.tell(event{way: by, err: net.ErrClosed})
		return
	}
	s.running.Go(func() {
		c, err := s.pick(w.done)
		if err != nil {
			w.tell(event{way: by, err: brief(err)})
			return
		}
		c.send(w, by)
	})
}

// pick finds a connection with room, or waits for a new one.
func (s *streams) pick(left <-chan struct{}) (*stream, error) {
	for {
		s.mu.Lock()
		if c := s.roomiest(); c != nil || s.closed {
			s.mu.Unlock()
			if c == nil {
				return nil, net.ErrClosed
			}
			return c, nil
		}
		d := s.begin()
		s.mu.Unlock()
		select {
		case <-left:
			return nil, errLeft
		case <-d.done:
			if d.err != nil {
				return nil, d.err
			}
		}
	}
}

// roomiest is the connection where the fewest questions wait; nil where a new
// one is better.
func (s *streams) roomiest() *stream {
	var best *stream
	least := streamLoad
	if len(s.open) >= streamsMax {
		least = 1 << 16
	}
	for _, c := range s.open {
		if n, usable := c.load(); usable && n < least {
			best, least = c, n
		}
	}
	return best
}

// begin starts a dial, unless one is under way.
func (s *streams) begin() *dial {
	if s.dial == nil {
		ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
		d := &dial{cancel: cancel, done: make(chan struct{})}
		s.dial = d
		s.running.Go(func() { s.connect(ctx, d) })
	}
	return s.dial
}

func (s *streams) connect(ctx context.Context, d *dial) {
	defer close(d.done)
	defer d.cancel()
	conn, err := s.connected(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dial = nil
	if err == nil && s.closed {
		err = net.ErrClosed
		conn.Close()
	}
	if d.err = err; err != nil {
		return
	}
	c := &stream{conn: conn, streams: s, waiting: make(map[uint16]askedAt)}
	s.open = append(s.open, c)
	c.rest()
	s.running.Go(c.read)
}

func (s *streams) connected(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	if s.tls == nil {
		return dialer.DialContext(ctx, "tcp", s.to.Addr.String())
	}
	return (&tls.Dialer{NetDialer: &dialer, Config: s.tls}).DialContext(ctx, "tcp", s.to.Addr.String())
}

func (s *streams) remove(c *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = slices.DeleteFunc(s.open, func(o *stream) bool { return o == c })
}

// shut closes all connections; no question may wait any more.
func (s *streams) shut() {
	s.mu.Lock()
	s.closed = true
	if s.dial != nil {
		s.dial.cancel()
	}
	for _, c := range s.open {
		c.conn.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}
