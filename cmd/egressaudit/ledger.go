package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/policy/report"
)

func newLedger(env environ) *cobra.Command {
	c := &cobra.Command{
		Use: "ledger show|tail", Short: "The records of a ledger",
		Long: `ledger prints what stands in the file that run and serve write: one record a
line, as text for people or as the JSON that stands there.`,
		Args: cobra.ArbitraryArgs, RunE: wrongVerb,
	}
	c.AddCommand(newLedgerShow(env), newLedgerTail(env))
	return c
}

// ledgerStatus ends the help of both verbs.
const ledgerStatus = `

Exit status: 0 shown, even where no record matches (on a terminal a line says
so); 2 trouble, such as a file that is no ledger; 3 the ledger is damaged: a
hole in seq, a bad line, a torn last one. Damage is told on stderr with its
line, and what is good is shown all the same.`

func newLedgerShow(env environ) *cobra.Command {
	var f filter
	c := &cobra.Command{
		Use:   "show [flags] FILE...",
		Short: "All records, or those that match",
		Long: `show prints the records of one or more ledgers, in the order of the files; -
reads standard input. A ledger that is still being written may be shown.
` + shownAs + ledgerStatus,
		Example: `  egressaudit ledger show --outcome failed --name '*.quay.io' trial.jsonl
  egressaudit ledger show --since 10m --format json t.jsonl | jq .name`,
		Args: wants(math.MaxInt, "a ledger"),
		RunE: func(_ *cobra.Command, files []string) error {
			p, err := f.printer(env, time.Now())
			if err != nil {
				return err
			}
			for _, file := range files {
				if err := p.show(file); err != nil {
					return p.end(err)
				}
			}
			return p.end(nil)
		},
	}
	f.register(c)
	return c
}

func newLedgerTail(env environ) *cobra.Command {
	var f filter
	var lines int
	var follow bool
	c := &cobra.Command{
		Use:   "tail [flags] FILE",
		Short: "The last records, and with -f those that come",
		Long: `tail prints the last records of a ledger that match, and with -f goes on with
each that is written, until SIGINT or SIGTERM ends it (no trouble, then). Damage
further up in the file is not looked for: show does.
` + shownAs + ledgerStatus,
		Example: `  egressaudit ledger tail -f --outcome failed,denied trial.jsonl`,
		Args:    wants(1, "one ledger"),
		RunE: func(c *cobra.Command, files []string) error {
			switch {
			case lines < 0:
				return fmt.Errorf("--lines %d: write how many records, 0 or more", lines)
			case files[0] == "-":
				return hinted(errors.New("ledger tail reads a file, for a stream has no end to begin at"), "ledger show reads -, and prints what comes")
			}
			p, err := f.printer(env, time.Now())
			if err != nil {
				return err
			}
			return p.end(p.tail(c.Context(), files[0], lines, follow))
		},
	}
	group(c, "Which records", func(s *pflag.FlagSet) {
		s.IntVarP(&lines, "lines", "n", 10, "`NUMBER` of the last records that match")
		s.BoolVarP(&follow, "follow", "f", false, "go on with what is written")
	})
	f.register(c)
	return c
}

// printer writes records to stdout, and tells damage on stderr.
type printer struct {
	env     environ
	out     *bufio.Writer
	wanted  selection
	json    bool
	color   bool
	line    []byte
	seen    int64 // records
	shown   int64
	damages int64
}

// maxDamages is how many damages are told one by one.
const maxDamages = 50

// show prints a whole ledger.
func (p *printer) show(file string) error {
	var in io.Reader = p.env.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("read ledger %q: %w", file, cause(err))
		}
		defer f.Close()
		in = f
	}
	return p.print(ledger.Lines(prompt{in, p.out}, file))
}

// prompt is a stream before each Read of which, since it may have to wait, out
// is flushed.
type prompt struct {
	in  io.Reader
	out *bufio.Writer
}

func (s prompt) Read(b []byte) (int, error) {
	s.out.Flush() // the error stays, for the next Write
	return s.in.Read(b)
}

// tail prints the end of a ledger.
func (p *printer) tail(ctx context.Context, file string, lines int, follow bool) error {
	o := ledger.TailOptions{Records: lines, Match: p.wanted.match, Idle: func() { p.out.Flush() }}
	if !follow {
		return p.print(ledger.Tail(file, o))
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	return p.print(ledger.Follow(ctx, file, o))
}

func (p *printer) print(lines iter.Seq2[ledger.Line, error]) error {
	for l, err := range lines {
		if err != nil {
			var damage *ledger.Damage
			if !errors.As(err, &damage) {
				return err
			}
			p.damage(damage)
			continue
		}
		p.seen++
		if !p.wanted.match(l.Record) {
			continue
		}
		p.shown++
		if err := p.write(l); err != nil {
			return fmt.Errorf("write records: %w", cause(err))
		}
	}
	return nil
}

func (p *printer) write(l ledger.Line) error {
	if p.json {
		p.out.Write(l.Text)
		return p.out.WriteByte('\n')
	}
	p.line = appendRow(p.line[:0], l.Record, p.color)
	_, err := p.out.Write(p.line)
	return err
}

// damage is told behind the records that stand before it.
func (p *printer) damage(d *ledger.Damage) {
	if p.damages++; p.damages <= maxDamages {
		p.out.Flush()
		say(p.env, "%s", report.Escape(d.Error()))
	}
}

// end says what is left to say, and makes the exit status. err is what ended
// printing, nil for the end of the ledger.
func (p *printer) end(err error) error {
	if e := p.out.Flush(); err == nil && e != nil {
		err = fmt.Errorf("write records: %w", cause(e))
	}
	if p.damages > maxDamages {
		say(p.env, "and %d more places of damage", p.damages-maxDamages)
	}
	if _, ok := terminal(p.env.stderr); ok && err == nil && p.shown == 0 {
		say(p.env, "no record to show, of %d read", p.seen)
	}
	if err == nil && p.damages > 0 {
		return exit(exitDoubt)
	}
	return err
}
