package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/policy/report"
)

// rendering are the flags of a report's shape.
type rendering struct {
	format string
	output string
	failOn string
}

// register adds the flags; where is where the report goes without -o.
func (r *rendering) register(c *cobra.Command, where string) {
	group(c, "The report", func(f *pflag.FlagSet) {
		f.StringVar(&r.format, "format", "text", "`FORMAT` of the report: text, json, markdown (for a ticket), html (one page), csv (one row a rule to ask for) or junit")
		f.StringVarP(&r.output, "output", "o", "", "`FILE` for the report, - for stdout (default "+where+")")
		f.StringVar(&r.failOn, "fail-on", report.DefaultFailOn, "what makes the exit status 1: a `LIST` of statuses (blocked, partial, reached, resolved, bypassed, unused, unlisted) and kinds of findings; blocked includes unlisted destinations that never worked")
	})
	c.RegisterFlagCompletionFunc("format", fixed(report.Formats...))
}

// check refuses what cannot be written in the end. ledgers are the files that a
// report must not overwrite.
func (r *rendering) check(ledgers ...string) (report.FailOn, error) {
	if err := report.CheckFormat(r.format); err != nil {
		return report.FailOn{}, fmt.Errorf("--format %w", err)
	}
	on, err := report.ParseFailOn(r.failOn)
	if err != nil {
		return report.FailOn{}, fmt.Errorf("--fail-on: %w", err)
	}
	if r.output != "" && r.output != "-" {
		err = r.checkOutput(ledgers)
	}
	return on, err
}

func (r *rendering) checkOutput(ledgers []string) error {
	for _, l := range ledgers {
		if sameFile(l, r.output) {
			return fmt.Errorf("-o %q: is the ledger (name another file)", r.output)
		}
	}
	i, err := os.Stat(r.output)
	switch {
	case err == nil && i.IsDir():
		return fmt.Errorf("-o %q: is a directory (name a file in it)", r.output)
	case err == nil && (!i.Mode().IsRegular() || standard(i) != nil):
		return nil // a pipe, a device, a stream
	case unfollowed(r.output):
		return fmt.Errorf("-o %q: %w (name another file)", r.output, cause(err))
	}
	dir := filepath.Dir(followed(r.output))
	f, err := os.CreateTemp(dir, ".egressaudit-*")
	if err != nil {
		return fmt.Errorf("-o %q: no file can be made in %q: %w", r.output, dir, cause(err))
	}
	f.Close()
	return os.Remove(f.Name())
}

// sameFile says whether two paths lead to one file, whether it exists or not.
func sameFile(a, b string) bool {
	if i, err := os.Stat(a); err == nil {
		k, err := os.Stat(b)
		return err == nil && os.SameFile(i, k)
	}
	a, errA := filepath.Abs(a)
	b, errB := filepath.Abs(b)
	return errA == nil && errB == nil && a == b
}

// whole writes what render makes in one piece, folded to the width of a terminal,
// and ends as render did, unless it cannot be written.
func whole(w io.Writer, render func(io.Writer) error) error {
	var text bytes.Buffer
	err := render(&text)
	if _, bad := io.WriteString(w, fold(text.String(), columns(w))); bad != nil {
		return bad
	}
	return err
}

// minFold is how narrow a terminal may be for lines to be folded.
const minFold = 40

// fold breaks lines of more than width columns at blanks, and lets what follows
// hang below their beginning; 0 is no limit. A longer word stays whole.
func fold(text string, width int) string {
	if width < minFold {
		return text
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		words := strings.TrimLeft(line, " ")
		hang := line[:len(line)-len(words)] + "    "
		for at := breakAt(line, width); at > 0; at = breakAt(line, width) {
			out.WriteString(strings.TrimRight(line[:at], " ") + "\n")
			line = hang + strings.TrimLeft(line[at:], " ")
		}
		out.WriteString(line)
	}
	return out.String()
}

// breakAt is where a line that is too long has its last blank behind a word that
// leaves it within width, or else its first one; -1 where there is nothing to break.
func breakAt(line string, width int) int {
	line = strings.TrimSuffix(line, "\n")
	if utf8.RuneCountInString(line) <= width {
		return -1
	}
	first := len(line) - len(strings.TrimLeft(line, " "))
	best, column := -1, 0
	for i, r := range line {
		if r == ' ' && i > first && (column <= width || best < 0) {
			best = i
		}
		column++
	}
	return best
}

// write renders the report to -o, or else to w.
func (r *rendering) write(env environ, w io.Writer, rep *report.Report) error {
	return r.deliver(env, w, "report", func(w io.Writer) error {
		return rep.Write(w, r.format, textOptions(w))
	})
}

// deliver calls render with -o, or else with w. what is what it writes.
func (r *rendering) deliver(env environ, w io.Writer, what string, render func(io.Writer) error) error {
	switch r.output {
	case "":
		return render(w)
	case "-":
		return render(env.stdout)
	}
	if err := writeFile(r.output, render); err != nil {
		return fmt.Errorf("write %q: %w", r.output, cause(err))
	}
	say(env, "%s written to %s", what, report.Escape(r.output))
	return nil
}

// writeFile writes a whole file or nothing: what stood there before stays when
// write fails, and so does its mode; a new one has what the umask leaves. A pipe, a
// device and what a standard stream of ours goes to are written to as they are.
func writeFile(path string, write func(io.Writer) error) error {
	i, err := os.Stat(path)
	switch {
	case err == nil && standard(i) != nil:
		return write(standard(i))
	case err == nil && !i.Mode().IsRegular():
		return writeThrough(path, write)
	case unfollowed(path):
		return err
	}
	there, mode := err == nil, fs.FileMode(0o644)
	if there {
		mode = i.Mode().Perm()
	}
	path = followed(path) // or else the rename would replace the link
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), ".egressaudit-"+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	err = write(f)
	if there {
		err = errors.Join(err, f.Chmod(mode))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// standard is the standard stream that goes to a file, nil where none does: the
// file has, or will have, more than what is written to it by name, as /dev/stdout.
func standard(i fs.FileInfo) *os.File {
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		if k, err := f.Stat(); err == nil && os.SameFile(i, k) {
			return f
		}
	}
	return nil
}

// unfollowed says that path is a link which the system does not follow, and so nor do
// we: one of somebody else's in a folder for all (proc_sys_fs(5), protected_symlinks),
// say. One that leads to nothing yet is no such link.
func unfollowed(path string) bool {
	_, followed := os.Stat(path)
	_, there := os.Lstat(path)
	return there == nil && followed != nil && !errors.Is(followed, fs.ErrNotExist)
}

// followed is where path leads, which need not be there yet.
func followed(path string) string {
	for range 40 { // what Linux follows
		to, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			dir, _ := filepath.Split(path)
			to = dir + to
		}
		path = to
	}
	return path
}

func writeThrough(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
