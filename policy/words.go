package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxWord is the length beyond which a word is not compared with others.
const maxWord = 64

// Nearest lists those of words that s may have been meant for, the nearest first,
// at most three: for hints about typing errors.
func Nearest(s string, words []string) []string {
	type candidate struct {
		word string
		far  int
	}
	var near []candidate
	s = strings.ToLower(s)
	for _, w := range words {
		far := Distance(s, strings.ToLower(w))
		if len(s) >= 3 && strings.Contains(w, s) {
			far = min(far, 1)
		}
		if far <= max(1, len(s)/3) {
			near = append(near, candidate{w, far})
		}
	}
	slices.SortStableFunc(near, func(a, b candidate) int { return cmp.Compare(a.far, b.far) })
	var out []string
	for _, c := range near[:min(len(near), 3)] {
		out = append(out, c.word)
	}
	return out
}

// Distance counts the letters to insert, delete, replace or swap with their
// neighbour that make b of a (optimal string alignment).
func Distance(a, b string) int {
	if len(a) > maxWord || len(b) > maxWord {
		return maxWord
	}
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, above, row = above, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			same := 1
			if a[i-1] == b[j-1] {
				same = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+same)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// DidYouMean is a hint to stand behind an error, such as ` (did you mean "host"?)`;
// it is empty where there are no words.
func DidYouMean(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", List(words, "or"))
}

// List is the words in quotes, the last two joined by join: `"a", "b" or "c"`.
func List(words []string, join string) string {
	var quoted []string
	for _, w := range words {
		quoted = append(quoted, fmt.Sprintf("%q", w))
	}
	if n := len(quoted); n > 1 {
		return strings.Join(quoted[:n-1], ", ") + " " + join + " " + quoted[n-1]
	}
	return strings.Join(quoted, "")
}
