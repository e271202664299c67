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
	patience time.Duration // for each read
	mu       sync.Mutex
	begun    bool
	err      error
}

func (w *wire) Read(b []byte) (int, error) {
	w.Conn.SetReadDeadline(time.Now().Add(w.patience))
	n, err := w.Conn.Read(b)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun = w.begun || n > 0
	if w.err == nil {
		w.err = err
	}
	return n, err
}

func (w *wire) state() (begun bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.begun, w.err
}
