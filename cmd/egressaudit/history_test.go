package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy/report"
)

// TestDiffTellsTheHistoryOfAPage compares each revision of the publisher's page
// with the one before it, as a user would, and demands what the facts' own
// account says that the revision changed, no more and no less.
func TestDiffTellsTheHistoryOfAPage(t *testing.T) {
	f := readFacts(t)
	pages, edits := f.pages(t)
	require.Len(t, pages, 21)
	dir := t.TempDir()
	path := func(i int) string { return filepath.Join(dir, fmt.Sprint(i, ".yaml")) }
	for i, r := range f.History.Revisions {
		file(t, path(i), r.Commit, pages[i])
		require.Len(t, endpoints(pages[i]), r.PairsAfter, r.Commit)
	}
	kinds := map[report.ChangeKind]int{}
	for i := 1; i < len(pages); i++ {
		r := f.History.Revisions[i]
		var out, errs bytes.Buffer
		status := run(context.Background(), []string{"diff", "--format", "json", path(i - 1), path(i)}, environ{stdout: &out, stderr: &errs})
		require.Empty(t, errs.String(), r.Commit)
		var d report.Diff
		require.NoError(t, json.Unmarshal(out.Bytes(), &d))
		got := changesOf(d)
		require.Equal(t, edits[i].expected(pages[i-1], pages[i]), got, "%s: %s", r.Commit, r.Summary)
		require.Equal(t, len(got) > 0, status == exitGap, r.Commit)
		if strings.Contains(r.Summary, "narrowed") {
			require.Positive(t, d.Count(report.ChangeNarrowed), r.Commit)
		}
		for _, c := range d.Changes {
			kinds[c.Kind]++
		}
	}
	for _, k := range []report.ChangeKind{report.ChangeRemoved, report.ChangeAdded, report.ChangePort, report.ChangeNarrowed, report.ChangeRenamed, report.ChangeScope, report.ChangeCosmetic} {
		require.Positive(t, kinds[k], k)
	}
}

// endpoints are the different ones of a page.
func endpoints(page []line) map[string]string {
	out := map[string]string{}
	for _, l := range page {
		out[l.host] = l.scope
	}
	return out
}

// changesOf is a diff as one line a change, sorted.
func changesOf(d report.Diff) []string {
	names := func(list []report.Listed) string {
		var out []string
		for _, l := range list {
			out = append(out, fmt.Sprintf("%s:%d", l.Host, l.Port))
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	out := []string{}
	for _, c := range d.Changes {
		out = append(out, fmt.Sprintf("%s %s > %s", c.Kind, names(c.Old), names(c.New)))
	}
	slices.Sort(out)
	return out
}

// expected is what the account says, in the words of tell: an endpoint removed
// and added with another port was moved, and a wildcard removed with hosts added
// below it was narrowed.
func (e edit) expected(before, after []line) []string {
	out, taken := []string{}, map[string]bool{}
	say := func(kind, old, now string) { out = append(out, kind+" "+old+" > "+now) }
	was, is := endpoints(before), endpoints(after)
	scoped := func(old, now string) {
		if was[old] != is[now] {
			say("scope", old, now)
		}
	}
	for old, now := range e.renamed {
		say("renamed", old, now)
	}
	for _, gone := range e.removed {
		name, _, _ := strings.Cut(gone, ":")
		suffix, wild := strings.CutPrefix(gone, "*")
		var into []string
		for _, come := range e.added {
			if strings.HasPrefix(come, name+":") || wild && strings.HasSuffix(come, suffix) || wild && strings.HasSuffix(come, ".data"+suffix) {
				into, taken[come] = append(into, come), true
			}
		}
		slices.Sort(into)
		switch {
		case into == nil:
			say("removed", gone, "")
		case wild:
			say("narrowed", gone, strings.Join(into, " "))
		default:
			say("port", gone, into[0])
			scoped(gone, into[0])
		}
	}
	for _, come := range e.added {
		if !taken[come] {
			say("added", "", come)
		}
	}
	for host := range was {
		if is[host] != "" {
			scoped(host, host)
		}
	}
	for _, name := range e.split[min(1, len(e.split)):] {
		say("cosmetic", name+":443", name+":443")
	}
	if e.doubled != "" {
		say("cosmetic", e.doubled, e.doubled)
	}
	slices.Sort(out)
	return out
}
