package report

import (
	"math"
	"slices"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// maxSteps is how many steps the time of a trial has at most in a picture.
const maxSteps = 96

// Timeline says which times the steps of the Beats stand for: Step i begins at
// From + i × Step. Steps is 0 where nothing is known of time.
type Timeline struct {
	From   time.Time
	Step   time.Duration
	Steps  int
	Phases []Phase // in the order of time
}

// Until is the end of the last step.
func (t Timeline) Until() time.Time { return t.At(t.Steps) }

// At is when step begins.
func (t Timeline) At(step int) time.Time { return t.From.Add(time.Duration(step) * t.Step) }

// Phase is a mark in the trial: what came from then on.
type Phase struct {
	Name  string
	Began time.Time
}

// Beat counts the attempts that began in one step of the Timeline.
type Beat struct {
	Step   int
	Worked int
	Failed int // denied by us, too
	Other  int // no evidence: the client left first, or there was but a look-up
}

// beatKind is one of the counts of a beat.
type beatKind int

const (
	beatWorked beatKind = iota
	beatFailed
	beatOther
	beatKinds
)

func (s sight) beat() beatKind {
	switch {
	case s.Outcome == policy.Failed, s.Outcome == policy.Denied:
		return beatFailed
	case s.Outcome == policy.OK && s.kind != policy.KindQuery:
		return beatWorked
	}
	return beatOther
}

// lane remembers when attempts at one destination began, in buckets that grow
// with the time they cover: a bucket is 1 ms << level, the finest level at which
// all fit into maxSteps. Buckets are aligned to the epoch, so that neighbours of
// one level are one bucket of the next, and lanes can be added up.
type lane struct {
	level uint
	beats []beat // by at
}

type beat struct {
	at int64 // Unix milliseconds >> level
	n  [beatKinds]uint32
}

// add counts an attempt; one whose time is unknown leaves no trace.
func (l *lane) add(begun time.Time, k beatKind) {
	if begun.IsZero() {
		return
	}
	ms := begun.UnixMilli()
	if n := len(l.beats); n > 0 {
		first, last := l.beats[0].at, l.beats[n-1].at
		for at := ms >> l.level; max(at, last)-min(at, first) >= maxSteps; at = ms >> l.level {
			l.fold()
			first, last = l.beats[0].at, l.beats[len(l.beats)-1].at
		}
	}
	l.enter(beat{at: ms >> l.level}, k)
}

func (l *lane) enter(b beat, k beatKind) {
	i := len(l.beats)
	for i > 0 && l.beats[i-1].at > b.at { // mostly the last one
		i--
	}
	if i == 0 || l.beats[i-1].at != b.at {
		l.beats = slices.Insert(l.beats, i, b)
		i++
	}
	if n := &l.beats[i-1].n[k]; *n < math.MaxUint32 {
		*n++
	}
}

// fold goes up one level.
func (l *lane) fold() {
	l.level++
	out := l.beats[:0]
	for _, b := range l.beats {
		b.at >>= 1
		if n := len(out); n > 0 && out[n-1].at == b.at {
			for k := range b.n {
				out[n-1].n[k] = uint32(min(uint64(out[n-1].n[k])+uint64(b.n[k]), math.MaxUint32))
			}
			continue
		}
		out = append(out, b)
	}
	l.beats = out
}

func (l lane) clone() lane {
	l.beats = slices.Clone(l.beats)
	return l
}

// clock is the time of a whole trial, in steps of one level.
type clock struct {
	level       uint
	first, last int64 // Unix milliseconds >> level
}

// clock holds everything that b knows the time of.
func (b *book) clock() (c clock, ok bool) {
	from, to := int64(math.MaxInt64), int64(math.MinInt64)
	meet := func(ms int64) { from, to = min(from, ms), max(to, ms) }
	for _, t := range []time.Time{b.started, b.latest} {
		if !t.IsZero() {
			meet(t.UnixMilli())
		}
	}
	b.lanes(func(l *lane) {
		if n := len(l.beats); n > 0 {
			meet(l.beats[0].at << l.level)
			meet(l.beats[n-1].at << l.level)
		}
	})
	if from > to {
		return clock{}, false
	}
	for to>>c.level-from>>c.level >= maxSteps {
		c.level++
	}
	c.first, c.last = from>>c.level, to>>c.level
	return c, true
}

func (b *book) lanes(f func(*lane)) {
	for _, d := range b.dests {
		f(&d.lane)
	}
	for _, d := range b.more {
		f(&d.lane)
	}
	for _, d := range b.other {
		if d != nil {
			f(&d.lane)
		}
	}
}

// timeline is c as the report has it.
func (c clock) timeline(phases []Phase) Timeline {
	phases = slices.Clone(phases)
	slices.SortStableFunc(phases, func(a, b Phase) int { return a.Began.Compare(b.Began) })
	return Timeline{
		From: time.UnixMilli(c.first << c.level).UTC(), Step: time.Duration(1) << c.level * time.Millisecond,
		Steps: int(c.last - c.first + 1), Phases: phases,
	}
}

// beats adds up lanes of the trial.
func (c clock) beats(lanes ...lane) []Beat {
	var steps [maxSteps]Beat
	for _, l := range lanes {
		for _, b := range l.beats {
			s := &steps[b.at>>(c.level-l.level)-c.first]
			s.Worked += int(b.n[beatWorked])
			s.Failed += int(b.n[beatFailed])
			s.Other += int(b.n[beatOther])
		}
	}
	var out []Beat
	for i, s := range steps {
		if s.Step = i; s.Worked+s.Failed+s.Other > 0 {
			out = append(out, s)
		}
	}
	return out
}

// beats are those of the connections to a site, or of its look-ups where there
// was nothing else.
func (j *judgement) beats(sites ...*site) []Beat {
	var lanes []lane
	for _, s := range sites {
		switch {
		case s.conn != nil:
			lanes = append(lanes, s.conn.lane)
		case s.look != nil:
			lanes = append(lanes, s.look.lane)
		}
	}
	return j.clock.beats(lanes...)
}
