package proxy

import (
	"net"
	"sync"
	"time"
)

// wire is the connection that a request goes out on. It remembers what net/http
// does not tell: whether an answer had begun, and how the stream ended.
type wire struct {
	net.Conn
	patience time.Duration // without an octet either way
	mu       sync.Mutex
	begun    bool
	err      error
	at       time.Time // of err
}

func (w *wire) Read(b []byte) (int, error) {
	w.Conn.SetReadDeadline(time.Now().Add(w.patience))
	n, err := w.Conn.Read(b)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun = w.begun || n > 0
	if w.err == nil && err != nil {
		w.err, w.at = err, time.Now()
	}
	return n, err
}

func (w *wire) Write(b []byte) (int, error) {
	w.Conn.SetDeadline(time.Now().Add(w.patience)) // a long request is no silence
	return w.Conn.Write(b)
}

func (w *wire) state() (begun bool, at time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.begun, w.at, w.err
}
