//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// origin is where the traffic ends: where the generator serves TLS and as many
// raw octets as asked, or the name server that is asked in the end.
type origin struct{ tls, raw, names string }

func (o origin) tlsPort() string { return portOf(o.tls) }
func (o origin) rawPort() string { return portOf(o.raw) }

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// serveOrigin starts the generator's origin; stop ends it.
func (o options) serveOrigin(ctx context.Context) (at origin, stop func() error, err error) {
	addrs, err := free(2)
	if err != nil {
		return origin{}, nil, err
	}
	at = origin{tls: addrs[0], raw: addrs[1]}
	r, err := o.launch(ctx, at.tls, "./proxybench", "origin", "-listen", at.tls, "-raw", at.raw)
	if err != nil {
		return origin{}, nil, err
	}
	return at, r.stop, nil
}

// measure is one run of the generator, and what is read from it.
type measure struct {
	args    []string // of the generator
	tunnels int      // how many it opens, or questions it asks
	warm    int      // how many are opened before
	figures []figure
}

// figure is one number of a measure.
type figure struct {
	name    string
	of      func(result) float64
	targets []target
}

// target bounds the ratio to a peer's figure.
type target struct {
	peer  string
	ratio float64
	bound bound
}

// bound is on which side of the ratio we have to stay.
type bound string

const (
	atMost  bound = "≤"
	below   bound = "<"
	atLeast bound = "≥"
)

// result is one run: the processor time that the peer used, over all its
// threads, and the generator's own figures.
type result struct {
	cpu  time.Duration
	told map[string]float64
}

// contest is what is measured side by side in one table.
type contest struct {
	peers    []peer
	columns  []string // their names, in the order of the table
	measures []measure
	mark     string // of the place in the page where the table goes
	at       origin
	load     func(context.Context, *running, measure, origin) (result, error)
}

// proxyContest starts the origin; stop ends it.
func (o options) proxyContest(ctx context.Context) (c contest, stop func() error, err error) {
	at, stop, err := o.serveOrigin(ctx)
	return contest{
		peers: peers(), columns: []string{"egressaudit", "goproxy", "tinyproxy", "squid"}, measures: measures(at, o.scale),
		mark: "table", at: at, load: o.load,
	}, stop, err
}

func measures(at origin, scale float64) []measure {
	work := func(n int) int { return max(1, int(float64(n)*scale)) }
	named := func(port string) string { return net.JoinHostPort("localhost", port) }
	conn := func(parallel, n int, more ...figure) measure {
		return measure{
			args:    []string{"conn", "-target", named(at.tlsPort()), "-c", strconv.Itoa(parallel), "-n", strconv.Itoa(n)},
			tunnels: n, warm: 500,
			figures: append([]figure{{
				fmt.Sprintf("processor time for a new tunnel, %d at once (µs)", parallel),
				func(r result) float64 { return float64(r.cpu.Microseconds()) / float64(n) },
				[]target{{"goproxy", 1.05, atMost}},
			}}, more...),
		}
	}
	told := func(name, key string, targets ...target) figure {
		return figure{name, func(r result) float64 { return r.told[key] }, targets}
	}
	octets, idle, setups := work(16)<<29, work(3000), work(4000)
	return []measure{
		conn(1, work(8000)),
		conn(32, work(12000), told("new tunnels, 32 at once (/s)", "per_s")),
		{
			args:    []string{"latency", "-target", named(at.tlsPort()), "-n", strconv.Itoa(setups)},
			tunnels: setups, warm: 500,
			figures: []figure{told("set-up latency, p50 (µs)", "setup_p50_us", target{"goproxy", 1.1, atMost}), told("set-up latency, p99 (µs)", "setup_p99_us")},
		},
		{
			args:    []string{"bulk", "-target", named(at.rawPort()), "-c", "1", "-bytes", strconv.Itoa(octets)},
			tunnels: 1,
			figures: []figure{{
				"processor time for a GB of download (ms)",
				func(r result) float64 { return r.cpu.Seconds() * 1e12 / r.told["got"] },
				[]target{{"goproxy", 1.1, atMost}, {"squid", 0.5, below}},
			}, told("download through one tunnel (MB/s)", "MB_per_s")},
		},
		{
			args:    []string{"idle", "-target", named(at.rawPort()), "-c", strconv.Itoa(idle)},
			tunnels: idle,
			figures: []figure{told("resident memory for an idle tunnel (kB)", "kb_per_tunnel", target{"goproxy", 1, atMost})},
		},
	}
}

// try runs m through a fresh process of p. Where p records what passes, each
// tunnel or question must stand in its file at the end: what is measured did the
// work.
func (o options) try(ctx context.Context, c contest, p peer, m measure) (result, error) {
	os.Remove(o.in(p.log))
	addrs, err := free(1)
	if err != nil {
		return result{}, err
	}
	r, err := o.launch(ctx, addrs[0], p.args(addrs[0], c.at, o.file)...)
	if err != nil {
		return result{}, err
	}
	got, err := c.load(ctx, r, m, c.at)
	if stopped := r.stop(); err == nil {
		err = stopped
	}
	if err == nil && p.log != "" {
		err = recorded(o.in(p.log), p.line, m.tunnels+m.warm)
	}
	return got, err
}

// load warms the peer up and measures it.
func (o options) load(ctx context.Context, r *running, m measure, at origin) (result, error) {
	if m.warm > 0 {
		if _, err := o.generate(ctx, r, "conn", "-target", net.JoinHostPort("localhost", at.tlsPort()), "-c", "32", "-n", strconv.Itoa(m.warm)); err != nil {
			return result{}, err
		}
	}
	before, err := processorTime(r.Process.Pid)
	if err != nil {
		return result{}, err
	}
	told, err := o.generate(ctx, r, m.args...)
	if err != nil {
		return result{}, err
	}
	after, err := processorTime(r.Process.Pid)
	return result{cpu: after - before, told: told}, err
}

// generate runs the generator; a single error in it spoils the run.
func (o options) generate(ctx context.Context, r *running, args ...string) (map[string]float64, error) {
	c := exec.CommandContext(ctx, o.in("proxybench"), append(args, "-proxy", r.addr, "-pid", strconv.Itoa(r.Process.Pid))...)
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("generator: %w: %s", err, said.Bytes())
	}
	var all map[string]any
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, fmt.Errorf("generator: %w in %q", err, out)
	}
	told := map[string]float64{}
	for k, v := range all {
		if n, ok := v.(float64); ok {
			told[k] = n
		}
	}
	if told["errors"] != 0 {
		return nil, fmt.Errorf("generator: %g errors: %s", told["errors"], said.Bytes())
	}
	return told, nil
}

// processorTime is what a process has used, user and system, over all its
// threads, those that have ended included. Unlike the 10 ms ticks of
// /proc/PID/stat the clock counts nanoseconds.
func processorTime(pid int) (time.Duration, error) {
	var t unix.Timespec
	// clock_getcpuclockid(3): the process's number, inverted, and CPUCLOCK_SCHED.
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
		return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// recorded checks that a file has n records: exactly so many lines with this text
// in them, or where the text is "", at least so many lines.
func recorded(path, text string, n int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.Contains(s.Text(), text) {
			lines++
		}
	}
	if lines < n || text != "" && lines > n {
		return fmt.Errorf("read %q: %d lines for %d tunnels or questions", path, lines, n)
	}
	return nil
}
