package live

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// maxPhase is how many octets the name of a phase may have.
const maxPhase = 256

// Config is what a Server tells of, and what it may do. Ready and Mark are needed.
type Config struct {
	// Ready says what is wrong, nil for nothing; it is called by several goroutines
	// at once, and does not wait.
	Ready func() error
	// Mark names a phase from now on.
	Mark func(text string) error
	// Token is whom the API believes; "": everybody on this host.
	Token string
	// Metrics are read whenever somebody asks for them.
	Metrics []Metric
}

// Server answers on the admin address. Its methods may be called by several
// goroutines at once.
type Server struct {
	config Config
	counts *counts
	http   *http.Server
}

// New makes a Server.
func New(c Config) *Server {
	s := &Server{config: c, counts: newCounts(c.Metrics)}
	s.http = &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	return s
}

// Serve answers on l, which it closes at the end, until Shutdown; then it returns
// nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops accepting, and lets what is being answered finish until the
// context ends.
func (s *Server) Shutdown(ctx context.Context) {
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
}

func (s *Server) routes() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	m.HandleFunc("GET /readyz", s.ready)
	m.Handle("GET /metrics", s.counts.handler())
	m.Handle("POST /api/mark", s.guarded(s.mark))
	return m
}

// ready is red while something is wrong.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if err := s.config.Ready(); err != nil {
		say(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	say(w, http.StatusOK, "ok")
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

// guarded lets those pass who may change the recording.
func (s *Server) guarded(h http.HandlerFunc) http.Handler {
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.config.Token != "" && !s.knows(r):
			w.Header().Set("WWW-Authenticate", "Bearer")
			say(w, http.StatusUnauthorized, "write the token of --admin-token-file: Authorization: Bearer TOKEN")
		case s.config.Token == "" && !thisHost(r.Host):
			say(w, http.StatusForbidden, fmt.Sprintf("%q is not this host: write its loopback address", r.Host))
		default:
			h(w, r)
		}
	}))
}

func (s *Server) knows(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && subtle.ConstantTimeCompare([]byte(token), []byte(s.config.Token)) == 1
}

// thisHost says whether a Host field names loopback, and nothing that somebody's
// name server chose.
func thisHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && a.IsLoopback()
}

func say(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}
