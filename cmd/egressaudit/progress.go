package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/term"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/report"
)

// terminal is w where it is one.
func terminal(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// textOptions fit a report to where it goes: colour on a terminal that wants
// any, and its width.
func textOptions(w io.Writer) report.TextOptions {
	f, ok := terminal(w)
	if !ok {
		return report.TextOptions{}
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 || width > 100 {
		width = 100
	}
	return report.TextOptions{Width: max(width, 40), Color: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// clean makes text from outside safe to print: control and format characters
// (ANSI sequences, bidi overrides) are escaped.
func clean(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	q := strconv.QuoteToGraphic(s)
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, q)
}

// progress is one line on a terminal that says how a trial goes. Where stderr is
// no terminal it does nothing.
type progress struct {
	out    *os.File // nil: nothing
	mu     sync.Mutex
	engine *report.Engine
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
	if p.out == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.engine != nil {
		p.engine.Add(&policy.Record{Time: time.Now(), Kind: o.Kind, Observation: o})
	}
}

func (p *progress) start(t *trial) {
	if p.out == nil {
		return
	}
	p.mu.Lock()
	p.engine = report.New(report.Options{Index: t.index, Catalogs: t.catalogs})
	p.mu.Unlock()
	p.ended.Add(1)
	go func() {
		defer p.ended.Done()
		every := time.NewTicker(time.Second)
		defer every.Stop()
		for {
			select {
			case <-p.done:
				p.show("")
				return
			case <-every.C:
				s := p.engine.Report().Summary
				p.show(fmt.Sprintf("%d endpoints used, %d blocked, %d unlisted", s.Used, s.Blocked+s.Partial, s.Unlisted))
			}
		}
	}()
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
