package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// pageFacts are what somebody else wrote down about a publisher's page: its rows at
// one revision, and an account of what each of its revisions changed.
type pageFacts struct {
	Catalogs []struct {
		ID      string
		Source  struct{ Commit string }
		Entries []struct {
			Hosts []string
			Port  int
			When  string
			Scope string
		}
	}
	History struct{ Revisions []revision }
}

type revision struct {
	Commit                  string
	PairsAfter              int `yaml:"pairs_after"`
	Added, Removed, Changed []string
	Summary                 string
}

// readFacts reads the facts. They lie beside the corpora, which lie beside the
// checkout, or where EGRESSAUDIT_CORPORA says; where that is set, they must be
// there.
func readFacts(t *testing.T) pageFacts {
	t.Helper()
	root, demanded := os.LookupEnv("EGRESSAUDIT_CORPORA")
	if !demanded {
		root = filepath.Join("..", "..", "..", "shared", "corpora")
	}
	text, err := os.ReadFile(filepath.Join(root, "..", "facts", "catalogs.yaml"))
	if err != nil && !demanded {
		t.Skipf("no pageFacts: %v (set EGRESSAUDIT_CORPORA to the folder beside theirs)", err)
	}
	require.NoError(t, err)
	var f pageFacts
	require.NoError(t, yaml.Unmarshal(text, &f))
	return f
}

// line is one endpoint of the page, and the row in which it stands.
type line struct{ host, scope, row string }

// edit is what an account says that a revision did, as far as it is about
// endpoints.
type edit struct {
	added, removed []string
	renamed        map[string]string // old to new
	moved          map[string]string // host to the scope it came from
	resected       [2]string         // a scope's old and new name
	split          []string          // endpoints that stood in one row
	doubled        string            // an endpoint that stood twice
	sorted         bool              // before, there were no scopes
}

var (
	anyPort  = regexp.MustCompile(`^\S.*:\d+$`)
	renames  = regexp.MustCompile(`^<(\S+)> -> <(\S+)> in (\d+) hosts \((.*)\)$`)
	moves    = regexp.MustCompile(`^(\S+) row moved from (\w+) to (\w+); (\w+) section renamed .* (\w+)$`)
	splits   = regexp.MustCompile(`^'(.*)' was one line; split`)
	doubles  = regexp.MustCompile(`^duplicate (\S+) dropped`)
	brackets = regexp.MustCompile(`[<{]([^>}]*)[>}]`)
)

// ours writes a host of the facts as catalogs do.
func ours(s string) string {
	return brackets.ReplaceAllStringFunc(s, func(p string) string {
		return "<" + strings.ReplaceAll(strings.ToLower(p[1:len(p)-1]), " ", "-") + ">"
	})
}

// understand reads an account; earlier are those of the revisions before it, and
// page is what stood on the page after it, for accounts that name hosts by a
// part.
func understand(t *testing.T, r revision, earlier []edit, page []line) edit {
	e := edit{renamed: map[string]string{}, moved: map[string]string{}, sorted: strings.Contains(r.Summary, "tables by scope")}
	for _, a := range r.Added {
		if anyPort.MatchString(a) {
			e.added = append(e.added, ours(a))
			continue
		}
		require.Contains(t, a, "same ten", "an account that this test cannot read")
		e.added = earlier[len(earlier)-1].removed
	}
	for _, a := range r.Removed {
		if anyPort.MatchString(a) {
			e.removed = append(e.removed, ours(a))
			continue
		}
		rest, found := strings.CutPrefix(a, "nine Arc hosts; ")
		require.True(t, found, "an account that this test cannot read: %q", a)
		stays := strings.TrimSuffix(rest, " stays") + ":443"
		e.removed = slices.DeleteFunc(slices.Clone(earlier[len(earlier)-1].added), func(h string) bool { return h == stays })
		require.Len(t, e.removed, 9)
	}
	for _, c := range append(slices.Clone(r.Changed), r.Summary) {
		e.read(t, c, page)
	}
	return e
}

// read takes one sentence of an account. Most are about the look of the page.
func (e *edit) read(t *testing.T, c string, page []line) {
	if m := renames.FindStringSubmatch(c); m != nil {
		for _, part := range strings.Split(m[4], ", ") {
			part, _, _ = strings.Cut(part, " x")
			for _, l := range page {
				if strings.Contains(l.host, "<"+m[2]+">") && strings.Contains(l.host, part) {
					e.renamed[strings.Replace(l.host, "<"+m[2]+">", "<"+m[1]+">", 1)] = l.host
				}
			}
		}
		require.Equal(t, m[3], fmt.Sprint(len(e.renamed)))
	}
	if m := moves.FindStringSubmatch(c); m != nil {
		for _, l := range page {
			for _, part := range strings.Split(m[1], "/") {
				if strings.HasPrefix(l.host, "*."+part+".") {
					e.moved[l.host] = m[2]
					require.Equal(t, m[3], l.scope)
				}
			}
		}
		e.resected = [2]string{m[4], m[5]}
		require.Len(t, e.moved, 3)
	}
	if m := splits.FindStringSubmatch(c); m != nil {
		e.split = strings.Split(m[1], ",")
	}
	if m := doubles.FindStringSubmatch(c); m != nil {
		e.doubled = m[1]
	}
}

// undo is the page before the edit.
func (e edit) undo(page []line) []line {
	var out []line
	back := map[string]string{}
	for old, now := range e.renamed {
		back[now] = old
	}
	for _, l := range page {
		if slices.Contains(e.added, l.host) {
			continue
		}
		if old := back[l.host]; old != "" {
			l.host = old
		}
		switch {
		case e.moved[l.host] != "":
			l.scope = e.moved[l.host]
		case l.scope == e.resected[1] && l.scope != "":
			l.scope = e.resected[0]
		}
		if name, _, _ := strings.Cut(l.host, ":"); slices.Contains(e.split, name) && strings.HasSuffix(l.host, ":443") {
			l.row = e.split[0] + ":443"
		}
		out = append(out, l)
	}
	for _, h := range e.removed {
		out = append(out, line{h, "extension", h})
	}
	if e.doubled != "" {
		out = append(out, line{e.doubled, out[0].scope, "again " + e.doubled})
	}
	if e.sorted {
		for i := range out {
			out[i].scope = "all"
		}
	}
	return out
}

// redo is the page after the edit.
func (e edit) redo(page []line) []line {
	var out []line
	for _, l := range page {
		if !slices.Contains(e.removed, l.host) {
			out = append(out, l)
		}
	}
	for _, h := range e.added {
		out = append(out, line{h, "workload", h})
	}
	return out
}

// seed is the page at the revision whose rows the facts have.
func (f pageFacts) seed(t *testing.T) (page []line, at int) {
	for _, c := range f.Catalogs {
		at = slices.IndexFunc(f.History.Revisions, func(r revision) bool { return r.Commit == c.Source.Commit })
		if at < 0 || !strings.HasSuffix(c.ID, "-seed") {
			continue
		}
		for _, e := range c.Entries {
			for _, h := range e.Hosts {
				host := fmt.Sprintf("%s:%d", ours(h), e.Port)
				page = append(page, line{host, strings.TrimSuffix(e.Scope, "-deploy"), host})
			}
		}
		return page, at
	}
	require.Fail(t, "no catalog of the facts is a revision of the page")
	return nil, 0
}

// pages are the page at each revision, and the edits that led there. The pageFacts
// have the rows of one revision: the others follow from the accounts, backwards
// and forwards.
func (f pageFacts) pages(t *testing.T) ([][]line, []edit) {
	revisions := f.History.Revisions
	pages, edits := make([][]line, len(revisions)), make([]edit, len(revisions))
	var seed int
	pages[0], seed = f.seed(t)
	pages[seed] = pages[0]
	for i, r := range revisions { // what needs no page to be understood
		bare := r
		bare.Changed, bare.Summary = nil, ""
		edits[i] = understand(t, bare, edits[:i], nil)
	}
	for i := seed; i > 0; i-- {
		edits[i] = understand(t, revisions[i], edits[:i], pages[i])
		pages[i-1] = edits[i].undo(pages[i])
	}
	for i := seed + 1; i < len(pages); i++ {
		edits[i] = understand(t, revisions[i], edits[:i], pages[i-1])
		pages[i] = edits[i].redo(pages[i-1])
	}
	return pages, edits
}

// file writes a page as a catalog file.
func file(t *testing.T, path, revision string, page []line) {
	var b strings.Builder
	fmt.Fprintf(&b, "schema: egressaudit/catalog/1\nname: page\ntitle: the page\nrevision: %q\nsource: {title: page, url: https://example.org/page}\nrequirements:\n", revision)
	for i, l := range page {
		if slices.ContainsFunc(page[:i], func(o line) bool { return o.row == l.row }) {
			continue // its row is written
		}
		var hosts []string
		_, port, _ := strings.Cut(l.host, ":")
		for _, o := range page {
			if name, _, _ := strings.Cut(o.host, ":"); o.row == l.row {
				hosts = append(hosts, fmt.Sprintf("%q", name))
			}
		}
		id := strings.NewReplacer("*", "any", ".", "-", ":", "-", "<", "p-", ">", "", " ", "-").Replace(l.row)
		fmt.Fprintf(&b, "  - {id: %s, scope: %s, hosts: [%s], port: %s, protocol: https, purpose: as listed}\n", id, l.scope, strings.Join(hosts, ", "), port)
	}
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o600))
}
