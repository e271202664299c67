package workload

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/rs/zerolog"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/egressaudit/egressaudit/policy"
)

// Config is what a Cluster works by. Sink and Event are needed.
type Config struct {
	// Sink takes observations, named where they could be. It may be called by
	// several goroutines at once, and does not wait.
	Sink policy.Sink
	// Event takes events of pods, from one goroutine at a time.
	Event func(*policy.Event) error
	// Self is what is known of our own place; the zero Self is no place in the
	// cluster.
	Self Self
	// Select are the pods whose addresses Selected wants to know: those of our own
	// proxies, say.
	Select []Selection
	// Selected takes the addresses that those pods have now, in order: once when the
	// pods were listed first, and then whenever they change; all of them, which the
	// callee may keep. Pods that are over or gone have none, nor have those on the
	// host network; an address that others may have too is none. While the API cannot
	// be watched the last ones stay. One goroutine calls it at a time, never after
	// Close; until it returns no pod is looked at. nil where nobody wants to know.
	Selected func([]netip.Addr)
	// Log tells when the API is lost and found.
	Log zerolog.Logger
}

// Cluster follows a cluster until Close. Its methods may be called at once.
type Cluster struct {
	index  *Index
	desk   *desk
	notes  *notes
	reach  [2]*reach
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Watch begins to follow a cluster. It waits for nothing: a cluster that cannot
// be reached is tried again, and is a blind spot meanwhile.
func Watch(api API, c Config) *Cluster {
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logr.Discard())) // reach tells what matters
	pods := newReach("pods", "which pods were behind addresses is", c.Log, time.Now)
	events := newReach("events", "what befell pods is", c.Log, time.Now)
	k := &Cluster{index: newIndex(c.Self, pods, time.Now), notes: newNotes(c.Event, time.Now), reach: [2]*reach{pods, events}, cancel: cancel}
	k.desk = newDesk(k.index.At, c.Sink, time.Now)
	k.done.Go(func() { k.desk.run(ctx) })
	keep, own := selecting(c.Select), &teller{own: k.index.Own, tell: c.Selected}
	k.follow(ctx, &lean{api.pods, keep, pods}, &corev1.Pod{}, shelf[*pod]{
		keep: keep, set: k.index.set, drop: k.index.drop, replace: k.index.replace, then: func() { k.desk.look(); own.look() },
	})
	k.follow(ctx, &lean{api.events, eventOf, events}, &corev1.Event{}, shelf[*event]{
		keep: eventOf, set: k.notes.set, drop: k.notes.drop, replace: k.notes.replace, then: func() {},
	})
	return k
}

func (k *Cluster) follow(ctx context.Context, from cache.ListerWatcher, kind runtime.Object, to cache.ReflectorStore) {
	r := cache.NewReflectorWithOptions(from, kind, to, cache.ReflectorOptions{})
	k.done.Go(func() { r.RunWithContext(ctx) })
}

// Observe names who made an observation, in its Workload and its detail owner and
// service_account, and hands it on to the Sink, at once or within Lag. What is no
// client's, or comes from loopback, passes as it is. o is not changed, and not
// retained.
func (k *Cluster) Observe(o *policy.Observation) error { return k.desk.take(o) }

// Known says whether the pods can be watched now.
func (k *Cluster) Known() bool { return k.reach[0].had(time.Now()) }

// Waiting is how many observations wait for a name.
func (k *Cluster) Waiting() int { return k.desk.waiting() }

// Close ends the following: what waits is handed on, repeated events are counted,
// and all goroutines have ended. What is observed later passes as it is.
func (k *Cluster) Close() {
	k.cancel()
	k.done.Wait()
	k.notes.close()
}

// BlindSpots are the times in which the cluster could not be watched, and the
// events that were too many, a sentence each.
func (k *Cluster) BlindSpots() []string {
	var out []string
	for _, s := range []string{k.reach[0].blind(), k.reach[1].blind(), k.notes.blind()} {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// shelf is the store of a Reflector: what it puts there is told, and nothing else
// is kept.
type shelf[T any] struct {
	keep      func(runtime.Object) runtime.Object // makes a T of what is watched
	set, drop func(T)
	replace   func([]T)
	then      func() // after each
}

// Add, Update, Delete, Replace and Resync are the methods of cache.ReflectorStore.
func (s shelf[T]) Add(o any) error { return s.one(s.set, o) }

// Update is Add.
func (s shelf[T]) Update(o any) error { return s.one(s.set, o) }

// Delete tells of what is gone, as it was last seen.
func (s shelf[T]) Delete(o any) error { return s.one(s.drop, o) }

// Replace tells all that there is.
func (s shelf[T]) Replace(list []any, _ string) error {
	all := make([]T, 0, len(list))
	for _, o := range list {
		if t, ok := o.(T); ok {
			all = append(all, t)
		}
	}
	s.replace(all)
	s.then()
	return nil
}

// Resync does nothing: nothing is kept to be told again.
func (s shelf[T]) Resync() error { return nil }

func (s shelf[T]) one(tell func(T), o any) error {
	if full, ok := o.(runtime.Object); ok {
		if t, ok := s.keep(full).(T); ok {
			tell(t)
			s.then()
		}
	}
	return nil
}
