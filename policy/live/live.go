package live

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/egressaudit/egressaudit/policy/report"
)

// maxPhase is how many octets the name of a phase may have.
const maxPhase = 256

// Config is what a Server tells of, and what it may do. Ready, Mark and Records are needed.
type Config struct {
	// Ready says what is wrong, nil for nothing; it is called by several goroutines
	// at once, and does not wait.
	Ready func() error
	// Lost is how many records the ledger did not take so far; nil: none ever.
	Lost func() uint64
	// Written waits until all that is recorded by now is where Records find it, or
	// the context ends; nil: it always is.
	Written func(context.Context) error
	// Mark names a phase from now on.
	Mark func(text string) error
	// Token is whom the page and the API believe; "": everybody on this host.
	Token string
	// Metrics are read whenever somebody asks for them.
	Metrics []Metric
	// Records are what the page shows, from the first time that somebody looks.
	// They are followed beside whatever writes them, and slow nothing.
	Records Records
	// Against is what they are held against, until Hold says otherwise.
	Against report.Options
}

// Server answers on the admin address. Its methods may be called by several
// goroutines at once.
type Server struct {
	config    Config
	counts    *counts
	http      *http.Server
	crowd     crowd
	pageToken string        // of this process, in POSTs of its pages
	rendering chan struct{} // a value for each report that is being delivered

	mu      sync.Mutex
	current *board // nil: nobody has looked
	against report.Options
}

// New makes a Server.
func New(c Config) *Server {
	s := &Server{
		config: c, counts: newCounts(c.Metrics), pageToken: rand.Text(), against: c.Against, rendering: make(chan struct{}, maxReports),
	}
	s.counts.registry.MustRegister(newVerdicts(s))
	s.http = &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ConnContext: s.crowd.enter, ConnState: s.crowd.follow,
	}
	return s
}

// Hold holds the recording against something else from now on, from its first
// record. Browsers take it up by themselves.
func (s *Server) Hold(against report.Options) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.against = against
	if s.current != nil {
		s.current.close()
		s.current = s.open()
	}
}

// board is what is shown; with the first look it begins to read.
func (s *Server) board() *board {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		s.current = s.open()
	}
	return s.current
}

func (s *Server) open() *board { return open(s.config.Records, s.against, s.hello) }

// Serve answers on l, which it closes at the end, until Shutdown; then it returns
// nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown tells browsers how it stands when all is recorded, stops accepting, and
// lets what is being answered finish until the context ends.
func (s *Server) Shutdown(ctx context.Context) {
	s.mu.Lock()
	b := s.current
	s.mu.Unlock()
	if b != nil {
		b.finish(ctx)
	}
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
}

func (s *Server) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	m.HandleFunc("GET /readyz", s.ready)
	m.Handle("GET /metrics", s.counts.handler())
	m.Handle("GET /{$}", s.local(s.page))
	m.Handle("POST /login", s.local(s.login))
	m.Handle("POST /logout", s.local(s.logout))
	for name, a := range assets {
		m.Handle("GET /"+name, s.local(a.serve))
	}
	m.Handle("GET /api/report", s.guarded(s.report))
	m.Handle("GET /api/events", s.guarded(s.events))
	m.Handle("POST /api/mark", s.guarded(s.mark))
	return hardened(m)
}

// ready is red while something is wrong that may pass. Records that were lost are
// lost for good: to turn red for them would take the proxy from its clients and bring
// nothing back. So they are told of, and the report can never clear.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if err := s.config.Ready(); err != nil {
		say(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	if n := s.lost(); n > 0 {
		say(w, http.StatusOK, fmt.Sprintf("ok, but records lost: %d; no report of this recording will be an all-clear", n))
		return
	}
	say(w, http.StatusOK, "ok")
}

func (s *Server) lost() uint64 {
	if s.config.Lost == nil {
		return 0
	}
	return s.config.Lost()
}

// mark takes the name of a phase, which is the whole body.
func (s *Server) mark(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPhase+2))
	text := strings.TrimSpace(string(b))
	switch {
	case err != nil || len(text) > maxPhase:
		say(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the name of a phase has at most %d octets", maxPhase))
	case text == "":
		say(w, http.StatusBadRequest, "the name of the phase is missing: it is the body of the request")
	case !utf8.ValidString(text):
		say(w, http.StatusBadRequest, "the name of the phase is not UTF-8")
	default:
		if err := s.config.Mark(text); err != nil {
			say(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}
