package report

import (
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// lookups is what is remembered of the questions for the addresses of a name.
type lookups struct {
	asked       int
	families    [2]answer // A, AAAA
	unresolved  *failure  // the last look-up that failed
	missed      int       // look-ups that failed
	lookedFirst time.Time
	lookedLast  time.Time
	questions   evidence
	misses      evidence
	mended      bool // a family failed, and had addresses later

	strayed    bool // the name was meant, it seems, and another was answered
	unfollowed bool // there was no room to hold look-ups against connections
	retry      bool // the name is that of another with a search suffix
	indoors    bool // the cluster answered for it, with a search suffix
}

// answer is the last answer for one family.
type answer struct {
	moment
	state answerState
}

type answerState int

const (
	unasked answerState = iota
	addresses
	empty // NOERROR, and no address
	failed
)

func (l *lookups) add(s sight) {
	var state answerState
	switch {
	case s.Outcome == policy.OK && len(s.Answers) > 0:
		state = addresses
	case s.Outcome == policy.OK:
		state = empty
	case s.Outcome == policy.Failed:
		state = failed
	default:
		return
	}
	l.asked++
	l.questions.add(s.seq)
	widen(&l.lookedFirst, &l.lookedLast, s.begun, s.at)
	if state == failed {
		l.missed++
		l.misses.add(s.seq)
		if l.unresolved == nil || s.moment().after(l.unresolved.moment) {
			l.unresolved = newFailure(s)
		}
	}
	if a := &l.families[family(s.Type)]; a.state == unasked || s.moment().after(a.moment) {
		l.mended = l.mended || a.state == failed && state == addresses
		*a = answer{s.moment(), state}
	}
}

// judge says what the name stands at: addresses where either family had some in
// its last answer, else failed with the failure, else empty with a failure
// NODATA of our own, for that is what the client has of it.
func (l *lookups) judge() (answerState, *failure) {
	v4, v6 := l.families[0], l.families[1]
	switch {
	case v4.state == addresses || v6.state == addresses:
		return addresses, nil
	case v4.state == failed || v6.state == failed:
		return failed, l.unresolved
	case v4.state == unasked && v6.state == unasked:
		return unasked, nil
	}
	f := &failure{moment: v4.moment, detail: map[string]any{"rcode": "NODATA"}, Verdict: policy.Verdict{
		Outcome: policy.Failed, Stage: policy.StageResolve, Error: policy.DNSError, By: policy.ByResolver, Confidence: policy.Likely,
	}}
	if v6.moment.after(f.moment) {
		f.moment = v6.moment
	}
	if v4.state == empty && v6.state == empty {
		f.Confidence = policy.Certain
	}
	return failed, f
}

// folded is a look-up as it is counted without its name: one that failed is an
// attempt that failed, and any other proves nothing.
func folded(o *policy.Observation) *policy.Observation {
	c := *o
	if c.Outcome != policy.Failed {
		c.Outcome = policy.Abandoned
	}
	return &c
}
