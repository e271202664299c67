package live

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/report"
)

// event is one of text/event-stream.
type event struct {
	kind, id string
	data     []byte
}

// listener reads events as a browser does.
type listener struct {
	lines *bufio.Scanner
	body  interface{ Close() error }
}

func (a *admin) listen(t *testing.T, after string, fields ...string) *listener {
	t.Helper()
	r, err := http.NewRequest("GET", a.url+"/api/events?after="+after, nil)
	require.NoError(t, err)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "text/event-stream; charset=utf-8", resp.Header.Get("Content-Type"))
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 4<<20)
	return &listener{lines, resp.Body}
}

// next is the next event; its kind is "" at the end.
func (l *listener) next(t *testing.T) (e event) {
	t.Helper()
	for l.lines.Scan() {
		name, value, found := strings.Cut(l.lines.Text(), ": ")
		switch {
		case l.lines.Text() == "" && e.kind != "":
			require.True(t, json.Valid(e.data))
			return e
		case l.lines.Text() == "" || name == "retry" || name == "":
		case name == "event":
			e.kind = value
		case name == "id":
			e.id = value
		case name == "data":
			require.Nil(t, e.data, "data is one line")
			e.data = []byte(value)
		default:
			require.Fail(t, "no field of an event", "%q %v", l.lines.Text(), found)
		}
	}
	return event{}
}

// until is the first event that a condition holds for.
func (l *listener) until(t *testing.T, ok func(event) bool) event {
	t.Helper()
	for {
		e := l.next(t)
		require.NotEmpty(t, e.kind, "the stream has ended")
		if ok(e) {
			return e
		}
	}
}

func has(kind string, text ...string) func(event) bool {
	return func(e event) bool {
		for _, s := range text {
			if !strings.Contains(string(e.data), s) {
				return false
			}
		}
		return e.kind == kind
	}
}

func rowsOf(t *testing.T, e event) newRows {
	t.Helper()
	var r newRows
	require.NoError(t, json.Unmarshal(e.data, &r))
	require.Equal(t, r.Rows, strings.Count(string(r.HTML), `<li class="row`)-strings.Count(string(r.HTML), `<li class="row left`))
	return r
}

// A browser is told what is there, and then what comes: the statuses, the rows,
// and in the end that it is the end.
func TestEvents(t *testing.T) {
	a := newAdmin(t, "")
	l := a.listen(t, "")
	hello := l.next(t)
	require.Equal(t, "hello", hello.kind)
	require.Contains(t, string(hello.data), a.pageToken)
	l.until(t, has("state", `"live"`))
	l.until(t, has("report", "unused"))
	a.feed.add(phase("deploy"), went("quay.io", reset))
	row := l.until(t, has("rows", "quay.io:443", "connection_terminated at hello, by network", "phase: deploy"))
	require.Equal(t, "book-1:3", row.id)
	changed := l.until(t, has("report", "blocked"))
	require.NotContains(t, string(changed.data), `"provenance"`, "only what changed")
	require.Contains(t, string(changed.data), `aria-current=\"step\"`)
	a.feed.add(&policy.Record{Kind: policy.KindStop, Session: &policy.Session{Ledger: "book-1"}})
	a.Shutdown(t.Context())
	l.until(t, has("rows", "the recording ends"))
	l.until(t, has("bye", "stopped"))
	require.Empty(t, l.next(t).kind, "and then the stream ends")
}

// Who comes back is told what is behind the last event it knows, and all where
// that was of another recording.
func TestReconnect(t *testing.T) {
	a := newAdmin(t, "")
	a.feed.add(went("one.example", fine), went("two.example", fine), went("three.example", fine))
	for after, want := range map[string][]string{
		"book-1:3": {"three.example"}, "book-1:4": {}, "book-1:0": {"three.example", "two.example", "one.example"},
		"book-0:3": {"three.example", "one.example", "the recording begins"}, "": {"one.example"}, "book-1:x": {"one.example"}, ":": {"one.example"},
		"book-1:99999999999999999999": {"one.example"}, "book-1:900": {},
	} {
		for name, l := range map[string]*listener{"query": a.listen(t, after), "header": a.listen(t, "book-1:2", "Last-Event-ID: "+after)} {
			if after == "" && name == "header" {
				continue // none
			}
			e := l.until(t, has("rows"))
			r := rowsOf(t, e)
			require.Equal(t, "book-1:4", e.id)
			require.Equal(t, !strings.HasPrefix(after, "book-1:") || len(after) > 12 || after == "book-1:x", r.Reset, after)
			for _, w := range want {
				require.Contains(t, string(r.HTML), w, "%s by %s", after, name)
			}
			if len(want) == 0 {
				require.Zero(t, r.Rows, after)
			}
			if after == "book-1:3" {
				require.Equal(t, 1, r.Rows)
			}
		}
	}
}

// in runs a board in a bubble of its own time.
func in(t *testing.T, do func(b *board, f *feed)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		b := open(f.follow, report.Options{Catalogs: []*policy.Catalog{quay}}, func(*board) any { return "hello" })
		defer func() { b.close(); <-b.ended }()
		synctest.Wait()
		do(b, f)
	})
}

// frames are the events that wait for w, by kind, and whether more may come.
func frames(w *watcher) (out map[string][]string, more bool) {
	out = map[string][]string{}
	for {
		select {
		case f, ok := <-w.frames:
			if !ok {
				return out, false
			}
			kind, _, _ := strings.Cut(strings.TrimPrefix(string(f), "event: "), "\n")
			out[kind] = append(out[kind], string(f))
		default:
			return out, true
		}
	}
}

// However much happens, a browser is told at most four times a second and of fifty
// rows each time; the others are counted. A report is made once a second at most.
func TestBatches(t *testing.T) {
	in(t, func(b *board, f *feed) {
		w := b.join("")
		time.Sleep(2*time.Second + beatTime/2) // not at one moment with a beat
		synctest.Wait()
		frames(w)
		rows, reports, told := 0, 0, 0
		for range 40 { // ten seconds, 2,000 a second
			for i := range 500 {
				f.add(went(fmt.Sprintf("h%d.example", i), reset))
			}
			time.Sleep(beatTime)
			synctest.Wait()
			out, more := frames(w)
			require.True(t, more)
			require.LessOrEqual(t, len(out["rows"]), 1)
			rows, reports = rows+len(out["rows"]), reports+len(out["report"])
			for _, e := range out["rows"] {
				require.Contains(t, e, "and 450 more in this moment")
				require.Less(t, len(e), 40_000)
				told += strings.Count(e, "h499.example")
			}
		}
		require.InDelta(t, 40, rows, 1)
		require.Equal(t, rows, told, "the newest ones are told")
		require.InDelta(t, 10, reports, 1)
	})
}

// Where nothing happens a browser hears a sign of life all the same, and often
// enough for the page, which takes 15 seconds without one for a broken connection.
func TestSignsOfLife(t *testing.T) {
	in(t, func(b *board, _ *feed) {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		heard := httptest.NewRecorder()
		b.join("").pour(ctx, heard)
		require.GreaterOrEqual(t, strings.Count(heard.Body.String(), "\nevent: alive\ndata: {}\n\n"), 2)
	})
}

// Nobody watches: no report is made.
func TestNobodyWatches(t *testing.T) {
	in(t, func(b *board, f *feed) {
		f.add(went("quay.io", fine))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Nil(t, b.made)
		w := b.join("book-1:0")
		time.Sleep(time.Second)
		synctest.Wait()
		out, _ := frames(w)
		require.Len(t, out["report"], 1)
		require.Len(t, out["rows"], 1)
	})
}

// Who does not keep up is told no more; the others are.
func TestSlowBrowser(t *testing.T) {
	in(t, func(b *board, f *feed) {
		slow, quick := b.join(""), b.join("")
		for range 4 * maxFrames {
			f.add(went("quay.io", fine))
			time.Sleep(beatTime)
			synctest.Wait()
			_, more := frames(quick)
			require.True(t, more)
		}
		require.LessOrEqual(t, len(slow.frames), maxFrames)
		_, more := frames(slow)
		require.False(t, more, "its stream ends, and it comes back by itself")
		require.Len(t, b.watchers, 1)
		b.leave(slow)
	})
}

// There is room for so many browsers, and again when one has left.
func TestManyBrowsers(t *testing.T) {
	a := newAdmin(t, "")
	b := a.board()
	var last *watcher
	for range maxWatchers {
		last = b.join("")
		require.NotNil(t, last)
	}
	status, h, text := a.answer(t, "GET", "/api/events", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.NotEmpty(t, h.Get("Retry-After"))
	require.Contains(t, text, "64 browsers")
	b.leave(last)
	a.listen(t, "").until(t, has("hello"))
}

// While a long recording is read nothing is cleared, and then all is told at once.
func TestReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, gate := newFeed(), make(chan struct{})
		f.add(went("quay.io", fine))
		b := open(func(ctx context.Context, idle func()) iter.Seq2[*policy.Record, error] {
			return f.follow(ctx, func() { <-gate; idle() })
		}, report.Options{Catalogs: []*policy.Catalog{quay}}, func(*board) any { return "hello" })
		defer func() { b.close(); <-b.ended }()
		w := b.join("book-1:1")
		require.False(t, b.await(t.Context(), time.Minute))
		synctest.Wait()
		out, _ := frames(w)
		require.Contains(t, strings.Join(out["state"], ""), "reading the recording: 2 records so far")
		require.Empty(t, out["report"])
		require.Empty(t, out["rows"])
		close(gate)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		out, _ = frames(w)
		require.Contains(t, out["state"][0], `"live"`)
		require.Len(t, out["report"], 1)
		require.Contains(t, out["rows"][0], "quay.io:443")
		require.NotContains(t, out["rows"][0], "the recording begins", "it knew that row")
	})
}

// A recording that can no longer be read is never clear, and the page says so.
func TestBroken(t *testing.T) {
	for _, err := range []error{errBad, nil} {
		in(t, func(b *board, f *feed) {
			f.add(went("quay.io", fine))
			w := b.join("")
			f.breakOff(err)
			time.Sleep(3 * time.Second)
			synctest.Wait()
			out, _ := frames(w)
			require.Contains(t, strings.Join(out["state"], ""), `"broken"`)
			r, _, failed := b.report()
			require.NoError(t, failed)
			require.Equal(t, report.CannotTell, r.Verdict)
		})
	}
}

// Hold holds the same recording against other catalogs; browsers come again.
func TestHold(t *testing.T) {
	a := newAdmin(t, "")
	a.feed.add(went("gcr.io", reset))
	l := a.listen(t, "")
	l.until(t, has("report", "gcr.io", "in no list"))
	other := *quay
	other.Requirements = []*policy.Requirement{{ID: "more", Scope: "s", Hosts: []policy.Pattern{pattern("gcr.io")}, Port: 443, Protocol: "https", Purpose: "more images"}}
	a.Hold(report.Options{Catalogs: []*policy.Catalog{&other}})
	for l.next(t).kind != "" { // until the stream ends
	}
	a.listen(t, "").until(t, has("report", "more images", "1 blocked"))
}
