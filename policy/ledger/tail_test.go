package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// odd matches every other record.
func odd(r *policy.Record) bool { return r.Seq%2 == 1 }

// texts are the lines of the records that a sequence yields, and its damage as
// "kind line seq".
func texts(t testing.TB, lines func(func(Line, error) bool)) (records, damage []string) {
	t.Helper()
	records, damage = []string{}, []string{}
	lines(func(l Line, err error) bool {
		var d *Damage
		switch {
		case err == nil:
			records = append(records, string(l.Text))
		case errors.As(err, &d):
			damage = append(damage, fmt.Sprint(d.Kind, " ", d.Line, " ", d.Seq))
		default:
			require.NoError(t, err)
		}
		return true
	})
	return records, damage
}

// The lines come as they stand in the file, escapes and unknown fields included.
func TestLinesAreOctetForOctet(t *testing.T) {
	want := []string{
		`{"schema":1,"seq":1,"time":"2026-03-01T12:00:00Z","kind":"mark","text":"\u0041\n"}`,
		`{ "kind":"checkpoint", "seq":2, "schema":1, "new":[{"a":null}] }` + "\r",
		`{"schema":1,"seq":3,"kind":"connection","asked":"zażółć"}`,
	}
	got, damage := texts(t, Lines(strings.NewReader(strings.Join(want, "\n")+"\n"), "x"))
	require.Equal(t, want, got)
	require.Empty(t, damage)
	got, damage = texts(t, Lines(strings.NewReader(strings.Join(want, "\n")), "x"))
	require.Equal(t, want, got)
	require.Equal(t, []string{"torn 3 3"}, damage)
}

// Tail is the end of what Lines tells, whatever is wrong with a ledger.
func TestTailIsTheEndOfLines(t *testing.T) {
	_, _, l := world(t, 7)
	bad := []byte("?\n")
	for name, content := range map[string][]byte{
		"good":         slices.Concat(l...),
		"torn":         slices.Concat(slices.Concat(l[:7]...), l[7][:30]),
		"no line feed": bytes.TrimSuffix(slices.Concat(l...), []byte("\n")),
		"hole":         slices.Concat(slices.Concat(l[:3]...), slices.Concat(l[5:]...)),
		"bad lines":    slices.Concat(l[0], bad, l[1], l[2], bad, bad, l[5], l[6], bad),
		"doubled":      slices.Concat(slices.Concat(l...), slices.Concat(l[2:4]...)),
		"one":          l[0],
		"too long":     slices.Concat(l[0], l[1], bytes.Repeat([]byte("x"), 3*maxLine), []byte("\n"), l[3], l[4]),
		"none":         nil,
	} {
		path := newPath(t)
		requireWrite(t, path, content)
		all, allDamage := texts(t, Lines(bytes.NewReader(content), path))
		for n := range 10 {
			got, damage := texts(t, Tail(path, TailOptions{Records: n}))
			require.Equal(t, all[len(all)-min(n, len(all)):], got, "%s, the last %d", name, n)
			require.True(t, n <= len(all) || len(damage) == len(allDamage), "%s, the last %d", name, n)
			require.Equal(t, allDamage[len(allDamage)-len(damage):], damage, "%s, the last %d", name, n)
		}
	}
}

// What matches is counted, and all from there on is told.
func TestTailCountsWhatMatches(t *testing.T) {
	path, _, l := world(t, 7) // seq 1 to 8
	got, _ := texts(t, Tail(path, TailOptions{Records: 2, Match: odd}))
	require.Equal(t, string(bytes.TrimSuffix(slices.Concat(l[4:]...), []byte("\n"))), strings.Join(got, "\n"))
	got, _ = texts(t, Tail(path, TailOptions{Records: 9, Match: odd}))
	require.Len(t, got, 8, "there are fewer")
}

// Damage is told with the line of the file, though what is above was not read
// as records.
func TestTailKnowsItsLine(t *testing.T) {
	content, err := io.ReadAll(newEndless(5000)) // several pieces of the way back
	require.NoError(t, err)
	l := bytes.SplitAfter(content, []byte("\n"))
	path := newPath(t)
	requireWrite(t, path, slices.Concat(slices.Concat(l[:4000]...), slices.Concat(l[4001:]...)))
	for _, n := range []int{999, 1000, 1999} {
		got, damage := texts(t, Tail(path, TailOptions{Records: n}))
		require.Len(t, got, n)
		require.Equal(t, n > 999, len(damage) > 0)
		if n > 999 {
			require.Equal(t, []string{"hole 4001 4001"}, damage)
		}
	}
}

func TestTailOfWhatIsNoLedger(t *testing.T) {
	last := func(path string) (err error) {
		for _, err = range Tail(path, TailOptions{Records: 3}) {
		}
		return err
	}
	for content := range strangers {
		path := newPath(t)
		requireWrite(t, path, []byte(content))
		require.ErrorIs(t, last(path), ErrNotLedger, "%.40q", content)
		for _, err := range Tail(path, TailOptions{}) { // -n 0 would read nothing
			require.ErrorIs(t, err, ErrNotLedger, "%.40q", content)
		}
		for _, err := range Follow(t.Context(), path, TailOptions{}) { // does not wait for more
			require.ErrorIs(t, err, ErrNotLedger, "%.40q", content)
		}
	}
	_, _, l := world(t, 3)
	path := newPath(t)
	requireWrite(t, path, slices.Concat(bytes.Repeat([]byte("a line of text\n"), 100), slices.Concat(l...)))
	require.ErrorIs(t, last(path), ErrNotLedger, "records at its end do not make it one")
	require.ErrorIs(t, last(t.TempDir()+"/none"), fs.ErrNotExist)
	dir := t.TempDir()
	require.EqualError(t, last(dir), fmt.Sprintf("read ledger %q: not a regular file, which alone has an end", dir))
}

func FuzzTail(f *testing.F) {
	_, content, _ := world(f, 3)
	f.Add(content, 2)
	f.Add(content[:len(content)-9], 1)
	f.Add([]byte("?\n"+string(content)+"\n\n"), 0)
	f.Fuzz(func(t *testing.T, content []byte, n int) {
		path := newPath(t)
		requireWrite(t, path, content)
		var all, got []string
		for l, err := range Lines(bytes.NewReader(content), path) {
			if err == nil {
				all = append(all, string(l.Text))
			}
		}
		stranger := false
		for l, err := range Tail(path, TailOptions{Records: min(n, 100)}) {
			if stranger = errors.Is(err, ErrNotLedger); err == nil {
				got = append(got, string(l.Text))
			}
		}
		if want := all[len(all)-max(0, min(n, 100, len(all))):]; !stranger {
			require.Equal(t, append([]string{}, want...), append([]string{}, got...))
		}
	})
}
