//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egressaudit/egressaudit/test/lab/netns"
)

// capturing sends what comes from the client to port 3129 of the gateway.
const capturing = "table ip capture { chain p { type nat hook prerouting priority dstnat; ip saddr 10.8.1.2 tcp dport { 443, 8444 } redirect to :3129; }; }"

// warm is how many connections go before those that are counted.
const warm = 500

// try runs m through a fresh process of g. Where that records what passes, each
// connection must stand in its file at the end: what is measured did the work.
func (b *bench) try(ctx context.Context, s samples, m measure, g gateway) error {
	if g.args == nil {
		told, err := b.generate(ctx, m.args...)
		if err == nil {
			s.add(m, g, 0, told)
		}
		return err
	}
	if g.log != "" {
		os.Remove(filepath.Join(b.dir, g.log))
	}
	c := b.command(ctx, g.name+".out", g.args...)
	if err := b.gate.Start(c); err != nil {
		return err
	}
	stopped := false
	defer func() {
		if !stopped {
			end(c, syscall.SIGKILL)
		}
	}()
	if err := b.listens(ctx, b.gate, "127.0.0.1:3129"); err != nil {
		return err
	}
	if err := b.gate.Nft(capturing); err != nil {
		return err
	}
	err := b.load(ctx, s, m, g, c.Process.Pid)
	stopped = true
	end(c, g.soft)
	if bad := b.gate.Nft("delete table ip capture"); err == nil {
		err = bad
	}
	if err == nil && g.log != "" {
		err = recorded(filepath.Join(b.dir, g.log), m.conns+warm)
	}
	return err
}

// load warms the gateway up and measures it.
func (b *bench) load(ctx context.Context, s samples, m measure, g gateway, pid int) error {
	if _, err := b.generate(ctx, "conn", "-target", originName+":443", "-c", "32", "-n", fmt.Sprint(warm)); err != nil {
		return err
	}
	before, err := processorTime(pid)
	if err != nil {
		return err
	}
	told, err := b.generate(ctx, m.args...)
	if err != nil {
		return err
	}
	after, err := processorTime(pid)
	if err == nil {
		s.add(m, g, after-before, told)
	}
	return err
}

// generate runs the generator as a client; a single error in it spoils the run.
func (b *bench) generate(ctx context.Context, args ...string) (map[string]float64, error) {
	var out, said bytes.Buffer
	c := exec.CommandContext(ctx, "unshare", append([]string{"-m", "sh", "-c", `mount --bind hosts /etc/hosts && exec "$0" "$@"`, "./proxybench"}, args...)...)
	c.Dir, c.Stdout, c.Stderr = b.dir, &out, &said
	if err := b.client.Start(c); err != nil {
		return nil, err
	}
	if err := c.Wait(); err != nil {
		return nil, fmt.Errorf("generator: %w: %s", err, said.Bytes())
	}
	var all map[string]any
	if err := json.Unmarshal(out.Bytes(), &all); err != nil {
		return nil, fmt.Errorf("generator: %w in %q", err, out.Bytes())
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

// command prepares a program in b.dir, with its output in a file there.
func (b *bench) command(ctx context.Context, out string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Dir, c.Env = b.dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir}
	if f, err := os.Create(filepath.Join(b.dir, out)); err == nil {
		c.Stdout, c.Stderr = f, f
	}
	return c
}

// end ends a program, by force where it does not end.
func end(c *exec.Cmd, how syscall.Signal) {
	c.Process.Signal(how)
	late := time.AfterFunc(15*time.Second, func() { c.Process.Kill() })
	defer late.Stop()
	c.Wait()
}

// listens waits until an address of a namespace accepts.
func (b *bench) listens(ctx context.Context, in *netns.Space, addr string) error {
	for range 1000 {
		err := in.Do(func() error {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				c.Close()
			}
			return err
		})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("%q does not listen after 10 seconds", addr)
}

// processorTime is what a process has used, user and system, over all its threads,
// by the clock of clock_getcpuclockid(3).
func processorTime(pid int) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
		return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// recorded checks that a file has at least n lines.
func recorded(path string, n int) error {
	text, err := os.ReadFile(path)
	if lines := bytes.Count(text, []byte("\n")); err == nil && lines < n {
		err = fmt.Errorf("read %q: %d lines for %d connections", path, lines, n)
	}
	return err
}

// inTurn runs every other round backwards.
func inTurn(all []gateway, round int) []gateway {
	if round%2 == 1 {
		slices.Reverse(all)
	}
	return all
}

// samples are the figures by name and gateway, one a round.
type samples struct {
	measures []measure
	seen     map[string]map[string][]float64
}

func (s samples) add(m measure, g gateway, cpu time.Duration, told map[string]float64) {
	for _, f := range m.figures {
		if f.own && g.args == nil {
			continue
		}
		if s.seen[f.name] == nil {
			s.seen[f.name] = map[string][]float64{}
		}
		s.seen[f.name][g.name] = append(s.seen[f.name][g.name], f.of(cpu, told))
	}
}

// render makes two tables: what is held, and the figures.
func (s samples) render() string {
	var held, figures strings.Builder
	held.WriteString("| figure | target | median ratio | least … most | held |\n|---|---|---:|---:|---|\n")
	figures.WriteString("| median of the rounds | egressaudit | haproxy | bare Go relay | plain forwarding |\n|---|---:|---:|---:|---:|\n")
	for _, m := range s.measures {
		for _, f := range m.figures {
			by := s.seen[f.name]
			plain := "–"
			if !f.own {
				plain = digits(median(by[forwarding]))
			}
			fmt.Fprintf(&figures, "| %s | %s | %s | %s | %s |\n", f.name, digits(median(by["egressaudit"])), digits(median(by["haproxy"])), digits(median(by[bare])), plain)
			if f.bound == 0 {
				continue
			}
			r := ratios(by["egressaudit"], by["haproxy"])
			answer := "yes"
			if median(r) > f.bound {
				answer = "**no**"
			}
			fmt.Fprintf(&held, "| %s | ≤ %.2f × haproxy | %.3f | %.3f … %.3f | %s |\n", f.name, f.bound, median(r), r[0], r[len(r)-1], answer)
		}
	}
	return held.String() + "\n" + figures.String()
}

// ratios are those within each round, in order of size: what slows the machine
// for a while slows both.
func ratios(ours, theirs []float64) []float64 {
	out := make([]float64, len(ours))
	for i := range ours {
		out[i] = ours[i] / theirs[i]
	}
	slices.Sort(out)
	return out
}

// median of a copy; of an even number, the mean of the two in the middle.
func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// digits shows three of them.
func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
