package report

import (
	"bytes"
	"fmt"
	"html/template"
	"math"
	"time"

	svg "github.com/ajstarks/svgo/float"
)

// maxLanes bounds the lanes of the picture; the page lists all endpoints below.
const maxLanes = 48

// track is a lane of the picture: an endpoint or unlisted destination that was
// seen, and its beats.
type track struct {
	Anchor string
	Label  string
	Status string
	Beats  []Beat
}

// totals are the attempts of a track by kind.
func (t track) totals() (b Beat) {
	for _, n := range t.Beats {
		b.Worked, b.Failed, b.Other = b.Worked+n.Worked, b.Failed+n.Failed, b.Other+n.Other
	}
	return b
}

// tracks are the lanes of the picture, those with trouble first.
func (r *Report) tracks() []track {
	var out []track
	rows := r.rows()
	enter := func(list ...Status) {
		for _, s := range list {
			for _, row := range rows[s] {
				if len(row.Beats) > 0 {
					out = append(out, track{row.anchor, row.at(), string(s), row.Beats})
				}
			}
		}
	}
	enter(Blocked, Partial)
	broken, rest := r.unlistedTracks()
	some := min(len(broken), maxLanes/3) // or else they would leave no room for the rest
	out = append(out, broken[:some]...)
	enter(Reached, Resolved, Used, Bypassed)
	return append(append(out, broken[some:]...), rest...)
}

// unlistedTracks are those of destinations in no list, those that never worked
// apart.
func (r *Report) unlistedTracks() (broken, rest []track) {
	for i, u := range r.Unlisted {
		t := track{anchor("u", i), Escape(target(u.Host, u.Port)), "in no list", u.Beats}
		switch {
		case len(u.Beats) == 0:
		case u.Cause != nil:
			broken = append(broken, t)
		default:
			rest = append(rest, t)
		}
	}
	return broken, rest
}

// layout is the geometry of a picture, in CSS pixels.
type layout struct {
	name    string // prefix of its ids
	width   float64
	left    float64 // where time begins
	lane    float64 // height of a lane
	mid     float64 // where in a lane the beats are
	letters int     // of a label
	ticks   int
}

// The picture is drawn twice, since what fits a sheet is unreadable on a phone:
// there labels stand above their lanes.
var (
	wideLayout   = layout{"wide", 1080, 330, 20, 10, 44, 9}
	narrowLayout = layout{"narrow", 360, 4, 34, 24, 50, 4}
)

const (
	letter   = 6.4 // width of a letter
	headroom = 42  // above the lanes: phases and times
)

// drawing is a picture in the making.
type drawing struct {
	*svg.SVG
	layout
	Timeline
	tracks []track
}

// picture draws when attempts were made, as an SVG element without style of its
// own. It is empty where nothing has a time.
func (r *Report) picture(l layout) template.HTML {
	tracks := r.tracks()
	if len(tracks) == 0 || r.Timeline.Steps == 0 {
		return ""
	}
	var b bytes.Buffer
	d := &drawing{SVG: svg.New(&b), layout: l, Timeline: r.Timeline, tracks: tracks[:min(len(tracks), maxLanes)]}
	height := d.top(len(d.tracks)) + 4
	id := "timeline-" + l.name
	d.Startraw(fmt.Sprintf(`viewBox="0 0 %.0f %.0f"`, l.width, height), `class="`+l.name+`"`, `role="img"`,
		fmt.Sprintf(`aria-labelledby="%s-title" aria-describedby="%s-text"`, id, id))
	fmt.Fprintf(d.Writer, `<title id="%s-title">Timeline of the trial</title><desc id="%s-text">%s</desc>`, id, id, template.HTMLEscapeString(r.described(tracks)))
	d.phases(height)
	d.times(height)
	for i, t := range d.tracks {
		d.track(i, t)
	}
	d.End()
	_, body, _ := bytes.Cut(b.Bytes(), []byte("<svg")) // an XML declaration has no place inside HTML
	return template.HTML("<svg" + string(body))
}

// described is the picture in words.
func (r *Report) described(tracks []track) string {
	failing := 0
	for _, t := range tracks {
		failing += bit(t.totals().Failed > 0)
	}
	return fmt.Sprintf("Attempts at %d destinations from %s to %s; attempts at %d of them failed or were denied. The table below has the same in text.",
		len(tracks), r.moment(r.Timeline.From), r.moment(r.Timeline.Until()), failing)
}

// x is where step is.
func (d *drawing) x(step float64) float64 {
	return d.left + step*(d.width-d.left-8)/float64(d.Steps)
}

// at is where t is, kept within the picture.
func (d *drawing) at(t time.Time) float64 {
	return d.x(min(max(t.Sub(d.From).Seconds()/d.Step.Seconds(), 0), float64(d.Steps)))
}

// top is where the i-th lane begins.
func (d *drawing) top(i int) float64 { return headroom + float64(i)*d.lane }

// phases draws a band for each phase, with its number and as much of its name
// as there is room for.
func (d *drawing) phases(height float64) {
	for i, p := range d.Phases {
		from, to := d.at(p.Began), d.x(float64(d.Steps))
		if i+1 < len(d.Phases) {
			to = d.at(d.Phases[i+1].Began)
		}
		d.Rect(from, 0, max(to-from, 0), height, fmt.Sprintf(`class="band b%d"`, i%2))
		d.Line(from, 0, from, height, `class="mark"`)
		if name := cut(fmt.Sprintf("%d %s", i+1, p.Name), int((to-from-6)/letter)); name != "" {
			d.Text(from+4, 14, name, `class="phase"`)
		}
	}
}

// cut shortens s to at most n letters; "" where nothing of it would be left.
func cut(s string, n int) string {
	r := []rune(s)
	switch {
	case len(r) <= n:
		return s
	case n < 1:
		return ""
	case n < 4:
		return string(r[:1])
	}
	return string(r[:n-1]) + "…"
}

// times draws the clock above the lanes.
func (d *drawing) times(height float64) {
	step := tick(d.Step*time.Duration(d.Steps), d.ticks)
	form := "15:04:05"
	switch {
	case step >= 24*time.Hour:
		form = "01-02"
	case step >= time.Minute:
		form = "15:04"
	case step < time.Second:
		form = "05.000"
	}
	for t := d.From.Truncate(step).Add(step); t.Before(d.Until()); t = t.Add(step) {
		x := d.at(t)
		d.Line(x, headroom-8, x, height, `class="grid"`)
		label, anchor := t.Format(form), "middle"
		if step < 24*time.Hour && t.Truncate(24*time.Hour).Equal(t) {
			label = t.Format("01-02")
		}
		switch {
		case x > d.width-30:
			anchor = "end"
		case x < 30:
			anchor = "start"
		}
		d.Text(x, headroom-12, label, `class="tick"`, fmt.Sprintf(`text-anchor="%s"`, anchor))
	}
}

// tick is a round time between two ticks, so that at most n of them are in span.
func tick(span time.Duration, n int) time.Duration {
	round := []time.Duration{10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000}
	for i := range round {
		round[i] *= time.Millisecond
	}
	for _, m := range []time.Duration{1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080, 40320} {
		round = append(round, m*time.Minute)
	}
	for _, t := range round {
		if span/t <= time.Duration(n) {
			return t
		}
	}
	return span/time.Duration(n) + time.Minute
}

// track draws a lane: its label, and a sign for each of its beats.
func (d *drawing) track(i int, t track) {
	top := d.top(i)
	mid := top + d.mid
	d.Line(d.left, mid, d.width-8, mid, `class="rail"`)
	d.Group(`class="name"`)
	d.Title(t.Label + ": " + t.Status)
	label := glyph[t.Status] + " " + cut(t.Label, d.letters)
	if d.mid > d.lane/2 {
		d.Text(0, top+11, label)
	} else {
		d.Text(0, mid+4, label)
	}
	d.Gend()
	for _, b := range t.Beats {
		d.beat(mid, b)
	}
}

// beat draws one: a bar for what worked, as high as the logarithm of how much; a
// cross for what failed; a ring where there is no evidence. Shape tells them
// apart, colour only helps.
func (d *drawing) beat(mid float64, b Beat) {
	x, width := d.x(float64(b.Step)), d.x(1)-d.x(0)
	center := x + width/2
	d.Group(`class="beat"`)
	d.Title(fmt.Sprintf("%s: %s", d.At(b.Step).Format("15:04:05"), b.words()))
	if b.Worked > 0 {
		h := min(6+2*math.Log2(float64(b.Worked)), 16)
		d.Rect(center-max(width-2, 3)/2, mid-h/2, max(width-2, 3), h, `class="worked"`)
	}
	if b.Other > 0 && b.Worked+b.Failed == 0 {
		d.Circle(center, mid, 3.2, `class="other"`)
	}
	if b.Failed > 0 {
		for _, class := range []string{`class="halo"`, `class="failed"`} {
			d.Line(center-4, mid-4, center+4, mid+4, class)
			d.Line(center-4, mid+4, center+4, mid-4, class)
		}
	}
	d.Gend()
}

// words are the counts of b.
func (b Beat) words() string {
	var out []string
	for _, c := range []struct {
		n    int
		word string
	}{{b.Worked, "worked"}, {b.Failed, "failed or denied"}, {b.Other, "without evidence"}} {
		if c.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", c.n, c.word))
		}
	}
	return list(out)
}

// glyph is the sign of a status, beside its word or in place of it.
var glyph = map[string]string{
	string(Blocked): "✕", string(Partial): "◐", string(Reached): "○", string(Resolved): "◇", string(Used): "✓",
	string(Bypassed): "↷", string(Unused): "–", "in no list": "?", Worked: "?",
}

// moment is t as the page writes it: with its day where the trial has several.
func (r *Report) moment(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	from, to := r.Timeline.From, r.Timeline.Until()
	if form := time.DateOnly; from.Format(form) != to.Format(form) {
		return t.UTC().Format("2006-01-02 15:04:05")
	}
	return t.UTC().Format("15:04:05")
}

// between is from when to when, or when.
func (r *Report) between(from, to time.Time) string {
	a, b := r.moment(from), r.moment(to)
	if a == b {
		return a
	}
	return a + " – " + b
}

// phaseList are the phases, with when they began.
func (r *Report) phaseList() []string {
	out := make([]string, 0, len(r.Timeline.Phases))
	for _, p := range r.Timeline.Phases {
		out = append(out, p.Name+", from "+r.moment(p.Began))
	}
	return out
}
