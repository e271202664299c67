package ledger

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

func TestTrial(t *testing.T) {
	path := newPath(t)
	w := open(t, path, Options{Trial: "t1", Vantage: "pod", Now: ticking()})
	session := policy.Session{Version: "1.2.3", Mode: "observe", Canary: "x.canary.egressaudit.invalid"}
	require.NoError(t, w.Start(&session))
	require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, session.Ledger)
	require.NoError(t, w.Append(connection("c1")))
	require.NoError(t, w.Mark("deploy"))
	stop := policy.Session{}
	require.NoError(t, w.Stop(&stop))

	rs := requireWhole(t, path)
	require.Equal(t, []policy.Kind{"start", "connection", "mark", "stop"}, kinds(rs))
	require.Equal(t, &session, rs[0].Session)
	require.Equal(t, &policy.Session{Ledger: session.Ledger}, rs[3].Session)
	require.Equal(t, connection("c1"), rs[1].Observation)
	require.Equal(t, "deploy", rs[2].Text)
	for i, r := range rs {
		require.Equal(t, []any{"t1", "pod"}, []any{r.Trial, r.Vantage})
		require.Equal(t, noon.Add(time.Duration(i)*time.Second), r.Time)
	}
}

func TestPhaseIsTheOneAtTheBeginning(t *testing.T) {
	path := newPath(t)
	now := noon
	w := open(t, path, Options{Now: func() time.Time { return now }})
	at := func(begun time.Time) { o := connection("c"); o.Begun = begun; require.NoError(t, w.Append(o)) }
	at(noon)
	at(time.Time{})
	now = noon.Add(time.Minute)
	require.NoError(t, w.Mark("one"))
	now = noon.Add(2 * time.Minute)
	require.NoError(t, w.Mark("two"))
	now = noon.Add(3 * time.Minute)
	at(noon)
	at(noon.Add(time.Minute - 1))
	at(noon.Add(time.Minute))
	at(noon.Add(2*time.Minute - 1))
	at(noon.Add(2 * time.Minute))
	at(time.Time{})
	require.NoError(t, w.Stop(&policy.Session{}))
	var phases []string
	for _, r := range requireWhole(t, path) {
		phases = append(phases, r.Phase)
	}
	require.Equal(t, []string{"", "", "one", "two", "", "", "one", "one", "two", "two", "two"}, phases)
}

func TestManyMarks(t *testing.T) {
	w := open(t, newPath(t), Options{Now: ticking()})
	for n := range 3 * maxPhases {
		require.NoError(t, w.Mark(fmt.Sprint(n)))
	}
	require.Len(t, w.phases, maxPhases)
	require.Equal(t, fmt.Sprint(2*maxPhases), w.phaseAt(noon), "the oldest that is kept")
	require.Equal(t, fmt.Sprint(3*maxPhases-2), w.phaseAt(noon.Add((3*maxPhases-2)*time.Second)))
}

func TestMarkRefusesWhatNamesNoPhase(t *testing.T) {
	w := open(t, newPath(t), Options{})
	require.Error(t, w.Mark(""))
	require.Error(t, w.Mark(strings.Repeat("a", 257)))
	require.NoError(t, w.Mark(strings.Repeat("a", 256)))
	require.Zero(t, w.Lost())
}

// TestMiss: what a sensor could not even make an observation of is in the file, and
// is not counted as the Writer's own loss.
func TestEvent(t *testing.T) {
	path := newPath(t)
	w := open(t, path, Options{})
	require.NoError(t, w.Mark("deploy"))
	require.NoError(t, w.Event(&policy.Event{Workload: "ml/web", Reason: "Failed", Text: "\x1b[31m", Count: 3}))
	require.NoError(t, w.Close())
	require.ErrorIs(t, w.Event(&policy.Event{Workload: "late"}), ErrClosed)
	require.EqualValues(t, 1, w.Lost())
	r := requireWhole(t, path)[1]
	require.Equal(t, []any{policy.KindEvent, "deploy", "ml/web", "Failed", "\x1b[31m", 3}, []any{r.Kind, r.Phase, r.Workload, r.Reason, r.Text, r.Count})
}

func TestMiss(t *testing.T) {
	path := newPath(t)
	w := open(t, path, Options{})
	require.NoError(t, w.Miss(3, "too fast"))
	require.Zero(t, w.Lost())
	require.NoError(t, w.Close())
	require.ErrorIs(t, w.Miss(1, "late"), ErrClosed)
	rs := requireWhole(t, path)
	require.Equal(t, []policy.Kind{policy.KindLost}, kinds(rs))
	require.Equal(t, 3, rs[0].Count)
	require.Equal(t, "too fast", rs[0].Why)
}

func TestTimeNeverGoesBack(t *testing.T) {
	path := newPath(t)
	clock := []time.Time{noon, noon.Add(time.Hour), noon, noon.Add(time.Minute), noon.Add(2 * time.Hour)}
	n := -1
	w := open(t, path, Options{Now: func() time.Time { n++; return clock[n] }})
	requireAppend(t, w, len(clock))
	require.NoError(t, w.Close())
	var hours []float64
	for _, r := range requireWhole(t, path) {
		hours = append(hours, r.Time.Sub(noon).Hours())
	}
	require.Equal(t, []float64{0, 1, 1, 1, 2}, hours)
}

// What cannot become a record is refused at once, and counted in the ledger.
func TestAppendRefuses(t *testing.T) {
	path := newPath(t)
	w := open(t, path, Options{})
	long := connection("c")
	long.Asked = strings.Repeat("\x01", maxLine/6)
	require.ErrorIs(t, w.Append(long), ErrTooLong)
	odd := connection("c")
	odd.Kind = policy.KindMark
	require.ErrorContains(t, w.Append(odd), `an observation of kind "mark"`)
	require.NoError(t, w.Close())
	require.EqualValues(t, 2, w.Lost())
	total := 0
	for _, r := range requireWhole(t, path) {
		require.Equal(t, policy.KindLost, r.Kind)
		total += r.Count
	}
	require.Equal(t, 2, total)
}

func TestManyWritersAtOnce(t *testing.T) {
	path := newPath(t)
	w := open(t, path, Options{Sync: time.Millisecond})
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			for n := range 200 {
				if err := w.Append(connection(fmt.Sprint(g, "-", n))); err != nil {
					t.Error(err)
				}
				if n%50 == 0 {
					if err := w.Sync(bg()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	require.NoError(t, w.Stop(&policy.Session{}))
	rs := requireWhole(t, path)
	require.Len(t, rs, 16*200+1)
	next := map[string]int{}
	for _, r := range rs[:len(rs)-1] {
		g, n, _ := strings.Cut(r.ID, "-")
		require.Equal(t, fmt.Sprint(next[g]), n, "the records of one goroutine keep their order")
		next[g]++
	}
}

// Appends that race with Stop are written or refused, never neither.
func TestStopLosesNothing(t *testing.T) {
	for range 20 {
		path := newPath(t)
		w := open(t, path, Options{})
		accepted := make(chan int)
		for range 4 {
			go func() {
				n := 0
				for w.Append(connection("c")) == nil {
					n++
				}
				accepted <- n
			}()
		}
		require.NoError(t, w.Sync(bg()))
		require.NoError(t, w.Stop(&policy.Session{}))
		total := 0
		for range 4 {
			total += <-accepted
		}
		counted := 0
		rs := requireWhole(t, path)
		require.Equal(t, policy.KindStop, rs[len(rs)-1].Kind)
		for _, r := range rs {
			if r.Kind == policy.KindConnection {
				counted++
			}
		}
		require.Equal(t, total, counted)
	}
}

// appendForEver is what the killed child does.
func appendForEver(path string) error {
	w, err := Open(path, Options{Queue: 300, Sync: time.Millisecond})
	if err != nil {
		return err
	}
	if err := w.Start(&policy.Session{}); err != nil {
		return err
	}
	for range 3 {
		go func() {
			for {
				if w.Append(connection("c")) == ErrFull {
					_ = w.Sync(bg())
				}
			}
		}()
	}
	for {
		w.mu.Lock()
		seq := w.seq
		w.mu.Unlock()
		if err := w.Sync(bg()); err != nil {
			return err
		}
		fmt.Println(seq)
	}
}

// A writer that is killed in the midst of writing leaves what it had synced, and
// nothing but whole lines with at most one torn at each death.
func TestKilledWriter(t *testing.T) {
	path := newPath(t)
	var starts int
	for round := range 12 {
		synced := killed(t, path, round)
		rs, damage := readAll(t, path)
		starts = 0
		for i, r := range rs {
			require.EqualValues(t, i+1, r.Seq)
			if r.Kind == policy.KindStart {
				starts++
			}
		}
		require.GreaterOrEqual(t, len(rs), synced)
		require.LessOrEqual(t, len(damage), round+1)
		for _, d := range damage {
			require.Regexp(t, "^(torn|bad_line) ", d)
		}
	}
	require.Equal(t, 12, starts)
}

// killed kills a child that appends after it has synced some times, and returns
// the seq that the child knew to be on the disk.
func killed(t *testing.T, path string, syncs int) (seq int) {
	exe, err := os.Executable()
	require.NoError(t, err)
	child := exec.Command(exe)
	child.Env = append(os.Environ(), "LEDGER_TEST_CHILD="+path)
	var wrong strings.Builder
	child.Stderr = &wrong
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	for range syncs + 1 {
		_, err := fmt.Fscan(out, &seq)
		require.NoError(t, err, wrong.String())
	}
	require.NoError(t, child.Process.Kill())
	_, _ = io.Copy(io.Discard, out)
	require.ErrorContains(t, child.Wait(), "killed")
	return seq
}

// TestRenew: other circumstances are another session in the same file.
func TestRenew(t *testing.T) {
	path := newPath(t)
	w := open(t, path, Options{})
	require.NoError(t, w.Start(&policy.Session{Mode: "observe"}))
	require.NoError(t, w.Mark("deploy"))
	require.NoError(t, w.Renew(&policy.Session{Mode: "observe"}, &policy.Session{Mode: "enforce"}))
	requireAppend(t, w, 1)
	require.NoError(t, w.Stop(&policy.Session{}))
	var kinds []policy.Kind
	rs := requireWhole(t, path)
	for _, r := range rs {
		kinds = append(kinds, r.Kind)
	}
	require.Equal(t, []policy.Kind{"start", "mark", "stop", "start", "connection", "stop"}, kinds)
	require.Equal(t, "enforce", rs[3].Session.Mode)
	require.Equal(t, rs[0].Session.Ledger, rs[3].Session.Ledger)
	require.Equal(t, "deploy", rs[4].Phase)
	require.Error(t, w.Renew(&policy.Session{}, &policy.Session{}), "closed")
}
