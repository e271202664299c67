package main

import (
	"bufio"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/policy"
)

// shownAs is what the help of both verbs says of their filters.
const shownAs = `
A record is shown where it meets every filter that is given; one that has no
such field (a mark has no name) does not. The text is one line a record, with
its time in UTC; names that could deceive a terminal are escaped.`

// kindsKnown and outcomesKnown are the words that filters take.
var (
	kindsKnown = []string{string(policy.KindStart), string(policy.KindStop), string(policy.KindConnection),
		string(policy.KindRequest), string(policy.KindQuery), string(policy.KindMark), string(policy.KindLost), string(policy.KindEvent)}
	outcomesKnown = []string{string(policy.OK), string(policy.Failed), string(policy.Denied), string(policy.Abandoned)}
)

// filter are the flags that choose records, and their shape.
type filter struct {
	kinds, outcomes, names, clients []string
	since, until                    string
	format                          string
}

func (f *filter) register(c *cobra.Command) {
	group(c, "Which records", func(s *pflag.FlagSet) {
		s.StringSliceVar(&f.kinds, "kind", nil, "a `LIST` of "+strings.Join(kindsKnown, ", ")+" (default all)")
		s.StringArrayVar(&f.names, "name", nil, "a `HOST`, or a pattern as in catalogs such as '*.quay.io': what was asked for, said as SNI or Host, resolved or judged; an address is the destination's, too; repeatable (default all)")
		s.StringSliceVar(&f.outcomes, "outcome", nil, "a `LIST` of "+strings.Join(outcomesKnown, ", ")+" (default all)")
		s.StringArrayVar(&f.clients, "client", nil, "`CIDR` or address of the client; repeatable (default all)")
		s.StringVar(&f.since, "since", "", "`TIME` from which on, as 2026-11-23T12:00:00Z or how long ago, as 10m (default the beginning)")
		s.StringVar(&f.until, "until", "", "`TIME` before which, written likewise (default the end)")
	})
	group(c, "Their shape", func(s *pflag.FlagSet) {
		s.StringVar(&f.format, "format", "text", "`FORMAT`: text, or json: the ledger's own lines, octet for octet")
	})
	c.RegisterFlagCompletionFunc("kind", fixed(kindsKnown...))
	c.RegisterFlagCompletionFunc("outcome", fixed(outcomesKnown...))
	c.RegisterFlagCompletionFunc("format", fixed("text", "json"))
	for _, free := range []string{"name", "client", "since", "until"} {
		c.RegisterFlagCompletionFunc(free, cobra.NoFileCompletions)
	}
}

// printer reads the flags; now is what durations count back from.
func (f *filter) printer(env environ, now time.Time) (*printer, error) {
	if f.format != "text" && f.format != "json" {
		return nil, fmt.Errorf("--format %q: write text or json", f.format)
	}
	s, err := f.selection(now)
	if err != nil {
		return nil, err
	}
	return &printer{
		env: env, out: bufio.NewWriterSize(env.stdout, 1<<16), wanted: s,
		json: f.format == "json", color: textOptions(env.stdout).Color,
	}, nil
}

// selection says which records are wanted; what is empty says nothing.
type selection struct {
	kinds, outcomes []string
	names           []policy.Pattern
	clients         []netip.Prefix
	since, until    time.Time
}

func (f *filter) selection(now time.Time) (s selection, err error) {
	s.kinds, s.outcomes = f.kinds, f.outcomes
	if err = known("kind", f.kinds, kindsKnown); err != nil {
		return s, err
	}
	if err = known("outcome", f.outcomes, outcomesKnown); err != nil {
		return s, err
	}
	for _, n := range f.names {
		p, err := policy.ParsePattern(n)
		if err != nil {
			return s, fmt.Errorf("--name: %w", err)
		}
		s.names = append(s.names, p)
	}
	if s.clients, err = prefixes("client", f.clients); err != nil {
		return s, err
	}
	if s.since, err = moment("since", f.since, now); err != nil {
		return s, err
	}
	if s.until, err = moment("until", f.until, now); err != nil {
		return s, err
	}
	if f.since != "" && f.until != "" && !s.since.Before(s.until) {
		return s, fmt.Errorf("--since %q, --until %q: no time lies between them (--since is the earlier one)", f.since, f.until)
	}
	return s, nil
}

// known refuses words that are not in the list.
func known(flag string, words, list []string) error {
	for _, w := range words {
		if !slices.Contains(list, w) {
			return fmt.Errorf("--%s %q: write %s or %s", flag, w, strings.Join(list[:len(list)-1], ", "), list[len(list)-1])
		}
	}
	return nil
}

// moment reads a time, or how long ago it was; none is the zero time.
func moment(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("--%s %q: write a time such as 2026-11-23T12:00:00Z, or how long ago it was, such as 10m", flag, s)
	}
	return t, nil
}

// match says whether a record is wanted.
func (s *selection) match(r *policy.Record) bool {
	switch {
	case len(s.kinds) > 0 && !slices.Contains(s.kinds, string(r.Kind)),
		!s.since.IsZero() && r.Time.Before(s.since),
		!s.until.IsZero() && !r.Time.Before(s.until):
		return false
	case len(s.outcomes)+len(s.names)+len(s.clients) == 0:
		return true
	}
	o := r.Observation
	return o != nil &&
		(len(s.outcomes) == 0 || slices.Contains(s.outcomes, string(o.Outcome))) &&
		(len(s.clients) == 0 || s.matchClient(o.Client.Addr().Unmap())) &&
		(len(s.names) == 0 || s.matchName(o))
}

func (s *selection) matchClient(a netip.Addr) bool {
	return slices.ContainsFunc(s.clients, func(p netip.Prefix) bool { return p.Contains(a) })
}

// matchName looks at all names of an observation: an auditor who asks for a host
// wants to see who asked for one name and said another, too.
func (s *selection) matchName(o *policy.Observation) bool {
	last := ""
	for _, text := range [...]string{o.Name, o.Asked, o.SNI, o.Host, o.Resolved} {
		if text == "" || text == last {
			continue
		}
		last = text
		if n, err := policy.ParseName(text); err == nil && s.hit(n) {
			return true
		}
	}
	return o.Address.IsValid() && s.hit(policy.AddrName(o.Address.Addr()))
}

func (s *selection) hit(n policy.Name) bool {
	return slices.ContainsFunc(s.names, func(p policy.Pattern) bool { return p.Match(n) })
}
