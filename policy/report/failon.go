package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// DefaultFailOn is what --fail-on names where nothing is said.
const DefaultFailOn = "blocked,partial"

// FailOn are the statuses and kinds of findings that make the exit status 1.
// The zero value names none.
type FailOn struct{ words map[string]bool }

// failWords are the words that --fail-on takes: statuses, unlisted, and the
// kinds of findings.
func failWords() []string {
	out := []string{string(Blocked), string(Partial), string(Reached), string(Resolved), string(Bypassed), string(Unused), "unlisted"}
	for _, k := range Kinds {
		out = append(out, string(k))
	}
	return out
}

// ParseFailOn reads a comma-separated list. An empty list names nothing. The
// error tells the nearest valid words.
func ParseFailOn(list string) (FailOn, error) {
	f := FailOn{words: map[string]bool{}}
	if strings.TrimSpace(list) == "" {
		return f, nil
	}
	valid := failWords()
	for _, w := range strings.Split(list, ",") {
		w = strings.TrimSpace(w)
		if !slices.Contains(valid, w) {
			return FailOn{}, fmt.Errorf("%q: no status or kind of finding%s; the words are %s", short(w), policy.DidYouMean(policy.Nearest(w, valid)), strings.Join(valid, ", "))
		}
		f.words[w] = true
	}
	return f, nil
}

// String is the list in the order of the words, as ParseFailOn reads it back.
func (f FailOn) String() string {
	var out []string
	for _, w := range failWords() {
		if f.words[w] {
			out = append(out, w)
		}
	}
	return strings.Join(out, ",")
}

// ExitStatus is 1 where a gap or finding that f names was found, else 3 where
// there is any doubt or the verdict is cannot-tell, else 0.
func (r *Report) ExitStatus(f FailOn) int {
	switch {
	case r.fails(f):
		return 1
	case len(r.Doubts) > 0 || r.Verdict == CannotTell:
		return 3
	}
	return 0
}

func (r *Report) fails(f FailOn) bool {
	for _, e := range r.Endpoints {
		if e.Required && !e.Excused && f.words[string(e.Status)] {
			return true
		}
	}
	for _, u := range r.Unlisted {
		if f.words["unlisted"] || f.words[string(Blocked)] && u.Outcome != Worked {
			return true
		}
	}
	for _, n := range r.Findings {
		if f.words[string(n.Kind)] {
			return true
		}
	}
	return false
}
