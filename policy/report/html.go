package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

//go:embed page/report.html
var pageSource string

//go:embed page/report.css
var pageStyle string

// pagePolicy lets the page do nothing but show itself in its own style: no
// script, no request, no form.
var pagePolicy = func() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
}()

var pageTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"anchor":  anchor,
	"at":      target,
	"glyph":   func(word string) string { return glyph[word] },
	"listing": listing,
	"numbers": func(list []uint64) string { return strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ", "), "[]") },
	"tried":   tried,
	"web":     web,
}).Parse(pageSource))

// WriteHTML writes the report as one HTML page that needs nothing else: its
// style is inside, it has no script, and its Content-Security-Policy forbids
// every request. The verdict and what to do next stand on top, then a picture of
// the trial over time with the same as a table, the endpoints as on the
// publishers' pages, and the rest of the report. Nothing is written before all
// is laid out.
func (r *Report) WriteHTML(w io.Writer) error {
	var b bytes.Buffer
	err := pageTemplate.Execute(&b, newPaper(r.visible()))
	if err == nil {
		_, err = w.Write(b.Bytes())
	}
	if err != nil {
		return fmt.Errorf("write report as HTML: %w", err)
	}
	return nil
}

// sheet is what the page shows.
type sheet struct {
	*Report
	Sign        string
	Word, Rest  string // the verdict's sentence
	When, Child string
	Next        []string
	Counts      []count
	Wanted      []*rule
	Groups      []*group
	Blind       []string // blind spots that are no doubts
	Ledgers     []string

	most                                   int // hosts of an endpoint to show; 0: all
	MoreWanted, MoreUnlisted, MoreFindings int // that are not shown
}

// paper is a whole page, which has a picture.
type paper struct {
	*sheet
	Policy       string
	Style        template.CSS
	Wide, Narrow template.HTML
	Tracks       []track
	More         int // tracks that are not in the picture
	Step         string
	Phases       []string
}

// newPaper lays r out, of which all texts are escaped.
func newPaper(r *Report) *paper {
	p := &paper{sheet: newSheet(r), Policy: pagePolicy, Style: template.CSS(pageStyle),
		Wide: r.picture(wideLayout), Narrow: r.picture(narrowLayout), Tracks: r.tracks(),
		Step: about(r.Timeline.Step), Phases: r.phaseList(),
	}
	p.More = max(0, len(p.Tracks)-maxLanes)
	return p
}

// sign stands beside the verdict; a trial without an end is not ticked off.
func (r *Report) sign() string {
	switch {
	case r.Verdict == Gaps:
		return "✕"
	case r.Verdict == Clear && !r.Trial.Ended.IsZero():
		return "✓"
	case r.Verdict == Clear:
		return "…"
	}
	return "?"
}

// steps are what to do next, as sentences of a page that has no section in
// capitals.
func (r *Report) steps() []string {
	var out []string
	for _, n := range r.next() {
		out = append(out, sentence(inDocument.Replace(n)))
	}
	return out
}

// inDocument puts the sections of a document in place of those of the text.
var inDocument = strings.NewReplacer("under IN NO LIST", "in no list", "under FINDINGS", "under Findings",
	"the doubts above", `what stands under "Why nothing can be cleared"`)

// count is one number of the summary.
type count struct {
	Word  string
	Class string
	N     int
}

// newSheet lays r out, of which all texts are escaped.
func newSheet(r *Report) *sheet {
	s := &sheet{
		Report: r, When: when(r.Trial), Child: r.childNote(), Sign: r.sign(), Wanted: r.wanted(), Groups: r.groups(),
		Blind:   r.BlindSpots[len(r.Doubts):],
		Ledgers: append(slices.Clone(r.Files), without(r.Trial.Ledgers, r.Files)...),
	}
	word, rest, _ := strings.Cut(r.Sentence(), ": ")
	s.Word, s.Rest = sentence(strings.ToLower(word)), sentence(rest)+"."
	s.Next = r.steps()
	of := r.Summary
	for i, n := range []int{of.Blocked, of.Partial, of.Reached, of.Resolved, of.Used, of.Bypassed, of.Unused} {
		s.Counts = append(s.Counts, count{string(statuses[i]), string(statuses[i]), n})
	}
	s.Counts = slices.Insert(s.Counts, 2, count{"in no list", "unlisted", of.Unlisted})
	return s
}

// about is d for people: a step is no round time.
func about(d time.Duration) string {
	unit, name := time.Millisecond, "ms"
	switch {
	case d >= 48*time.Hour:
		unit, name = 24*time.Hour, "days"
	case d >= 2*time.Hour:
		unit, name = time.Hour, "h"
	case d >= 2*time.Minute:
		unit, name = time.Minute, "min"
	case d >= time.Second:
		unit, name = time.Second, "s"
	}
	return fmt.Sprintf("%d %s", int64(math.Round(float64(d)/float64(unit))), name)
}

// web is a URL that a link may lead to; "" for every other.
func web(url string) string {
	if strings.HasPrefix(url, "https://") || strings.HasPrefix(url, "http://") {
		return url
	}
	return ""
}

// sentence begins s with a capital.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// Between is from when to when, in the words of the page.
func (s *sheet) Between(from, to time.Time) string { return s.between(from, to) }

// Facts are what was seen of an endpoint, in a line.
func (s *sheet) Facts(e endpointView) string {
	attempts, ok, bytes := e.totals()
	var out []string
	if len(e.Hosts) > 0 {
		out = append(out, tried(attempts, ok))
	}
	if bytes > 0 {
		out = append(out, size(bytes))
	}
	if from, to := e.span(); !from.IsZero() {
		out = append(out, s.between(from, to))
	}
	if !s.Hosts(e) && len(e.Hosts) > 0 && len(e.Hosts[0].Workloads) > 0 {
		out = append(out, "from "+listing(e.Hosts[0].Workloads, 3))
	}
	return joined(" · ", append(out, e.remark())...)
}

// shown are hosts, and how many more there are.
type shown struct {
	Hosts []Host
	More  int
}

// Shown are the hosts of an endpoint that have room, where not all have those
// that do not work first.
func (s *sheet) Shown(hosts []Host) shown {
	if s.most == 0 || len(hosts) <= s.most {
		return shown{Hosts: hosts}
	}
	return shown{troubledFirst(hosts)[:s.most], len(hosts) - s.most}
}

// befell are events that have room, and how many more there are.
type befell struct {
	Events []Event
	More   int
}

// Befell are the events beside e; nil where there are none.
func (s *sheet) Befell(e endpointView) *befell {
	if len(e.Events) == 0 {
		return nil
	}
	shown, more := firstEvents(e.Events)
	return &befell{shown, more}
}

// Hosts says whether the hosts of e tell more than its line does.
func (s *sheet) Hosts(e endpointView) bool {
	return len(e.Hosts) > 1 || len(e.Hosts) == 1 && e.Hosts[0].Host != e.Host
}

// Spells are the times of the beats of t: those that follow each other are one.
func (s *sheet) Spells(t track) string {
	var out []string
	for i := 0; i < len(t.Beats); {
		k := i + 1
		for k < len(t.Beats) && t.Beats[k].Step == t.Beats[k-1].Step+1 {
			k++
		}
		out = append(out, s.between(s.Timeline.At(t.Beats[i].Step), s.Timeline.At(t.Beats[k-1].Step)))
		i = k
	}
	return listing(out, 6)
}

// Totals are the attempts of t.
func (t track) Totals() Beat { return t.totals() }

// Line is the cause without its ask.
func (c *Cause) Line() string { return c.line() }
