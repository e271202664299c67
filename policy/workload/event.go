package workload

import (
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/egressaudit/egressaudit/policy"
)

const (
	maxTelling = 1024        // octets of an event's text
	maxNotes   = 1024        // different events
	tellAgain  = time.Minute // between records of one event that goes on
)

// telling are the reasons, of the kubelet and the volume controllers, of events
// that may tell of something that could not be reached.
var telling = map[string]bool{
	"Failed": true, "BackOff": true, "InspectFailed": true, "ErrImagePull": true, "ImagePullBackOff": true, "FailedPull": true,
	"FailedMount": true, "FailedAttachVolume": true, "FailedMapVolume": true, "FailedCreatePodSandBox": true,
}

// echoes are texts of the kubelet that stand beside an event that says why, and
// say nothing themselves.
var echoes = map[string]bool{"Error: ErrImagePull": true, "Error: ImagePullBackOff": true}

// event is what is kept of an Event of a pod.
type event struct {
	metav1.ObjectMeta // namespace, name, UID and version

	note        note
	count       int       // how often it happened, ever
	first, last time.Time // when
}

// note is what an event says, the same each time it happens again.
type note struct{ workload, reason, text string }

// GetObjectKind and DeepCopyObject make it a runtime.Object, for the Reflector.
func (e *event) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject is a copy; nobody changes what is shared.
func (e *event) DeepCopyObject() runtime.Object {
	c := *e
	return &c
}

// eventOf keeps of an object what is needed; it is the object itself where that is
// no Event. One that tells nothing keeps no note.
func eventOf(o runtime.Object) runtime.Object {
	from, ok := o.(*corev1.Event)
	if !ok {
		return o
	}
	e := &event{ObjectMeta: slim(&from.ObjectMeta)}
	if from.InvolvedObject.Kind != "Pod" || !telling[from.Reason] || echoes[from.Message] {
		return e
	}
	e.note = note{
		workload: clip(from.InvolvedObject.Namespace, 64) + "/" + clip(from.InvolvedObject.Name, 253),
		reason:   clip(from.Reason, 64), text: clip(strings.TrimSpace(from.Message), maxTelling),
	}
	e.count, e.first, e.last = max(int(from.Count), 1), from.FirstTimestamp.Time, from.LastTimestamp.Time
	if e.last.IsZero() {
		e.last = from.EventTime.Time
	}
	if s := from.Series; s != nil {
		e.count, e.last = max(int(s.Count), 1), s.LastObservedTime.Time
	}
	if e.first.IsZero() {
		e.first = from.EventTime.Time
	}
	return e
}

// clip is a copy of s, cut where it is long.
func clip(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most-len("...")], "") + "..."
	}
	return strings.Clone(s)
}

// notes tells events that happened since it was made. One that happens again is
// told again, with how often, once in a while and in the end.
type notes struct {
	tell  func(*policy.Event) error
	now   func() time.Time
	since time.Time

	mu     sync.Mutex
	counts map[types.UID]int // of the events that the API has
	told   map[note]*telltale
	more   int // that were too many to tell
}

// telltale is a note that was told.
type telltale struct {
	at    time.Time
	again int // times since then
}

func newNotes(tell func(*policy.Event) error, now func() time.Time) *notes {
	return &notes{
		tell: tell, now: now, since: now().Truncate(tick), // as fine as the times of events are
		counts: map[types.UID]int{}, told: map[note]*telltale{},
	}
}

// set takes an event that is there, or changed.
func (n *notes) set(e *event) {
	if e.note == (note{}) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	was, known := n.counts[e.UID]
	n.counts[e.UID] = e.count
	times := e.count - was
	switch {
	case e.last.Before(n.since):
		return
	case !known && e.first.Before(n.since): // how often since then is not told
		times = 1
	case times <= 0:
		return
	}
	n.happened(e, times)
}

// happened tells that an event did so often; mu is held.
func (n *notes) happened(e *event, times int) {
	t, known := n.told[e.note], true
	if t == nil {
		if len(n.told) >= maxNotes {
			n.more += times
			return
		}
		t, known = &telltale{}, false
		n.told[e.note] = t
	}
	if t.again += times; known && n.now().Sub(t.at) < tellAgain {
		return
	}
	n.record(e.note, t)
}

func (n *notes) record(of note, t *telltale) {
	n.tell(&policy.Event{Workload: of.workload, Reason: of.reason, Text: of.text, Count: t.again}) // an error is the ledger's to count
	t.at, t.again = n.now(), 0
}

// drop forgets an event that the API has no more.
func (n *notes) drop(e *event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.counts, e.UID)
}

// replace takes all events that there are.
func (n *notes) replace(all []*event) {
	there := make(map[types.UID]bool, len(all))
	for _, e := range all {
		there[e.UID] = true
		n.set(e)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for uid := range n.counts {
		if !there[uid] {
			delete(n.counts, uid)
		}
	}
}

// close tells what happened again and was not told yet.
func (n *notes) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for of, t := range n.told {
		if t.again > 0 {
			n.record(of, t)
		}
	}
}

// blind says that there were too many; "" where there were not.
func (n *notes) blind() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.more == 0 {
		return ""
	}
	return fmt.Sprintf("there were more than %d different events of pods: the rest, %d times, is not told", maxNotes, n.more)
}
