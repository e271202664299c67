package ledger

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"testing"
	"testing/synctest"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// Stream says what Read says, of every record and of all damage, though it uses
// one room for all: nothing of a record shows through in the next.
func TestStreamIsRead(t *testing.T) {
	path := newPath(t)
	world, err := io.ReadAll(newEndless(300))
	require.NoError(t, err)
	full := `{"schema":1,"seq":%d,"time":"2026-01-02T10:00:00Z","kind":"%s"%s}` + "\n"
	out := world
	for i, rest := range []string{
		`,"name":"a","alpn":["h2","http/1.1"],"answers":["1.2.3.4","::1"],"cnames":["b"],"matches":[{"catalog":"c","requirement":"r","endpoint":"e"}],"detail":{"a":"b","n":1,"l":["x"]}`,
		`,"name":"b"`, `,"alpn":[],"detail":{}`, `,"name":"c\u0000","alpn":["odd"],"detail":{"x":1.5}`, `,"alpn":["h3"],"answers":["1"],"detail":{"n":2}`,
		`,"open":true,"port":443`, ``, ` , "name" : "spaced"`,
	} {
		for _, kind := range []string{"connection", "query", "mark", "stop"} {
			out = fmt.Appendf(out, full, 301+4*i, kind, rest)
		}
	}
	out = append(out, "not a record\n"+`{"schema":1,"seq":900,"kind":"lost","count":3,"why":"w"}`...)
	require.NoError(t, os.WriteFile(path, out, 0o600))

	var want []string
	for r, err := range Read(path) {
		want = append(want, pairText(t, r, err))
	}
	n := 0
	for r, err := range Stream(path) {
		require.Equal(t, want[n], pairText(t, r, err))
		n++
	}
	require.Len(t, want, n)
	require.Greater(t, n, 330)
}

// pairText is a pair of Read as text, nil lists and empty ones apart.
func pairText(t *testing.T, r *policy.Record, err error) string {
	t.Helper()
	if r == nil {
		return err.Error()
	}
	b, err := json.Marshal(r)
	require.NoError(t, err)
	if o := r.Observation; o != nil {
		return fmt.Sprintf("%s %#v %#v %#v %#v %#v", b, o.ALPN, o.Answers, o.CNAMEs, o.Matches, o.Detail)
	}
	return string(b)
}

func TestStreamOfNothing(t *testing.T) {
	for _, err := range Stream(newPath(t)) {
		require.ErrorIs(t, err, os.ErrNotExist)
	}
}

// Streaming allocates a small part of what reading does.
func TestStreamAllocates(t *testing.T) {
	if raced {
		t.Skip("the race detector allocates")
	}
	path := newPath(t)
	content, err := io.ReadAll(newEndless(2000))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	perLine := testing.AllocsPerRun(3, func() {
		for r, err := range Stream(path) {
			if err != nil || r == nil {
				panic(err)
			}
		}
	}) / 2000
	require.Less(t, perLine, 4.0, "Read makes 7")
}

// BenchmarkStream is BenchmarkRead without records of their own.
func BenchmarkStream(b *testing.B) {
	path := newPath(b)
	require.NoError(b, os.WriteFile(path, lines(b), 0o600))
	b.ReportAllocs()
	n := 0
	for n < b.N {
		for r, err := range Stream(path) {
			if n++; err != nil || r.Observation == nil {
				b.Fatal(err)
			}
			if n == b.N {
				break
			}
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "lines/s")
}

// A reader that has had enough ends the one ahead of it, however much there is still
// to read: synctest waits for both, and fails if one is stuck.
func TestStreamLeft(t *testing.T) {
	for _, enough := range []int{1, batchPairs - 1, batchPairs, batchPairs + 1, 4 * batchPairs} {
		synctest.Test(t, func(t *testing.T) {
			endless := func(yield func(*policy.Record, error) bool) {
				for yield(new(policy.Record), nil) {
				}
			}
			n := 0
			for range ahead(endless) {
				if n++; n == enough {
					break
				}
			}
			require.Equal(t, enough, n)
		})
	}
}

// Sessions finds every start and stop, however it is spelt, and reads hardly
// anything else.
func TestSessions(t *testing.T) {
	path := newPath(t)
	content, err := io.ReadAll(newEndless(500))
	require.NoError(t, err)
	line := `{"schema":1,"seq":%d,"time":"2026-01-02T10:00:00Z","kind" : "%s"}` + "\n"
	content = fmt.Appendf(content, line, 501, "stop")
	content = fmt.Appendf(content, line, 502, "start")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	sessions := func(from iter.Seq2[*policy.Record, error]) (seqs []uint64, read int) {
		for r := range from {
			if r == nil {
				continue
			}
			if read++; r.Session != nil {
				seqs = append(seqs, r.Seq)
			}
		}
		return seqs, read
	}
	want, all := sessions(Read(path))
	got, read := sessions(Sessions(path))
	require.Equal(t, want, got)
	require.GreaterOrEqual(t, len(got), 2)
	require.Less(t, read, all/10)
}
