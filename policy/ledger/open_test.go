package ledger

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// world writes a ledger of a start and n marks, and returns its bytes and lines.
func world(t testing.TB, n int) (path string, content []byte, lines [][]byte) {
	t.Helper()
	path = newPath(t)
	w := open(t, path, Options{Now: ticking()})
	require.NoError(t, w.Start(&policy.Session{Version: "1"}))
	for i := range n {
		require.NoError(t, w.Mark(fmt.Sprint("m", i)))
	}
	require.NoError(t, w.Close())
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return path, content, bytes.SplitAfter(content, []byte("\n"))[:n+1]
}

func TestNewLedgerIsForItsOwnerAlone(t *testing.T) {
	path := newPath(t)
	require.NoError(t, open(t, path, Options{}).Close())
	s, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), s.Mode())
	require.Empty(t, requireWhole(t, path))
}

func TestContinue(t *testing.T) {
	path, _, _ := world(t, 3)
	for range 3 {
		w := open(t, path, Options{})
		require.NoError(t, w.Start(&policy.Session{}))
		require.NoError(t, w.Stop(&policy.Session{}))
	}
	rs := requireWhole(t, path)
	require.Len(t, rs, 10)
	for _, r := range append(rs[:1:1], rs[4:]...) {
		require.Equal(t, rs[0].Session.Ledger, r.Session.Ledger)
	}
	require.Empty(t, rs[4].Phase, "a restart begins without a phase")
}

// Wherever a ledger was cut off, a new writer goes on without a hole, and the
// torn line stays to be seen.
func TestContinueAfterAnyCut(t *testing.T) {
	_, content, lines := world(t, 2)
	path := newPath(t)
	first := len(`{"schema":1,`)
	for cut := first; cut <= len(content); cut++ {
		requireWrite(t, path, content[:cut])
		w := open(t, path, Options{})
		require.NoError(t, w.Mark("after"))
		require.NoError(t, w.Close())

		whole, end := 0, 0 // the lines that are complete but for their line feed
		for whole < len(lines) && cut >= end+len(lines[whole])-1 {
			end += len(lines[whole])
			whole++
		}
		rs, damage := readAll(t, path)
		require.Len(t, rs, whole+1, "cut at %d", cut)
		for i, r := range rs {
			require.EqualValues(t, i+1, r.Seq)
		}
		if cut == end || cut == end-1 {
			require.Empty(t, damage)
		} else {
			require.Equal(t, []string{fmt.Sprint("bad_line ", whole+1, " ", whole+1)}, damage)
		}
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.HasPrefix(after, content[:cut]))
	}
}

// The last record is found behind more rubbish than the tail that is looked at.
func TestContinueBehindRubbish(t *testing.T) {
	path, content, _ := world(t, 4)
	rubbish := strings.Repeat(strings.Repeat("?", 1000)+"\n", 3000)
	requireWrite(t, path, append(content, rubbish...))
	w := open(t, path, Options{})
	require.NoError(t, w.Mark("after"))
	require.NoError(t, w.Close())
	rs, damage := readAll(t, path)
	require.Len(t, damage, 3000)
	require.EqualValues(t, 6, rs[5].Seq)
}

// The last record is found where it is longer than any buffer.
func TestContinueBehindTheLongestLine(t *testing.T) {
	path := newPath(t)
	w := open(t, path, Options{})
	big := connection("c")
	big.Asked = strings.Repeat("a", maxLine-900)
	for range 3 {
		require.NoError(t, w.Append(big))
	}
	require.NoError(t, w.Close())
	w = open(t, path, Options{})
	require.NoError(t, w.Append(big))
	require.NoError(t, w.Close())
	require.Len(t, requireWhole(t, path), 4)
}

// Files that are no ledger, and what is said of them.
var strangers = map[string]string{
	"hello\n":     "invalid character",
	"\n":          "unexpected end of JSON input",
	"{}\n":        "schema, seq or kind is missing",
	"{":           "unexpected end of JSON input",
	`{"schema":1`: "unexpected end of JSON input",
	"[1,2]\n":     "cannot unmarshal array",
	`{"time":"2026-03-01T12:00:00Z","msg":"x"}`: "schema, seq or kind is missing",
	`{"schema":"egressaudit/report/1"}` + "\n":  "cannot unmarshal string",
	"\x00\x00\x00\x00":                          "invalid character",
	strings.Repeat("a", maxLine+2):              "too long",
}

func TestRefuseWhatIsNoLedger(t *testing.T) {
	for content, why := range strangers {
		path := newPath(t)
		requireWrite(t, path, []byte(content))
		_, err := Open(path, Options{})
		require.ErrorIs(t, err, ErrNotLedger)
		require.ErrorContains(t, err, fmt.Sprintf("open ledger %q: not a ledger (", path))
		require.ErrorContains(t, err, why)
		require.ErrorContains(t, err, "; name a new file, or one that egressaudit has written")
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, content, string(after))
	}
}

func TestRefuseANewerLedger(t *testing.T) {
	path, content, _ := world(t, 1)
	for _, newer := range []string{
		strings.ReplaceAll(string(content), `"schema":1`, `"schema":2`),
		string(content) + `{"schema":2,"seq":3,"kind":"mark"}` + "\n",
	} {
		requireWrite(t, path, []byte(newer))
		_, err := Open(path, Options{})
		require.ErrorContains(t, err, "written by a newer egressaudit (schema 2, this one knows 1)")
		after, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, newer, string(after))
	}
}

func TestRefuseWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(dir, Options{})
	require.EqualError(t, err, fmt.Sprintf("open ledger %q: is a directory", dir))
	_, err = Open(filepath.Join(dir, "none", "l.jsonl"), Options{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	_, err = Open(pipe, Options{})
	require.EqualError(t, err, fmt.Sprintf("open ledger %q: not a regular file", pipe))
}

func TestOneWriterAtATime(t *testing.T) {
	path, _, _ := world(t, 1)
	w := open(t, path, Options{})
	_, err := Open(path, Options{})
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, w.Close())
	require.NoError(t, open(t, path, Options{}).Close())
}

// The package comment shows what the Example prints.
func TestThePackageCommentIsTrue(t *testing.T) {
	example, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	shown := 0
	for line := range strings.Lines(string(example)) {
		if text, ok := strings.CutPrefix(line, "\t// {"); ok {
			require.Contains(t, string(doc), "//\t{"+text)
			shown++
		}
	}
	require.Equal(t, 4, shown)
}
