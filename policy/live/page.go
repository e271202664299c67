package live

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy/report"
)

const (
	maxReports = 4                      // delivered at once
	pageWait   = 700 * time.Millisecond // for what is recorded already, before a page is shown without
	reportWait = 20 * time.Second       // the same, for a report
	levelWait  = 2 * time.Second        // for what is recorded while it is asked for
)

//go:embed page
var files embed.FS

// asset is a file that pages load.
type asset struct {
	kind string
	text []byte
}

func (a asset) serve(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", a.kind)
	w.Write(a.text)
}

// file is one of the embedded ones.
func file(name string) []byte {
	text, err := files.ReadFile("page/" + name)
	if err != nil {
		panic(err) // the build embeds them
	}
	return text
}

var assets = map[string]asset{
	"live.css": {"text/css; charset=utf-8", append([]byte(report.Style()), file("live.css")...)},
	"live.js":  {"text/javascript; charset=utf-8", file("live.js")},
	"icon.svg": {"image/svg+xml", file("icon.svg")},
}

var templates = template.Must(template.ParseFS(files, "page/*.html"))

// edition tells pages apart that fit together from those of another program.
var edition = func() string {
	h := sha256.New()
	for _, name := range []string{"live.html", "live.js", "live.css"} {
		h.Write(file(name))
	}
	h.Write([]byte(report.Style()))
	return hex.EncodeToString(h.Sum(nil)[:8])
}()

// render fills a template.
func render(name string, data any) (template.HTML, error) {
	var b strings.Builder
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		return "", fmt.Errorf("write the live page: %w", err)
	}
	return template.HTML(b.String()), nil // html/template made it
}

// rowsHTML are rows of the stream, and a note behind them.
func rowsHTML(list []row, note string) template.HTML {
	html, _ := render("rows", struct { // of texts into a buffer: no error
		Rows []row
		Note string
	}{list, note})
	return html
}

// phases are those of the trial, of which the last one named is now.
func phases(named []string, now string) (template.HTML, error) {
	list := make([]string, 0, len(named)+1)
	for _, p := range named {
		list = append(list, report.Escape(p))
	}
	if now = report.Escape(now); now != "" && !slices.Contains(list, now) {
		list = append(list, now)
	}
	return render("phases", struct {
		List []string
		Now  string
	}{list, now})
}

// sheet is what the page is filled with.
type sheet struct {
	State    state
	Parts    map[string]template.HTML // nil while the recording is read
	Rows     template.HTML
	Last     string // the place of the newest row
	Token    string
	Edition  string
	LogOut   bool
	Formats  []format
	Statuses []string
}

// format is one of the report's, for the list of downloads.
type format struct{ Name, Kind, End, What string }

var formats = []format{
	{"html", "text/html; charset=utf-8", "html", "one page, with a timeline"},
	{"markdown", "text/markdown; charset=utf-8", "md", "for a ticket"},
	{"csv", "text/csv; charset=utf-8", "csv", "one row a rule to ask for"},
	{"text", "text/plain; charset=utf-8", "txt", "as on a terminal"},
	{"json", "application/json", "json", "for programs"},
	{"junit", "application/xml", "xml", "for pipelines"},
}

// page shows everything as it is now; the script takes it on from there.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	if s.config.Token != "" && !s.knows(r) {
		s.form(w, "")
		return
	}
	b := s.board()
	data := sheet{
		Token: s.pageToken, Edition: edition, LogOut: s.config.Token != "", Formats: formats,
		Statuses: []string{"blocked", "partial", "reached", "resolved", "used", "bypassed", "unused"},
	}
	if b.await(r.Context(), pageWait) {
		var err error
		if _, data.Parts, err = b.report(); err != nil {
			say(w, http.StatusInternalServerError, err.Error())
			return
		}
	}
	if data.State, data.Rows, data.Last = b.glance(); data.State.State == "live" {
		data.State = state{"loaded", "as it was loaded"} // until the script takes it on
	}
	s.show(w, http.StatusOK, "live.html", data)
}

// glance is what the page shows beside the report.
func (b *board) glance() (state, template.HTML, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.up() {
		return b.standing(), "", ""
	}
	list, _ := b.rows.behind(0, keptRows)
	return b.standing(), rowsHTML(list, ""), b.id()
}

// form asks for the token.
func (s *Server) form(w http.ResponseWriter, wrong string) {
	s.show(w, http.StatusUnauthorized, "login.html", wrong)
}

func (s *Server) show(w http.ResponseWriter, status int, name string, data any) {
	html, err := render(name, data)
	if err != nil {
		say(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write([]byte(html))
}

// hello is what a browser is told first.
func (s *Server) hello(b *board) any {
	return struct {
		Edition string `json:"edition"`
		Token   string `json:"token"`
		Ledger  string `json:"ledger"`
	}{edition, s.pageToken, b.ledger}
}

// report is the report of all that is recorded by now, to keep.
func (s *Server) report(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("format")
	if name == "" {
		name = "json"
	}
	i := slices.IndexFunc(formats, func(f format) bool { return f.Name == name })
	if i < 0 {
		say(w, http.StatusBadRequest, "format "+report.Escape(report.CheckFormat(name).Error()))
		return
	}
	select {
	case s.rendering <- struct{}{}:
		defer func() { <-s.rendering }()
		defer s.crowd.stay(r.Context())()
	default:
		w.Header().Set("Retry-After", "2")
		say(w, http.StatusServiceUnavailable, fmt.Sprintf("%d reports are being made already", maxReports))
		return
	}
	s.deliver(w, r, formats[i])
}

// now is the report of all that is recorded by now, but for what a disk refuses.
func (s *Server) now(ctx context.Context, b *board) (*report.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, levelWait)
	defer cancel()
	if s.config.Written != nil && s.config.Written(ctx) == nil {
		b.level(ctx)
	}
	rep, _, err := b.judge(0)
	return rep, err
}

func (s *Server) deliver(w http.ResponseWriter, r *http.Request, f format) {
	b := s.board()
	if !b.await(r.Context(), reportWait) {
		w.Header().Set("Retry-After", "10")
		say(w, http.StatusServiceUnavailable, "the recording is still being read: ask again")
		return
	}
	rep, err := s.now(r.Context(), b)
	var text bytes.Buffer
	if err == nil {
		err = rep.Write(&text, f.Name, report.TextOptions{})
	}
	if err != nil {
		say(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", f.Kind)
	w.Header().Set("Content-Disposition", `attachment; filename="egressaudit-report.`+f.End+`"`)
	w.Write(text.Bytes())
}
