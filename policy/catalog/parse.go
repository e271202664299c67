package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/egressaudit/egressaudit/policy"
)

// Parse reads a catalog file; name is the path that errors show. An error is
// one line that tells the first mistake in the file, its line, and where it can
// what to write instead; for a bad host it can be tested for policy.ErrPattern.
func Parse(name string, data []byte) (*File, error) {
	d := &decoder{}
	f := &File{Path: name, Digest: digest(data)}
	if root := d.document(data); root != nil {
		f.read(d, root)
	}
	switch {
	case d.err == nil:
		return f, nil
	case d.line == 0:
		return nil, fmt.Errorf("read catalog %q: %w", name, d.err)
	}
	return nil, fmt.Errorf("read catalog %q: line %d: %w", name, d.line, d.err)
}

func (f *File) read(d *decoder, root ast.Node) {
	if !isCatalog(d, root) {
		return
	}
	m := d.mapping(root, lineOf(root), "",
		[]string{"schema", "name", "title", "revision", "source", "requirements"}, []string{"placeholders"})
	f.Name, f.Title, f.Revision = m.word("name"), m.text("title"), m.text("revision")
	f.Source = m.source()
	f.Source.Revision, f.sourceLine = f.Revision, m.lines["source"]
	f.readPlaceholders(m)
	nodes, lines := m.items("requirements")
	first := map[string]int{}
	for i, n := range nodes {
		r := f.readRow(d, n, lines[i])
		if at, ok := first[r.ID]; ok && r.ID != "" {
			d.fail(r.lines["id"], "requirement %q: the id is taken, by line %d", r.ID, at)
		}
		first[r.ID] = r.lines["id"]
		f.rows = append(f.rows, r)
	}
}

// isCatalog looks at the schema first, so that the first word about a file of
// another kind is that it is one.
func isCatalog(d *decoder, root ast.Node) bool {
	line := lineOf(root)
	m := d.anyMapping(root, line, "")
	if d.err != nil {
		return false
	}
	if m.nodes["schema"] == nil {
		d.fail(m.line, "this is no catalog: key \"schema\" is missing (a catalog has \"schema: %s\")", Schema)
	} else if s := m.text("schema"); s != "" && s != Schema {
		d.fail(m.lines["schema"], "schema %q cannot be read: this program reads %q", s, Schema)
	}
	return d.err == nil
}

func (f *File) readPlaceholders(m mapping) {
	n := m.nodes["placeholders"]
	if n == nil {
		return
	}
	all := m.anyMapping(n, m.lines["placeholders"], "placeholders: ")
	for _, key := range slices.Sorted(maps.Keys(all.nodes)) {
		n, line, what := all.nodes[key], all.lines[key], fmt.Sprintf("placeholder %q: ", printable(key))
		if !policy.PlaceholderName(key) {
			m.fail(line, "%sa name is a lower-case letter, then letters, digits, - or _", what)
		}
		p := m.decoder.mapping(n, line, what, []string{"description"}, []string{"example"})
		ph := Placeholder{Name: key, Description: p.text("description"), Example: p.text("example"), Line: line}
		if ph.Example != "" {
			if err := checkValue(ph.Example); err != nil {
				m.fail(p.lines["example"], "%sexample %w", what, err)
			}
		}
		f.Placeholders = append(f.Placeholders, ph)
	}
	slices.SortStableFunc(f.Placeholders, func(a, b Placeholder) int { return a.Line - b.Line })
}

func (f *File) readRow(d *decoder, n ast.Node, line int) row {
	m := d.mapping(n, line, rowName(n), []string{"id", "scope", "hosts", "port", "protocol", "purpose"},
		[]string{"needs", "optional", "valid", "any_of", "source"})
	r := row{line: m.line, lines: m.lines, source: f.Source}
	r.ID, r.Scope, r.Purpose, r.AnyOf = m.word("id"), m.word("scope"), m.text("purpose"), m.word("any_of")
	r.Port, r.Optional = m.port("port"), m.bool("optional")
	if n := m.nodes["protocol"]; n != nil {
		r.Protocol = oneOf(m, n, m.lines["protocol"], "protocol", policy.HTTPS, policy.HTTP, policy.WSS, policy.TCP, policy.UDP)
	}
	r.Hosts, r.hostLines = m.hosts()
	r.Needs = m.needs()
	m.valid(&r)
	if m.nodes["source"] != nil {
		r.source = m.source()
		if r.source.Revision == "" {
			r.source.Revision = f.Revision
		}
		if r.source.URL != f.Source.URL {
			r.Requirement.Source = r.source.URL
		}
	}
	return r
}

// rowName is how errors call a requirement, as far as its id can be read.
func rowName(n ast.Node) string {
	m := (&decoder{}).anyMapping(n, 0, "")
	if id := m.text("id"); id != "" {
		return fmt.Sprintf("requirement %q: ", id)
	}
	return "requirement: "
}

// source reads a page: its URL alone, or with title and revision.
func (m mapping) source() Source {
	n, line := m.nodes["source"], m.lines["source"]
	switch n.(type) {
	case nil:
		return Source{}
	case *ast.StringNode:
		return Source{URL: m.text("source")}
	}
	s := m.mapping(n, line, m.what+"source: ", []string{"url"}, []string{"title", "revision"})
	return Source{Title: s.text("title"), URL: s.text("url"), Revision: s.text("revision")}
}

func (m mapping) hosts() (hosts []policy.Pattern, lines []int) {
	nodes, at := m.items("hosts")
	for i, n := range nodes {
		s := m.decoder.text(n, at[i], m.what+"host")
		if s == "" {
			continue
		}
		p, err := policy.ParsePattern(s)
		if err != nil {
			m.fail(at[i], "host %q: %w", s, because(err))
			continue
		}
		hosts, lines = append(hosts, p), append(lines, at[i])
	}
	return hosts, lines
}

func (m mapping) needs() (needs []policy.Need) {
	if m.nodes["needs"] == nil {
		return nil
	}
	nodes, lines := m.items("needs")
	for i, n := range nodes {
		need := oneOf(m, n, lines[i], "need", policy.NeedWebsocket, policy.NeedNoTLSInspection)
		if slices.Contains(needs, need) {
			m.fail(lines[i], "%sneed %q stands twice", m.what, string(need))
		}
		needs = append(needs, need)
	}
	return needs
}

func (m mapping) valid(r *row) {
	n := m.nodes["valid"]
	if n == nil {
		return
	}
	v := m.mapping(n, m.lines["valid"], m.what+"valid: ", nil, []string{"from", "until"})
	r.From, r.Until = v.date("from"), v.date("until")
	switch {
	case v.nodes != nil && len(v.nodes) == 0:
		m.fail(m.lines["valid"], `%svalid: "from", "until" or both are wanted`, m.what)
	case !r.From.IsZero() && !r.Until.IsZero() && !r.From.Before(r.Until):
		m.fail(v.lines["until"], "%svalid: until %s is not after from %s", m.what, v.text("until"), v.text("from"))
	}
}

// reason is the error of policy.ParsePattern without the words and the pattern
// that its text begins with; it is still that error.
type reason struct {
	text  string
	cause error
}

func (r *reason) Error() string { return r.text }
func (r *reason) Unwrap() error { return r.cause }

func because(err error) error {
	text := strings.TrimPrefix(err.Error(), policy.ErrPattern.Error()+" ")
	if q, e := strconv.QuotedPrefix(text); e == nil {
		text = strings.TrimPrefix(text[len(q):], ": ")
	}
	// A name that is refused is quoted a second time.
	if q, e := strconv.QuotedPrefix(text); e == nil {
		text = strings.TrimPrefix(text[len(q):], ": ")
	}
	return &reason{text, err}
}
