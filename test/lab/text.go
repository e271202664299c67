package lab

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Parse reads a script in its text form; name stands in errors. Each line has a
// target as in Script.Rules, a word for the behaviour and its arguments:
//
//   - site
//     mcr.microsoft.com    site location=https://eastus.data.mcr.microsoft.com
//     cdn03.quay.io:443    after-hello reset
//     gcr.io               parent status=403 squid="ERR_ACCESS_DENIED 0"
//     gone.example.org     nxdomain
//     flaky.example.org    parent status=503 | site
//     slow.example.org     slow 2s then block-page status=403
//     credentials          alice secret
//
// "|" separates behaviours that take turns, "then" follows slow and resolves.
// A # and what follows is a comment; blanks stand between double quotes.
func Parse(name string, r io.Reader) (Script, error) {
	s := Script{Rules: map[string]Behaviour{}}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		if err := s.add(lines.Text()); err != nil {
			return Script{}, fmt.Errorf("lab script %q: line %d: %w", name, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return Script{}, fmt.Errorf("lab script %q: %w", name, err)
	}
	return s, nil
}

func (s *Script) add(line string) error {
	f, err := fields(line)
	switch {
	case err != nil:
		return err
	case len(f) == 0:
		return nil
	case f[0] == "credentials" && len(f) == 3:
		s.Credentials = url.UserPassword(f[1], f[2])
		return nil
	}
	if _, err := parseTarget(f[0]); err != nil {
		return err
	}
	if s.Rules[f[0]] != nil {
		return fmt.Errorf("target %q: stands there twice", f[0])
	}
	b, err := parseTurns(f[1:])
	if err != nil {
		return fmt.Errorf("target %q: %w", f[0], err)
	}
	s.Rules[f[0]] = b
	return nil
}

// fields are the words of a line; quotes hold blanks together.
func fields(line string) ([]string, error) {
	var out []string
	var word strings.Builder
	quoted, begun := false, false
	for _, c := range line + " " {
		switch {
		case c == '"':
			quoted, begun = !quoted, true
		case quoted, c != ' ' && c != '\t' && (c != '#' || begun):
			word.WriteRune(c)
			begun = true
		case begun:
			out = append(out, word.String())
			word.Reset()
			begun = false
		}
		if c == '#' && !quoted && !begun {
			return out, nil
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	return out, nil
}

func parseTurns(f []string) (Behaviour, error) {
	var turns InTurn
	for {
		i := slices.Index(f, "|")
		if i < 0 {
			i = len(f)
		}
		b, err := parseBehaviour(f[:i])
		if err != nil {
			return nil, err
		}
		turns = append(turns, b)
		if i == len(f) {
			break
		}
		f = f[i+1:]
	}
	if len(turns) == 1 {
		return turns[0], nil
	}
	return turns, nil
}

// arguments are what stands behind the word of a behaviour.
type arguments struct {
	plain []string
	named map[string]string
	then  Behaviour
	err   error
}

func parseBehaviour(f []string) (Behaviour, error) {
	if len(f) == 0 {
		return nil, errors.New("no behaviour")
	}
	known := words()
	read, ok := known[f[0]]
	if !ok {
		return nil, fmt.Errorf("unknown behaviour %q (known: %s)", f[0], strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	}
	a := &arguments{named: map[string]string{}}
	for i, s := range f[1:] {
		if s == "then" {
			if a.then, a.err = parseBehaviour(f[i+2:]); a.err != nil {
				return nil, a.err
			}
			break
		}
		if key, value, ok := strings.Cut(s, "="); ok {
			a.named[key] = value
		} else {
			a.plain = append(a.plain, s)
		}
	}
	b := read(a)
	a.done()
	if a.err != nil {
		return nil, fmt.Errorf("%s: %w", f[0], a.err)
	}
	return b, nil
}

// fail keeps the first error.
func (a *arguments) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// done fails when something was not read.
func (a *arguments) done() {
	switch rest := append(a.plain, slices.Sorted(maps.Keys(a.named))...); {
	case len(rest) > 0:
		a.fail(fmt.Errorf("does not know %q", rest[0]))
	case a.then != nil:
		a.fail(errors.New(`takes no "then"`))
	}
}

// next is the next plain argument.
func (a *arguments) next() string {
	if len(a.plain) == 0 {
		a.fail(errors.New("an argument is missing"))
		return ""
	}
	s := a.plain[0]
	a.plain = a.plain[1:]
	return s
}

// flag tells whether a plain argument stands there.
func (a *arguments) flag(word string) bool {
	i := slices.Index(a.plain, word)
	if i < 0 {
		return false
	}
	a.plain = slices.Delete(a.plain, i, i+1)
	return true
}

func (a *arguments) text(key string) string {
	s := a.named[key]
	delete(a.named, key)
	return s
}

func (a *arguments) number(key string) int64 {
	s := a.text(key)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		a.fail(fmt.Errorf("%s=%q is no number", key, s))
	}
	return int64(n)
}

func (a *arguments) duration(s string) time.Duration {
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	a.fail(err)
	return d
}

func (a *arguments) ending(s string) Ending {
	switch e := Ending(s); e {
	case Reset, Close, Silence:
		return e
	}
	a.fail(fmt.Errorf("ending %q: want reset, close or silence", s))
	return ""
}

// alerts are names of RFC 8446 section 6.
var alerts = map[string]Alert{
	"handshake_failure": HandshakeFailure, "access_denied": AccessDenied,
	"internal_error": InternalError, "unrecognized_name": UnrecognizedName,
}

func (a *arguments) alert() Alert {
	s := a.next()
	if b, ok := alerts[s]; ok {
		return b
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		a.fail(fmt.Errorf("alert %q: want a number or one of %s", s, strings.Join(slices.Sorted(maps.Keys(alerts)), ", ")))
	}
	return Alert(n)
}

func (a *arguments) version() uint16 {
	switch s := a.text("tls"); s {
	case "", "1.3":
		return 0
	case "1.2":
		return tls.VersionTLS12
	default:
		a.fail(fmt.Errorf("tls=%q: want 1.2 or 1.3", s))
		return 0
	}
}

// after is the behaviour behind "then".
func (a *arguments) after() Behaviour {
	b := a.then
	a.then = nil
	if b == nil {
		a.fail(errors.New(`wants "then" and a behaviour`))
	}
	return b
}
