package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	beat        = time.Second           // between the lines that a tunnel carries
	again       = 50 * time.Millisecond // before a tunnel that failed is opened again
	maxFailures = 50                    // that are told one by one
	maxBusy     = 4000                  // new connections under way: beyond, the rate is not held
)

// load is what is done, and to whom.
type load struct {
	Proxy, Target string
	Rate          float64 // new connections a second
	Tunnels       int
	Patience      time.Duration // for one answer

	up     sync.WaitGroup // until every tunnel was open once
	mu     sync.Mutex
	result Result
	busy   chan struct{}
	counts []int // new connections begun, by second
}

// Result is what a load did. A connection or tunnel that was begun is in OK or in
// Failed, and one record of the proxy's belongs to each in OK.
type Result struct {
	Begun       time.Time `json:"begun"`
	Ended       time.Time `json:"ended"`
	Rate        Rate      `json:"rate"`
	Connections Count     `json:"connections"`
	Tunnels     Count     `json:"tunnels"`
	Cuts        []Cut     `json:"cuts"`     // tunnels that were ended by the other side
	Failures    []Failure `json:"failures"` // the first of them
}

// Rate is how many new connections were begun in each second.
type Rate struct {
	Asked float64 `json:"asked"`
	Held  float64 `json:"held"`
	Least int     `json:"least"` // in one whole second
}

// Count counts connections, or tunnels.
type Count struct {
	Begun     int       `json:"begun"`
	OK        int       `json:"ok"`
	Failed    int       `json:"failed"`
	SlowestMS int64     `json:"slowest_ms"` // until a line had come back; of a connection, until its end
	SlowestAt time.Time `json:"slowest_at"` // when that one was begun
	Slow      int       `json:"slow"`       // that took a second or more: a lost SYN is sent again after one
}

// Cut is a tunnel that was open, and that the other side ended.
type Cut struct {
	Opened time.Time `json:"opened"`
	Cut    time.Time `json:"cut"`
	How    string    `json:"how"`
}

// Failure is a connection or tunnel that never worked.
type Failure struct {
	Begun time.Time `json:"begun"`
	What  string    `json:"what"` // connection or tunnel
	Step  string    `json:"step"` // dial, connect or echo
	Error string    `json:"error"`
}

// run makes the load until ctx ends, and waits for what is under way. up is called
// when every tunnel was open.
func (l *load) run(ctx context.Context, up func()) Result {
	l.busy = make(chan struct{}, maxBusy)
	l.result = Result{Begun: time.Now(), Cuts: []Cut{}, Failures: []Failure{}, Rate: Rate{Asked: l.Rate}}
	l.up.Add(l.Tunnels)
	var all sync.WaitGroup
	for range l.Tunnels {
		all.Go(func() { l.hold(ctx) })
	}
	l.up.Wait()
	up()
	l.pace(ctx, &all)
	all.Wait()
	l.result.Ended = time.Now()
	return l.result
}

// pace begins new connections. Those that are late begin at once, so that the rate
// holds over time.
func (l *load) pace(ctx context.Context, all *sync.WaitGroup) {
	begun := time.Now()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			l.held(n, time.Since(begun))
			return
		case <-time.After(time.Until(begun.Add(time.Duration(float64(n) / l.Rate * float64(time.Second))))):
		}
		l.busy <- struct{}{}
		if second := int(time.Since(begun) / time.Second); second >= len(l.counts) {
			l.counts = append(l.counts, make([]int, second+1-len(l.counts))...)
		}
		l.counts[len(l.counts)-1]++
		all.Go(func() {
			defer func() { <-l.busy }()
			l.once()
		})
	}
}

func (l *load) held(n int, took time.Duration) {
	r := &l.result.Rate
	r.Held = float64(n) / took.Seconds()
	for i, c := range l.counts[:max(len(l.counts)-1, 0)] { // the last second is not whole
		if i == 0 || c < r.Least {
			r.Least = c
		}
	}
}

// once is one new connection, from dial to end.
func (l *load) once() {
	begun := time.Now()
	c, err := l.open(once)
	if err == nil {
		defer c.Close()
		if _, err = c.r.ReadByte(); errors.Is(err, io.EOF) {
			err = nil
		} else {
			err = fmt.Errorf("end: %w", err)
		}
	}
	l.count(&l.result.Connections, "connection", begun, err)
}

// hold keeps one tunnel open until ctx ends, and opens another where it is cut.
func (l *load) hold(ctx context.Context) {
	first := true
	for ctx.Err() == nil {
		begun := time.Now()
		c, err := l.open("held\n")
		l.count(&l.result.Tunnels, "tunnel", begun, err)
		if first {
			first = false
			l.up.Done()
		}
		if err == nil {
			l.keep(ctx, c)
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
	if first {
		l.up.Done()
	}
}

// keep sends a line each beat until ctx ends or the tunnel does.
func (l *load) keep(ctx context.Context, c *tunnel) {
	opened := time.Now()
	c.SetDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { c.Close() })
	ended := make(chan struct{})
	go c.beat(ended)
	var err error
	for err == nil {
		_, err = c.r.ReadSlice('\n')
	}
	cut := time.Now()
	if stop() { // ctx goes on: it was not us
		l.mu.Lock()
		l.result.Cuts = append(l.result.Cuts, Cut{Opened: opened, Cut: cut, How: err.Error()})
		l.mu.Unlock()
	}
	close(ended)
	c.Close()
}

// beat sends a line each beat until the tunnel has ended.
func (c *tunnel) beat(ended <-chan struct{}) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			if _, err := io.WriteString(c, "held\n"); err != nil {
				return // the reader sees the end, too
			}
		}
	}
}

// count enters what became of one.
func (l *load) count(in *Count, what string, begun time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	in.Begun++
	if err == nil {
		in.OK++
		took := time.Since(begun)
		in.Slow += int(min(took/time.Second, 1))
		if ms := took.Milliseconds(); ms > in.SlowestMS {
			in.SlowestMS, in.SlowestAt = ms, begun
		}
		return
	}
	in.Failed++
	if len(l.result.Failures) < maxFailures {
		step, text, _ := strings.Cut(err.Error(), ": ")
		l.result.Failures = append(l.result.Failures, Failure{Begun: begun, What: what, Step: step, Error: text})
	}
}

// tunnel is a connection behind the proxy's answer.
type tunnel struct {
	net.Conn
	r *bufio.Reader
}

// open opens a tunnel, and has one line come back through it. The error begins with
// the step.
func (l *load) open(line string) (*tunnel, error) {
	raw, err := net.DialTimeout("tcp", l.Proxy, l.Patience)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	c := &tunnel{raw, bufio.NewReaderSize(raw, 1024)}
	c.SetDeadline(time.Now().Add(l.Patience))
	if err = c.connect(l.Target); err == nil {
		err = c.echo(line)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *tunnel) connect(target string) error {
	if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	status, err := c.r.ReadString('\n')
	for line := status; err == nil && line != "\r\n"; {
		line, err = c.r.ReadString('\n')
	}
	switch f := strings.Fields(status); {
	case err != nil:
		return fmt.Errorf("connect: %w", err)
	case len(f) < 2 || f[1] != "200":
		return fmt.Errorf("connect: answered %q", strings.TrimSpace(status))
	}
	return nil
}

func (c *tunnel) echo(line string) error {
	_, err := io.WriteString(c, line)
	if err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	back, err := c.r.ReadString('\n')
	if err == nil && back != line {
		err = fmt.Errorf("sent %q, and %q came back", line, back)
	}
	if err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	return nil
}
