package live

import (
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxWatchers  = 64               // browsers at once
	maxFrames    = 16               // events that wait for one of them
	aliveTime    = 5 * time.Second  // between signs of life: the page takes three without one for a broken connection
	deliveryTime = 10 * time.Second // that a browser has to take an event
)

// watcher is a browser that is told what changes.
type watcher struct {
	frames chan []byte // closed when it is told no more: too slow, or the end
	after  string      // the place up to which it knew the rows when it came
}

// frame is an event as text/event-stream has it. data is in one line, for JSON has
// no line feeds of its own.
func frame(event, id string, data any) []byte {
	text, _ := json.Marshal(data) // of strings, numbers and maps of them: no error
	if id != "" {
		id = "id: " + id + "\n"
	}
	return fmt.Appendf(nil, "event: %s\n%sdata: %s\n\n", event, id, text)
}

// newRows is the data of an event of rows.
type newRows struct {
	HTML  template.HTML `json:"html"`  // the newest first
	Rows  int           `json:"rows"`  // in it
	Left  uint64        `json:"left"`  // that happened and are not in it
	Reset bool          `json:"reset"` // those that the page has are of another recording
}

// join takes a browser that knows the rows up to the place after, and returns nil
// where there are too many. What it is to know first waits in its queue.
func (b *board) join(after string) *watcher {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watchers == nil || len(b.watchers) >= maxWatchers {
		return nil
	}
	if len(b.watchers) == 0 {
		b.shown, b.state = nil, b.standing() // nobody was there to be told
	}
	w := &watcher{frames: make(chan []byte, maxFrames), after: after}
	w.frames <- frame("hello", "", b.hello(b))
	w.frames <- frame("state", "", b.state)
	if b.shown != nil {
		w.frames <- frame("report", "", b.shown)
	}
	if b.up() {
		b.tellRows()
		w.frames <- b.missed(after)
	}
	b.watchers[w] = true
	return w
}

// missed is the event of the rows behind a place.
func (b *board) missed(after string) []byte {
	n, reset, gone := b.place(after)
	list, _ := b.rows.behind(n, keptRows)
	note := ""
	if gone {
		note = "others in between are left out here"
	}
	return frame("rows", b.id(), newRows{rowsHTML(list, note), len(list), 0, reset})
}

// id is the place behind the latest row, over restarts: the ledger, and the row's
// seq.
func (b *board) id() string { return fmt.Sprintf("%s:%d", b.ledger, b.rows.last()) }

// place is how many rows there were at an id. reset says that it is of another
// recording, so that all are new, and gone that rows behind it are kept no more.
func (b *board) place(id string) (n uint64, reset, gone bool) {
	i := strings.LastIndexByte(id, ':')
	seq, err := strconv.ParseUint(id[i+1:], 10, 64)
	if i < 0 || err != nil || id[:i] != b.ledger {
		return 0, true, false
	}
	n = b.rows.after(seq)
	return n, false, n > 0 && n+keptRows == b.rows.n
}

func (b *board) leave(w *watcher) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.watchers, w)
}

// tell gives an event to all. mu is held.
func (b *board) tell(f []byte) {
	for w := range b.watchers {
		b.give(w, f)
	}
}

// give puts an event into a queue. Who does not keep up is told no more, and comes
// back by itself.
func (b *board) give(w *watcher, f []byte) {
	select {
	case w.frames <- f:
	default:
		close(w.frames)
		delete(b.watchers, w)
	}
}

// pulse tells what is new, while somebody watches.
func (b *board) pulse(ctx context.Context) {
	every := time.NewTicker(beatTime)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			b.beat(reportTime)
		}
	}
}

// beat tells all what is new, with a report that is so young.
func (b *board) beat(young time.Duration) {
	b.mu.Lock()
	b.tellState()
	watched := len(b.watchers) > 0 && b.up()
	if watched {
		b.tellRows()
	}
	b.mu.Unlock()
	if !watched {
		return
	}
	_, parts, err := b.judge(young)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.broken = err.Error()
		return
	}
	b.tellReport(parts)
}

func (b *board) tellState() {
	if now := b.standing(); now != b.state {
		b.state = now
		b.tell(frame("state", "", now))
	}
}

// tellRows tells what is new, and for the first time what each does not know of
// all that was there.
func (b *board) tellRows() {
	if !b.begun {
		b.begun, b.told = true, b.rows.n
		for w := range b.watchers {
			b.give(w, b.missed(w.after))
		}
	}
	list, left := b.rows.behind(b.told, batchRows)
	if b.told = b.rows.n; len(list) > 0 {
		note := ""
		if left > 0 {
			note = fmt.Sprintf("and %d more in this moment", left)
		}
		b.tell(frame("rows", b.id(), newRows{rowsHTML(list, note), len(list), left, false}))
	}
}

// tellReport tells the sections that changed.
func (b *board) tellReport(parts map[string]template.HTML) {
	changed := map[string]template.HTML{}
	for name, html := range parts {
		if was, ok := b.shown[name]; !ok || was != html {
			changed[name] = html
		}
	}
	if b.shown = parts; len(changed) > 0 {
		b.tell(frame("report", "", changed))
	}
}

// finish tells the last state, once all that was recorded is read, and ends.
func (b *board) finish(ctx context.Context) {
	b.mu.Lock()
	watched := len(b.watchers) > 0
	b.mu.Unlock()
	if watched {
		b.level(ctx)
	}
	b.beat(0)
	b.mu.Lock()
	b.tell(frame("bye", "", state{"ended", "egressaudit has stopped: this is how it stood at the end"}))
	b.mu.Unlock()
	b.close()
}

// events streams what changes to one browser.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	after := r.Header.Get("Last-Event-ID")
	if after == "" {
		after = r.URL.Query().Get("after")
	}
	b := s.board()
	me := b.join(after)
	if me == nil {
		w.Header().Set("Retry-After", "5")
		say(w, http.StatusServiceUnavailable, fmt.Sprintf("%d browsers watch already, or this server stops", maxWatchers))
		return
	}
	defer b.leave(me)
	defer s.crowd.stay(r.Context())()
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no") // of nginx in between
	me.pour(r.Context(), w)
}

// pour writes events until the browser or its queue ends.
func (me *watcher) pour(ctx context.Context, w http.ResponseWriter) {
	c := http.NewResponseController(w)
	c.SetReadDeadline(time.Time{}) // that of the request would end the stream
	write := func(text []byte) bool {
		c.SetWriteDeadline(time.Now().Add(deliveryTime))
		_, err := w.Write(text)
		return err == nil && c.Flush() == nil
	}
	alive := time.NewTicker(aliveTime)
	defer alive.Stop()
	for ok := write([]byte("retry: 1000\n\n")); ok; {
		select {
		case <-ctx.Done():
			return
		case <-alive.C:
			ok = write(frame("alive", "", struct{}{}))
		case f, more := <-me.frames:
			ok = more && write(f)
		}
	}
}
