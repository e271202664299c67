package catalog

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// Severity is how bad a Problem is.
type Severity string

// The severities.
const (
	Mistake Severity = "error"   // the catalog says what cannot be meant
	Warning Severity = "warning" // verdicts may be wrong, or a firewall too open
	Note    Severity = "note"    // worth a look, often as it should be
)

// The kinds of Problem.
const (
	PlaceholderUnused    = "placeholder_unused"    // defined, and in no host
	PlaceholderUndefined = "placeholder_undefined" // in a host, and not defined
	PlaceholderLiteral   = "placeholder_literal"   // a label spelled like a placeholder
	PublicSuffix         = "public_suffix"         // a wildcard over names that anybody registers
	SharedSuffix         = "shared_suffix"         // a wildcard over names that any customer takes
	BareSuffix           = "bare_suffix"           // an exact host where customers have names below
	ApexMissing          = "apex_missing"          // *.x without x
	CompanionElsewhere   = "companion_elsewhere"   // its other half is in another catalog only
	WildcardMisplaced    = "wildcard_misplaced"    // azgn*.x where *.azgn.x is known
	DomainTypo           = "domain_typo"           // one letter off a domain of the other catalogs
	DuplicateEndpoint    = "duplicate_endpoint"    // the same host and port again
	LoneAlternative      = "lone_alternative"      // alone in its any_of group
	Expired              = "expired"               // its valid.until is past
	NotYetValid          = "not_yet_valid"         // its valid.from is to come
	PortProtocol         = "port_protocol"         // http on 443, https on 80
	SourceURL            = "source_url"            // no address of a page
)

// Problem is one finding of Lint.
type Problem struct {
	Path        string   `json:"path"`
	Line        int      `json:"line"`
	Severity    Severity `json:"severity"`
	Kind        string   `json:"kind"`
	Requirement string   `json:"requirement,omitempty"`
	Host        string   `json:"host,omitempty"`
	Text        string   `json:"text"` // what is wrong and what to do
}

// String is one line: "x.yaml:14: warning: requirement "quay": host "*.quay.io": ...".
func (p Problem) String() string {
	s := fmt.Sprintf("%s:%d: %s: ", p.Path, p.Line, p.Severity)
	if p.Requirement != "" {
		s += fmt.Sprintf("requirement %q: ", p.Requirement)
	}
	if p.Host != "" {
		s += fmt.Sprintf("host %q: ", p.Host)
	}
	return s + p.Text
}

// Lint tells what is suspicious in f, by line. It holds f against the others,
// of which those with the name of f do not count, and its validity against now.
func Lint(f *File, others []*File, now time.Time) []Problem {
	l := newLinter(f, others)
	l.placeholders()
	l.source(f.Source.URL, "", f.sourceLine)
	for i := range f.rows {
		r := &f.rows[i]
		l.row(r, now)
		for j, h := range r.Hosts {
			at := place{l, r, h, r.hostLines[j]}
			at.duplicate()
			at.suffix()
			at.companion()
			at.literalPlaceholder()
			at.misplacedWildcard()
			at.domainTypo()
		}
	}
	slices.SortStableFunc(l.found, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return l.found
}

// linter is one run of Lint, and what it looks up again and again.
type linter struct {
	file    *File
	hosts   *policy.Index       // of file
	own     map[string]bool     // the hosts of file, as written
	groups  map[string]int      // requirements of file by any_of
	listed  map[string][]string // the other catalogs by host, as written
	domains map[string][]string // and by registrable domain
	seen    map[string]place    // by endpoint
	found   []Problem
}

func newLinter(f *File, others []*File) *linter {
	l := &linter{file: f, own: map[string]bool{}, groups: map[string]int{}, listed: map[string][]string{},
		domains: map[string][]string{}, seen: map[string]place{}}
	c := &policy.Catalog{Name: f.Name}
	for i := range f.rows {
		r := &f.rows[i]
		c.Requirements = append(c.Requirements, &r.Requirement)
		l.groups[r.AnyOf]++
		for _, h := range r.Hosts {
			l.own[h.String()] = true
		}
	}
	l.hosts = policy.NewIndex(c)
	for _, o := range others {
		if o.Name == f.Name {
			continue
		}
		for _, r := range o.rows {
			for _, h := range r.Hosts {
				addName(l.listed, h.String(), o.Name)
				addName(l.domains, registrable(h), o.Name)
			}
		}
	}
	return l
}

func addName(to map[string][]string, key, name string) {
	if !slices.Contains(to[key], name) {
		to[key] = append(to[key], name)
	}
}

func (l *linter) add(p Problem, format string, args ...any) {
	p.Path, p.Text = l.file.Path, fmt.Sprintf(format, args...)
	l.found = append(l.found, p)
}

// placeholders holds those defined against those that hosts have.
func (l *linter) placeholders() {
	defined, used := map[string]bool{}, map[string]bool{}
	var names []string
	for _, p := range l.file.Placeholders {
		defined[p.Name] = true
		names = append(names, p.Name)
	}
	for _, r := range l.file.rows {
		for j, h := range r.Hosts {
			for _, name := range h.Placeholders() {
				used[name] = true
				if !defined[name] {
					l.add(Problem{Line: r.hostLines[j], Severity: Mistake, Kind: PlaceholderUndefined, Requirement: r.ID, Host: h.String()},
						"placeholder <%s> is used, but not defined%s: define it under \"placeholders\"", name, policy.DidYouMean(brackets(policy.Nearest(name, names))))
				}
			}
		}
	}
	for _, p := range l.file.Placeholders {
		if !used[p.Name] {
			l.add(Problem{Line: p.Line, Severity: Warning, Kind: PlaceholderUnused},
				"placeholder <%s> is defined, but no host has it: a value for it has no effect; take it out, or put it into the host it is for", p.Name)
		}
	}
}

func brackets(names []string) []string {
	for i, n := range names {
		names[i] = "<" + n + ">"
	}
	return names
}

// row looks at what a requirement says beside its hosts.
func (l *linter) row(r *row, now time.Time) {
	problem := func(key string, s Severity, kind string) Problem {
		return Problem{Line: r.lines[key], Severity: s, Kind: kind, Requirement: r.ID}
	}
	if day := r.Until.Format(time.DateOnly); !r.Until.IsZero() && !now.Before(r.Until) {
		l.add(problem("valid", Warning, Expired), "required until %s only, and that is over: reports leave it out; delete it, or correct \"until\"", day)
	}
	if day := r.From.Format(time.DateOnly); now.Before(r.From) {
		l.add(problem("valid", Note, NotYetValid), "required from %s only: reports leave it out until then", day)
	}
	switch {
	case r.Port == 443 && r.Protocol == policy.HTTP:
		l.add(problem("port", Warning, PortProtocol), "http on port 443: mostly protocol https, or port 80, is meant")
	case r.Port == 80 && (r.Protocol == policy.HTTPS || r.Protocol == policy.WSS):
		l.add(problem("port", Warning, PortProtocol), "%s on port 80: mostly protocol http, or port 443, is meant", r.Protocol)
	}
	if r.AnyOf != "" && l.groups[r.AnyOf] == 1 {
		l.add(problem("any_of", Warning, LoneAlternative), "any_of %q: no other requirement of this catalog has it, so nothing can stand in for this one%s",
			r.AnyOf, policy.DidYouMean(policy.Nearest(r.AnyOf, l.otherGroups(r.AnyOf))))
	}
	if r.lines["source"] != 0 {
		l.source(r.source.URL, r.ID, r.lines["source"])
	}
}

// maxGroups bounds the groups that are searched for a near name.
const maxGroups = 100

func (l *linter) otherGroups(name string) (out []string) {
	for _, g := range slices.Sorted(maps.Keys(l.groups)) {
		if g != "" && g != name && len(out) < maxGroups {
			out = append(out, g)
		}
	}
	return out
}

func (l *linter) source(address, requirement string, line int) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || strings.Contains(address, " ") {
		l.add(Problem{Line: line, Severity: Note, Kind: SourceURL, Requirement: requirement},
			"source %q is no address of a page, so nobody can look it up: give its https URL", address)
	}
}
