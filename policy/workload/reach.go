package workload

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// maxWhy bounds the text of a failure, in octets: a report shows no more than 300
// of a blind spot.
const maxWhy = 120

// reach is whether something can be watched, and when it could not. Its methods
// may be called at once.
type reach struct {
	what    string // that cannot be watched: "pods"
	unknown string // what is not known meanwhile, as the subject of a sentence
	log     zerolog.Logger
	now     func() time.Time

	mu    sync.Mutex
	ever  bool      // it was watched
	since time.Time // when it was lost, or first wanted; zero while it is watched
	why   string    // the first failure since then
	gaps  int       // longer than Lag, and over
	total time.Duration
	first gap
}

// gap is a time in which something was not watched.
type gap struct {
	from, to time.Time
	why      string
}

// newReach is one that has not been reached yet.
func newReach(what, unknown string, log zerolog.Logger, now func() time.Time) *reach {
	return &reach{what: what, unknown: unknown, log: log, now: now, since: now()}
}

// lost says that the API cannot be asked.
func (r *reach) lost(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.since.IsZero() {
		r.since = r.now()
	}
	if r.why != "" {
		return
	}
	r.why = reason(err)
	r.log.Warn().Str("error", r.why).Msg("kubernetes: " + r.what + " cannot be watched: " + r.unknown + " not known until they can")
}

// found says that what is known is as new as the API's.
func (r *reach) found() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.since.IsZero() {
		return
	}
	r.enter(gap{r.since, r.now(), r.why})
	if r.why != "" {
		r.log.Info().Msg("kubernetes: " + r.what + " are watched again")
	}
	r.ever, r.since, r.why = true, time.Time{}, ""
}

// enter counts a gap that observations do not wait for.
func (r *reach) enter(g gap) {
	if g.to.Sub(g.from) <= Lag {
		return
	}
	if r.gaps == 0 {
		r.first = g
	}
	r.gaps++
	r.total += g.to.Sub(g.from)
}

// had says whether what is known holds for a time: it was watched since.
func (r *reach) had(when time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.since.IsZero() || r.ever && when.Before(r.since)
}

// blind says in a sentence when it was not watched; "" where it always was.
func (r *reach) blind() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := reach{gaps: r.gaps, total: r.total, first: r.first}
	if !r.since.IsZero() {
		all.enter(gap{r.since, r.now(), r.why})
	}
	if all.gaps == 0 {
		return ""
	}
	const clock = "15:04:05"
	why, times := all.first.why, ""
	if why == "" {
		why = "it did not answer"
	}
	if all.gaps > 1 {
		times = fmt.Sprintf(" (%d times, %s in all)", all.gaps, all.total.Round(time.Second))
	}
	return fmt.Sprintf("%s not known from %s to %s UTC%s, for the Kubernetes API could not be watched: %s",
		r.unknown, all.first.from.UTC().Format(clock), all.first.to.UTC().Format(clock), times, why)
}

// reason is an error in one short line, with what to do where it is known.
func reason(err error) string {
	if u := (*url.Error)(nil); errors.As(err, &u) { // without the URL, which is long
		err = u.Err
	}
	text := strings.Join(strings.Fields(err.Error()), " ")
	if len(text) > maxWhy {
		text = strings.ToValidUTF8(text[:maxWhy], "") + "..."
	}
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		text += "; it needs get, list and watch of pods and events"
	}
	return text
}
