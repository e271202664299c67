package workload

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/egressaudit/egressaudit/policy"
)

// anEvent of pod ml/name happened count times, the first and last time so many
// seconds after noon.
func anEvent(uid, name, reason, text string, count, first, last int) *corev1.Event {
	at := func(s int) metav1.Time { return metav1.NewTime(noon.Add(time.Duration(s) * time.Second)) }
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "ml", Name: uid, UID: types.UID(uid)},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "ml", Name: name},
		Reason:         reason, Message: text, Count: int32(count), FirstTimestamp: at(first), LastTimestamp: at(last),
	}
}

// told are notes of which the recording begins at noon, and what they tell.
func told() (*notes, *clock, *[]policy.Event) {
	c, out := &clock{noon.Add(300 * time.Millisecond)}, &[]policy.Event{}
	return newNotes(func(e *policy.Event) error { *out = append(*out, *e); return nil }, c.now), c, out
}

func keptEvent(e *corev1.Event) *event { return eventOf(e).(*event) }

const pull = `Failed to pull image "mcr.microsoft.com/a:1": dial tcp 10.9.9.9:443: connect: connection refused`

func TestEventsAreFolded(t *testing.T) {
	n, now, out := told()
	now.at(10)
	n.set(keptEvent(anEvent("e", "web", "Failed", pull, 1, 10, 10)))
	require.Equal(t, []policy.Event{{Workload: "ml/web", Reason: "Failed", Text: pull, Count: 1}}, *out)
	for i := range 5 { // as the kubelet tries again
		now.at(float64(20 + 10*i))
		n.set(keptEvent(anEvent("e", "web", "Failed", pull, 2+i, 10, 20+10*i)))
	}
	require.Len(t, *out, 1)
	now.at(75)
	n.set(keptEvent(anEvent("e", "web", "Failed", pull, 7, 10, 75)))
	require.Len(t, *out, 2)
	require.Equal(t, 6, (*out)[1].Count)
	n.set(keptEvent(anEvent("e", "web", "Failed", pull, 7, 10, 75)))
	require.Len(t, *out, 2, "the same again, after a relist")
	now.at(80)
	n.set(keptEvent(anEvent("f", "web", "Failed", pull, 3, 76, 80))) // the API forgot the first event, and made another
	require.Len(t, *out, 2)
	n.close()
	require.Equal(t, 3, (*out)[2].Count)
	n.close()
	require.Len(t, *out, 3)
	require.Empty(t, n.blind())
}

func TestEventsOfThisRecording(t *testing.T) {
	for name, c := range map[string]struct {
		e    *corev1.Event
		want int // times
	}{
		"over before":                  {anEvent("e", "web", "Failed", pull, 9, -50, -1), 0},
		"in the second of the start":   {anEvent("e", "web", "Failed", pull, 1, 0, 0), 1},
		"began before, and again":      {anEvent("e", "web", "Failed", pull, 9, -50, 1), 1},
		"three times":                  {anEvent("e", "web", "BackOff", pull, 3, 1, 5), 3},
		"no count":                     {anEvent("e", "web", "Failed", pull, 0, 1, 5), 1},
		"of a reason that says little": {anEvent("e", "web", "Scheduled", pull, 1, 1, 5), 0},
		"an echo":                      {anEvent("e", "web", "Failed", "Error: ErrImagePull", 1, 1, 5), 0},
		"of a node": {func() *corev1.Event {
			e := anEvent("e", "web", "Failed", pull, 1, 1, 5)
			e.InvolvedObject.Kind = "Node"
			return e
		}(), 0},
		"of the newer shape": {func() *corev1.Event {
			e := anEvent("e", "web", "Failed", pull, 0, 0, 0)
			e.FirstTimestamp, e.LastTimestamp = metav1.Time{}, metav1.Time{}
			e.EventTime = metav1.NewMicroTime(seconds(2))
			e.Series = &corev1.EventSeries{Count: 4, LastObservedTime: metav1.NewMicroTime(seconds(9))}
			return e
		}(), 4},
	} {
		t.Run(name, func(t *testing.T) {
			n, now, out := told()
			now.at(10)
			n.replace([]*event{keptEvent(c.e)})
			n.close()
			sum := 0
			for _, e := range *out {
				sum += e.Count
			}
			require.Equal(t, c.want, sum)
		})
	}
}

// TestEventGoesOn: one that had ended before the recording, and happens again.
func TestEventGoesOn(t *testing.T) {
	n, now, out := told()
	n.set(keptEvent(anEvent("e", "web", "Failed", pull, 9, -50, -1)))
	now.at(10)
	n.set(keptEvent(anEvent("e", "web", "Failed", pull, 11, -50, 10)))
	require.Equal(t, 2, (*out)[0].Count)
}

func TestEventsAreBounded(t *testing.T) {
	n, now, out := told()
	for i := range maxNotes + 7 {
		now.at(10)
		n.set(keptEvent(anEvent(fmt.Sprint(i), "web", "Failed", fmt.Sprint("text ", i), 1, 10, 10)))
	}
	require.Len(t, *out, maxNotes)
	require.Contains(t, n.blind(), "7 times")
	for i := range maxNotes + 7 {
		n.drop(keptEvent(anEvent(fmt.Sprint(i), "web", "Failed", "", 1, 10, 10)))
	}
	require.Empty(t, n.counts, "what the API forgot, we forget")

	long := keptEvent(anEvent("e", strings.Repeat("n", 9999), "Failed", strings.Repeat("é", 9999), 1, 10, 10)).note
	require.LessOrEqual(t, len(long.text), maxTelling)
	require.True(t, strings.HasSuffix(long.text, "é..."))
	require.LessOrEqual(t, len(long.workload), 64+1+253)
}
