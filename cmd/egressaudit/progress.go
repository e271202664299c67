package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/report"
)

// terminal is w where it is one.
func terminal(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// columns is the width of a terminal; 0 where w is none, or does not say.
func columns(w io.Writer) int {
	f, ok := terminal(w)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// textOptions fit a report to where it goes: colour on a terminal that wants
// any, and its width.
func textOptions(w io.Writer) report.TextOptions {
	if _, ok := terminal(w); !ok {
		return report.TextOptions{}
	}
	width := columns(w)
	if width <= 0 || width > 100 {
		width = 100
	}
	return report.TextOptions{Width: max(width, 40), Color: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// progress is one line on a terminal that says how a trial goes. Where stderr is
// no terminal it does nothing.
type progress struct {
	out    io.Writer // nil: nothing
	mu     sync.Mutex
	engine *report.Engine // nil before start
	shown  string
	done   chan struct{}
	ended  sync.WaitGroup
}

func newProgress(env environ) *progress {
	p := &progress{done: make(chan struct{})}
	if f, ok := terminal(env.stderr); ok {
		p.out = f
	}
	return p
}

// add takes an observation as the ledger does.
func (p *progress) add(o *policy.Observation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.engine != nil {
		p.engine.Add(&policy.Record{Time: time.Now(), Kind: o.Kind, Observation: o})
	}
}

// start shows the line and renews it each second.
func (p *progress) start(o report.Options) {
	if p.out == nil {
		return
	}
	engine := report.New(o)
	p.mu.Lock()
	p.engine = engine
	p.mu.Unlock()
	p.ended.Go(func() {
		every := time.NewTicker(time.Second)
		defer every.Stop()
		for {
			s := engine.Report().Summary
			p.show(fmt.Sprintf("%d endpoints used, %d blocked, %d unlisted", s.Used, s.Blocked+s.Partial, s.Unlisted))
			select {
			case <-p.done:
				p.show("")
				return
			case <-every.C:
			}
		}
	})
}

// stop takes the line away.
func (p *progress) stop() {
	close(p.done)
	p.ended.Wait()
}

// show replaces the line, where it changed.
func (p *progress) show(line string) {
	if line != p.shown {
		fmt.Fprintf(p.out, "\r\x1b[K%s", line)
		p.shown = line
	}
}
