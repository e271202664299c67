package ledger

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// told is what a Follow has yielded.
type told struct {
	lines, damage []string
	err           error
	ended         bool
}

// follow runs a Follow in the background of a synctest bubble; the func says
// what it has yielded so far.
func follow(t *testing.T, ctx context.Context, path string, n int) func() told {
	var mu sync.Mutex
	all := told{lines: []string{}}
	take := func(l Line, err error) {
		mu.Lock()
		defer mu.Unlock()
		var d *Damage
		switch {
		case err == nil:
			all.lines = append(all.lines, string(l.Text)+"\n")
		case errors.As(err, &d):
			all.damage = append(all.damage, d.Kind)
		default:
			all.err = err
		}
	}
	go func() {
		for l, err := range Follow(ctx, path, TailOptions{Records: n}) {
			take(l, err)
		}
		mu.Lock()
		defer mu.Unlock()
		all.ended = true
	}()
	return func() told {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// look is time enough to look at the file again.
func look() {
	time.Sleep(2 * followEvery) // of the bubble's
	synctest.Wait()
}

func add(t *testing.T, path string, content []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.Write(content)
	require.NoError(t, errors.Join(err, f.Close()))
}

func asText(lines ...[]byte) (out []string) {
	for _, l := range lines {
		out = append(out, string(l))
	}
	return out
}

// A ledger that grows, one octet at a time: each record comes once, when its
// line is whole, and the torn lines between are no damage.
func TestFollowOctetByOctet(t *testing.T) {
	for n := range 3 {
		synctest.Test(t, func(t *testing.T) {
			path, _, l := world(t, 3)
			whole := slices.Concat(l...)
			requireWrite(t, path, whole[:len(l[0])+10])
			ctx, cancel := context.WithCancel(t.Context())
			f := follow(t, ctx, path, n)
			shown := min(n, 1)
			look()
			require.Equal(t, append([]string{}, asText(l[:1]...)[:shown]...), f().lines)
			for i := len(l[0]) + 10; i < len(whole)-9; i++ {
				add(t, path, whole[i:i+1])
				look()
			}
			require.Equal(t, asText(l[1-shown:3]...), f().lines)
			cancel()
			look()
			require.True(t, f().ended, "told to end in the middle of a line")
			require.NoError(t, f().err)
			require.Empty(t, f().damage)
		})
	}
}

// From nothing to the first record, and a hole on the way.
func TestFollowFromTheBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, l := world(t, 4)
		path := newPath(t)
		requireWrite(t, path, nil)
		ctx, cancel := context.WithCancel(t.Context())
		f := follow(t, ctx, path, 10)
		look()
		require.Empty(t, f().lines)
		add(t, path, slices.Concat(l[:2]...))
		look()
		require.Equal(t, asText(l[:2]...), f().lines)
		add(t, path, slices.Concat([]byte(`{"schema":1,"torn`+"\n"), l[4]))
		look()
		require.Equal(t, asText(l[0], l[1], l[4]), f().lines)
		require.Equal(t, []string{BadLine, Hole}, f().damage)
		cancel()
		look()
		require.True(t, f().ended)
	})
}

// A hole right behind the end of the ledger that -n 0 skipped is seen.
func TestFollowSeesAHoleBehindTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, l := world(t, 4)
		path := newPath(t)
		requireWrite(t, path, slices.Concat(l[:2]...))
		ctx, cancel := context.WithCancel(t.Context())
		f := follow(t, ctx, path, 0)
		synctest.Wait()
		add(t, path, l[4])
		look()
		cancel()
		look()
		require.Equal(t, []string{Hole}, f().damage)
	})
}

// A file that cannot go on ends it, and says why.
func TestFollowOfAFileThatGoesAway(t *testing.T) {
	for why, change := range map[string]func(path string) error{
		"it became shorter while it was followed (start again to see what is there now)": func(path string) error { return os.Truncate(path, 10) },
		"it was removed while it was followed":                                           os.Remove,
		"another file took its place while it was followed (start again to see that one)": func(path string) error {
			return errors.Join(os.Rename(path, path+".1"), os.WriteFile(path, nil, 0o600))
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			path, _, _ := world(t, 3)
			f := follow(t, t.Context(), path, 1)
			look()
			require.False(t, f().ended)
			require.NoError(t, change(path))
			look()
			require.True(t, f().ended)
			require.EqualError(t, f().err, `read ledger "`+path+`": `+why)
		})
	}
}

// What a real Writer appends is told, in its order, while it writes.
func TestFollowAWriter(t *testing.T) {
	path := newPath(t)
	w := open(t, path, Options{Trial: "t"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const records = 5000
	go func() {
		for n := 0; n < records; {
			if w.Append(connection("c")) == nil {
				n++
			}
		}
	}()
	var next uint64
	for l, err := range Follow(ctx, path, TailOptions{Records: 1 << 30}) {
		require.NoError(t, err)
		next++
		require.Equal(t, next, l.Record.Seq)
		if next == records {
			cancel()
		}
	}
	require.EqualValues(t, records, next)
}

// Watch begins with the first record, and goes on with what is appended; a torn
// line is no damage while it is the last.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, _, l := world(t, 3)
		whole := slices.Concat(l...)
		requireWrite(t, path, whole[:len(l[0])+10])
		ctx, cancel := context.WithCancel(t.Context())
		var seqs []uint64
		var mu sync.Mutex
		idle, ended := 0, false
		go func() {
			for r, err := range Watch(ctx, path, func() { mu.Lock(); idle++; mu.Unlock() }) {
				mu.Lock()
				require.NoError(t, err)
				seqs = append(seqs, r.Seq)
				mu.Unlock()
			}
			mu.Lock()
			ended = true
			mu.Unlock()
		}()
		look()
		mu.Lock()
		require.Equal(t, []uint64{1}, seqs)
		require.Positive(t, idle)
		mu.Unlock()
		add(t, path, whole[len(l[0])+10:])
		look()
		cancel()
		look()
		mu.Lock()
		defer mu.Unlock()
		require.Len(t, seqs, len(l))
		require.True(t, ended)
	})
}
