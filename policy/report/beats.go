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
	level uint8
	base  int64  // bucket of the first attempt that was counted: Unix milliseconds >> level
	beats []beat // by step
}

// beat is small, for each of thousands of lanes has up to maxSteps of them.
type beat struct {
	step int32 // from the base
	n    [beatKinds]uint32
}

// at is the bucket of beat i.
func (l *lane) at(i int) int64 { return l.base + int64(l.beats[i].step) }

// add counts an attempt; one whose time is unknown leaves no trace.
func (l *lane) add(begun time.Time, k beatKind) {
	if begun.IsZero() {
		return
	}
	ms := begun.UnixMilli()
	if len(l.beats) == 0 {
		l.base = ms
	}
	for n := len(l.beats); n > 0; n = len(l.beats) {
		if at := ms >> l.level; max(at, l.at(n-1))-min(at, l.at(0)) < maxSteps {
			break
		}
		l.fold()
	}
	l.enter(int32(ms>>l.level-l.base), k)
}

func (l *lane) enter(step int32, k beatKind) {
	i := len(l.beats)
	for i > 0 && l.beats[i-1].step > step { // mostly the last one
		i--
	}
	if i == 0 || l.beats[i-1].step != step {
		l.beats = slices.Insert(l.beats, i, beat{step: step})
		i++
	}
	if n := &l.beats[i-1].n[k]; *n < math.MaxUint32 {
		*n++
	}
}

// fold goes up one level.
func (l *lane) fold() {
	base := l.base >> 1
	out := l.beats[:0]
	for i, b := range l.beats {
		b.step = int32(l.at(i)>>1 - base)
		if n := len(out); n > 0 && out[n-1].step == b.step {
			for k := range b.n {
				out[n-1].n[k] = uint32(min(uint64(out[n-1].n[k])+uint64(b.n[k]), math.MaxUint32))
			}
			continue
		}
		out = append(out, b)
	}
	l.level, l.base, l.beats = l.level+1, base, out
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
			meet(l.at(0) << l.level)
			meet(l.at(n-1) << l.level)
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
	used := 0
	for _, l := range lanes {
		for i, b := range l.beats {
			s := &steps[l.at(i)>>(c.level-uint(l.level))-c.first]
			used += bit(!s.any())
			s.Worked += int(b.n[beatWorked])
			s.Failed += int(b.n[beatFailed])
			s.Other += int(b.n[beatOther])
		}
	}
	if used == 0 {
		return nil
	}
	out := make([]Beat, 0, used)
	for i, s := range steps {
		if s.Step = i; s.any() {
			out = append(out, s)
		}
	}
	return out
}

func (b Beat) any() bool { return b.Worked+b.Failed+b.Other > 0 }

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
