package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// Ways to tamper with a ledger of six lines (seq 1 to 6), and what is seen.
func TestTamper(t *testing.T) {
	_, _, good := world(t, 5)
	line := func(i int, old, new string) []byte { return bytes.Replace(good[i], []byte(old), []byte(new), 1) }
	for name, c := range map[string]struct {
		lines  [][]byte
		seqs   []uint64
		damage []string
	}{
		"untouched":      {good, []uint64{1, 2, 3, 4, 5, 6}, nil},
		"first dropped":  {good[1:], []uint64{2, 3, 4, 5, 6}, []string{"hole 1 1"}},
		"one dropped":    {slices.Concat(good[:2], good[3:]), []uint64{1, 2, 4, 5, 6}, []string{"hole 3 3"}},
		"three dropped":  {slices.Concat(good[:2], good[5:]), []uint64{1, 2, 6}, []string{"hole 3 3"}},
		"last dropped":   {good[:5], []uint64{1, 2, 3, 4, 5}, nil}, // nothing in the file can show it
		"doubled":        {slices.Concat(good[:3], good[2:]), []uint64{1, 2, 3, 3, 4, 5, 6}, []string{"order 4 3"}},
		"swapped":        {[][]byte{good[0], good[2], good[1], good[3], good[4], good[5]}, []uint64{1, 3, 2, 4, 5, 6}, []string{"hole 2 2", "order 3 2"}},
		"twice":          {slices.Concat(good[:2], good[:2]), []uint64{1, 2, 1, 2}, []string{"order 3 1", "order 4 2"}},
		"torn":           {slices.Concat(good[:5], [][]byte{good[5][:40]}), []uint64{1, 2, 3, 4, 5}, []string{"torn 6 6"}},
		"no line feed":   {slices.Concat(good[:5], [][]byte{good[5][:len(good[5])-1]}), []uint64{1, 2, 3, 4, 5, 6}, []string{"torn 6 6"}},
		"bad line":       {slices.Concat(good[:2], [][]byte{line(2, `":`, `";`)}, good[3:]), []uint64{1, 2, 4, 5, 6}, []string{"bad_line 3 3"}},
		"bad first line": {slices.Concat([][]byte{line(0, `":`, `";`)}, good[1:]), []uint64{2, 3, 4, 5, 6}, []string{"bad_line 1 1"}},
		"bad and hole":   {slices.Concat(good[:2], [][]byte{[]byte("?\n")}, good[4:]), []uint64{1, 2, 5, 6}, []string{"bad_line 3 3", "hole 4 4"}},
		"inserted":       {slices.Concat(good[:2], [][]byte{[]byte("?\n")}, good[2:]), []uint64{1, 2, 3, 4, 5, 6}, []string{"bad_line 3 3"}},
		"blank line":     {slices.Concat(good[:6], [][]byte{[]byte("\n")}), []uint64{1, 2, 3, 4, 5, 6}, []string{"bad_line 7 7"}},
		"newer schema":   {slices.Concat(good[:2], [][]byte{line(2, `"schema":1`, `"schema":2`)}, good[3:]), []uint64{1, 2, 4, 5, 6}, []string{"schema 3 3"}},
		"unknown field":  {slices.Concat(good[:2], [][]byte{line(2, `"kind"`, `"new":[{"a":null}],"kind"`)}, good[3:]), []uint64{1, 2, 3, 4, 5, 6}, nil},
		"unknown kind":   {slices.Concat(good[:2], [][]byte{line(2, `"mark"`, `"checkpoint"`)}, good[3:]), []uint64{1, 2, 3, 4, 5, 6}, nil},
		"wrong type":     {slices.Concat(good[:2], [][]byte{line(2, `"m1"`, `7`)}, good[3:]), []uint64{1, 2, 4, 5, 6}, []string{"bad_line 3 3"}},
		"too long":       {slices.Concat(good[:2], [][]byte{line(2, `m1`, strings.Repeat("m", maxLine))}, good[3:]), []uint64{1, 2, 4, 5, 6}, []string{"bad_line 3 3"}},
		"too long, torn": {slices.Concat(good[:5], [][]byte{bytes.Repeat([]byte("m"), 3*maxLine)}), []uint64{1, 2, 3, 4, 5}, []string{"torn 6 6"}},
	} {
		path := newPath(t)
		requireWrite(t, path, slices.Concat(c.lines...))
		rs, damage := readAll(t, path)
		var seqs []uint64
		for _, r := range rs {
			seqs = append(seqs, r.Seq)
		}
		require.Equal(t, c.seqs, seqs, name)
		require.Equal(t, c.damage, damage, name)
	}
}

// No cut and no flipped bit goes unseen, but for a cut between two lines, and a
// flip within a value.
func TestEveryCutIsSeen(t *testing.T) {
	path, content, lines := world(t, 3)
	ends := map[int]bool{0: true}
	for n, line := 0, 0; line < len(lines); line++ {
		n += len(lines[line])
		ends[n] = true
	}
	for cut := range content {
		requireWrite(t, path, content[:cut])
		seen := 0
		for _, err := range Read(path) {
			if err != nil {
				seen++
			}
		}
		require.Equal(t, !ends[cut], seen > 0, "cut at %d", cut)
	}
}

func TestDamageInWords(t *testing.T) {
	_, _, lines := world(t, 5)
	path := newPath(t)
	requireWrite(t, path, slices.Concat(lines[0], lines[4], lines[2], []byte("{\n"), lines[5][:9]))
	var got []string
	for r, err := range Read(path) {
		if r == nil {
			got = append(got, strings.ReplaceAll(err.Error(), path, "PATH"))
		}
	}
	require.Equal(t, []string{
		`ledger "PATH": line 2: records are missing: seq 2 to 4`,
		`ledger "PATH": line 3: seq 3 stands behind seq 5`,
		`ledger "PATH": line 4: not a record: unexpected end of JSON input`,
		`ledger "PATH": line 5: the last line is torn: the writer was killed, or is still writing`,
	}, got)
}

func TestReadWhatIsNoLedger(t *testing.T) {
	for content := range strangers {
		path := newPath(t)
		requireWrite(t, path, []byte(content))
		require.ErrorIs(t, firstError(path), ErrNotLedger, "%.40q", content)
	}
	path := newPath(t)
	requireWrite(t, path, []byte(strings.Repeat("a line of text\n", maxDoubt)))
	require.EqualError(t, firstError(path), fmt.Sprintf("read ledger %q: not a ledger (line 1: not a record: "+
		"invalid character 'a' looking for beginning of value); name a file that egressaudit has written with --ledger, such as egressaudit-<UTC time>.jsonl", path))
}

func TestReadWhatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	require.EqualError(t, firstError(dir), fmt.Sprintf("read ledger %q: is a directory", dir))
	require.ErrorIs(t, firstError(dir+"/none"), fs.ErrNotExist)

	_, content, _ := world(t, 3)
	broken := io.MultiReader(bytes.NewReader(content), iotest.ErrReader(errWorn))
	n, last := 0, error(nil)
	for _, err := range read(broken, "x") {
		n, last = n+1, err
	}
	require.Equal(t, 5, n)
	require.EqualError(t, last, `read ledger "x": worn out`)
}

func TestReadingCanEndEarly(t *testing.T) {
	_, _, lines := world(t, 3)
	content := slices.Concat([]byte("?\n?\n"), lines[0], lines[2], []byte("?\n"), lines[3][:9])
	for stop := 1; stop < 8; stop++ {
		n := 0
		for range read(bytes.NewReader(content), "x") {
			if n++; n == stop {
				break
			}
		}
		require.Equal(t, min(stop, 7), n)
	}
}

// A record may be kept while reading goes on.
func TestRecordsAreNotReused(t *testing.T) {
	path := newPath(t)
	w := open(t, path, Options{})
	for n := range 50 {
		o := connection(fmt.Sprint("c", n))
		o.ALPN = []string{fmt.Sprint("p", n)}
		require.NoError(t, w.Append(o))
	}
	require.NoError(t, w.Close())
	for n, r := range requireWhole(t, path) {
		require.Equal(t, []string{fmt.Sprint("c", n), fmt.Sprint("p", n)}, []string{r.ID, r.ALPN[0]})
	}
}

// endless is a ledger of n lines that is made while it is read.
type endless struct {
	n    uint64
	seq  uint64
	line []byte
	rest []byte
	rec  policy.Record
}

func newEndless(n uint64) *endless {
	return &endless{n: n, rec: policy.Record{Schema: 1, Kind: policy.KindConnection, Time: noon, Trial: "t", Vantage: "pod", Observation: connection("c")}}
}

func (e *endless) Read(b []byte) (n int, err error) {
	for n < len(b) {
		if len(e.rest) == 0 {
			if e.seq == e.n {
				return n, io.EOF
			}
			e.seq++
			e.rec.Seq, e.rec.ID = e.seq, fmt.Sprint("c", e.seq)
			e.line = append(appendRecord(e.line[:0], &e.rec), '\n')
			e.rest = e.line
		}
		c := copy(b[n:], e.rest)
		e.rest = e.rest[c:]
		n += c
	}
	return n, nil
}

// requireFlat reads n lines, and demands that the heap does not grow.
func requireFlat(t testing.TB, n uint64) {
	var first, last runtime.MemStats
	var count uint64
	for r, err := range read(newEndless(n), "x") {
		require.NoError(t, err)
		count++
		switch r.Seq {
		case n / 100:
			runtime.GC()
			runtime.ReadMemStats(&first)
		case n:
			runtime.ReadMemStats(&last)
		}
	}
	require.Equal(t, n, count)
	require.Less(t, last.HeapSys, first.HeapSys+16<<20)
	runtime.GC()
	runtime.ReadMemStats(&last)
	require.Less(t, last.HeapAlloc, first.HeapAlloc+1<<20)
}

func TestReadingAMillionLinesIsFlat(t *testing.T) {
	if raced || testing.Short() {
		requireFlat(t, 50_000)
		return
	}
	requireFlat(t, 1_000_000)
}

func FuzzRead(f *testing.F) {
	_, content, _ := world(f, 3)
	f.Add(content)
	f.Add(content[:len(content)-9])
	f.Add(append(content, content...))
	f.Add([]byte(`{"schema":1,"seq":18446744073709551615,"kind":"mark"}` + "\n" + `{"schema":3,"seq":1,"kind":"k","count":-1}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		ended := false
		for r, err := range read(bytes.NewReader(content), "x") {
			require.False(t, ended, "a plain error is the last")
			var d *Damage
			ended = r == nil && !errors.As(err, &d)
			require.Equal(t, r == nil, err != nil)
			if r != nil && r.Kind == policy.KindConnection {
				require.NotNil(t, r.Observation)
			}
			if d != nil {
				require.NotZero(t, d.Line)
				require.NotEmpty(t, d.Error())
			}
		}
	})
}
