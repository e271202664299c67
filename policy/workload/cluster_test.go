package workload

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	"github.com/egressaudit/egressaudit/policy"
)

// What the library does with errors that nobody handles is to sleep until a moment
// after the last one, which may have been in another story, or by the real clock: for
// years, then.
func init() { utilruntime.ErrorHandlers = nil }

// apiServer is client-go's fake one, which can be taken away.
type apiServer struct {
	*fake.Clientset

	mu      sync.Mutex
	down    error // what requests fail with
	stale   bool  // the next watch is told that its version is too old
	watches []watch.Interface
}

func newServer(objects ...k8sruntime.Object) *apiServer {
	s := &apiServer{Clientset: fake.NewClientset(objects...)}
	s.PrependReactor("list", "*", func(clienttesting.Action) (bool, k8sruntime.Object, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.down != nil, nil, s.down
	})
	s.PrependWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.down != nil {
			return true, nil, s.down
		}
		if s.stale && a.GetResource().Resource == "pods" {
			s.stale = false
			return true, nil, apierrors.NewResourceExpired("too old")
		}
		w, err := s.Tracker().Watch(a.GetResource(), a.GetNamespace())
		s.watches = append(s.watches, w)
		return true, w, err
	})
	return s
}

// cut ends all watches; requests fail so from now on.
func (s *apiServer) cut(with error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = with
	for _, w := range s.watches {
		w.Stop()
	}
	s.watches = nil
}

// heal has the API answer again; what happened meanwhile must be listed.
func (s *apiServer) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down, s.stale = nil, true
}

func (s *apiServer) api() API {
	pods, events := s.CoreV1().Pods(""), s.CoreV1().Events("")
	return API{
		pods: &cache.ListWatch{
			ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (k8sruntime.Object, error) { return pods.List(ctx, o) },
			WatchFuncWithContext: pods.Watch,
		},
		events: &cache.ListWatch{
			ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (k8sruntime.Object, error) { return events.List(ctx, o) },
			WatchFuncWithContext: events.Watch,
		},
	}
}

// story is a cluster that is followed, in a time of its own; all its goroutines
// must have ended when it is closed, or synctest says so.
type story struct {
	*testing.T
	*apiServer
	*Cluster
	got    book
	mu     sync.Mutex
	events []policy.Event
	own    []string // what Selected was told, each time
}

// audit are the pods that stories select.
const audit = "ml/app=proxy"

func follow(t *testing.T, tell func(*story), objects ...k8sruntime.Object) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(noon))
		s := &story{T: t, apiServer: newServer(objects...)}
		s.Cluster = Watch(s.api(), Config{
			Sink: s.got.take, Log: zerolog.Nop(), Select: []Selection{selection(t, audit)},
			Selected: func(now []netip.Addr) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.own = append(s.own, fmt.Sprint(now))
			},
			Event: func(e *policy.Event) error {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.events = append(s.events, *e)
				return nil
			},
		})
		synctest.Wait()
		tell(s)
		s.Close()
	})
}

// wait lets so many seconds pass.
func (s *story) wait(seconds float64) {
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	synctest.Wait()
}

func (s *story) create(p *corev1.Pod) {
	_, err := s.CoreV1().Pods(p.Namespace).Create(s.Context(), p, metav1.CreateOptions{})
	require.NoError(s, err)
	synctest.Wait()
}

func (s *story) update(p *corev1.Pod) {
	_, err := s.CoreV1().Pods(p.Namespace).UpdateStatus(s.Context(), p, metav1.UpdateOptions{})
	require.NoError(s, err)
	synctest.Wait()
}

func (s *story) delete(p *corev1.Pod) {
	require.NoError(s, s.CoreV1().Pods(p.Namespace).Delete(s.Context(), p.Name, metav1.DeleteOptions{}))
	synctest.Wait()
}

// whose is who an address has at a time, in seconds after noon.
func (s *story) whose(address string, at float64) string { return s.index.who(address, at) }

func TestClusterIsFollowed(t *testing.T) {
	old := aPod("a", "old", -100, "10.1.0.7")
	follow(t, func(s *story) {
		require.True(s, s.Known())
		require.Equal(s, "ml/old", s.whose("10.1.0.7", 0))
		require.Equal(s, "node:n1", s.whose("192.0.2.1", 0))
		s.wait(10)
		s.delete(old)
		s.wait(10)
		next := aPod("b", "next", 20)
		s.create(next)
		s.wait(1)
		s.update(aPod("b", "next", 20, "10.1.0.7"))
		for at, want := range map[float64]string{9: "ml/old", 15: "", 20: "ml/next", 30: "ml/next"} {
			require.Equal(s, want, s.whose("10.1.0.7", at), "at %v", at)
		}
		require.Empty(s, s.BlindSpots())
	}, old)
}

// TestLag: a new pod sends before the API tells its address.
func TestLag(t *testing.T) {
	follow(t, func(s *story) {
		s.wait(10)
		p := aPod("a", "job", 10)
		s.create(p)
		s.wait(0.3)
		require.NoError(s, s.Observe(seen("c1", "10.1.0.7")))
		require.NoError(s, s.Observe(seen("c2", "192.0.2.1")))
		s.wait(1)
		require.Equal(s, []string{"c2 node:n1"}, s.got.lines(), "the node is known, and passes at once")
		s.update(aPod("a", "job", 10, "10.1.0.7"))
		require.Equal(s, []string{"c2 node:n1", "c1 ml/job"}, s.got.lines())
		require.Equal(s, int64(1000), s.got.all()[1].Detail["held_ms"])
		require.NoError(s, s.Observe(seen("c3", "10.1.0.99")))
		s.Close()
		require.Equal(s, "c3 ", s.got.lines()[2], "the end has nobody wait")
		require.NoError(s, s.Observe(seen("c4", "10.1.0.98")))
		require.Equal(s, "c4 ", s.got.lines()[3])
	})
}

// TestAPIThatIsLost: nobody is named by what may have changed; afterwards what was
// missed is known, pods that went unseen among it.
func TestAPIThatIsLost(t *testing.T) {
	stays, goes := aPod("a", "stays", -100, "10.1.0.7"), aPod("b", "goes", -100, "10.1.0.8")
	follow(t, func(s *story) {
		s.wait(10)
		s.cut(syscall.ECONNREFUSED)
		s.wait(20)
		require.False(s, s.Known())
		require.Equal(s, "ml/goes", s.whose("10.1.0.8", 9), "from before")
		require.Empty(s, s.whose("10.1.0.8", 15), "another may have it by now")
		require.NoError(s, s.Observe(seen("c1", "10.1.0.8")))
		s.wait(3)
		require.Equal(s, []string{"c1 "}, s.got.lines())
		s.delete(goes)
		s.create(aPod("c", "came", 20, "10.1.0.9"))
		s.heal()
		s.wait(120) // the Reflector's back-off
		require.True(s, s.Known())
		for address, want := range map[string]string{"10.1.0.7": "ml/stays", "10.1.0.8": "ml/goes", "10.1.0.9": "ml/came"} {
			require.Equal(s, want, s.whose(address, 25), "all that may have had it is known now")
		}
		require.Empty(s, s.whose("10.1.0.8", 150), "it is gone")
		require.Equal(s, "ml/stays", s.whose("10.1.0.7", 150))
		require.Len(s, s.BlindSpots(), 2)
		require.Regexp(s, `^which pods were behind addresses is not known from 12:00:10 to 12:0\d:\d\d UTC, for the Kubernetes API could not be watched: connection refused$`, s.BlindSpots()[0])
		require.Contains(s, s.BlindSpots()[1], "what befell pods is not known from 12:00:10")
	}, stays, goes)
}

// TestNameThatIsUsedAgainUnseen: a StatefulSet's pod was made anew while nobody
// watched.
func TestNameThatIsUsedAgainUnseen(t *testing.T) {
	first := aPod("a", "db-0", -100, "10.1.0.7")
	follow(t, func(s *story) {
		s.wait(10)
		s.cut(syscall.ECONNREFUSED)
		s.wait(5)
		s.delete(first)
		s.create(aPod("b", "db-0", 14, "10.1.0.9"))
		s.heal()
		s.wait(120)
		require.Empty(s, s.whose("10.1.0.7", 150))
		require.Equal(s, "ml/db-0", s.whose("10.1.0.9", 150))
		require.Empty(s, s.whose("10.1.0.9", 13.9), "not the first one's")
	}, first)
}

// TestWatchThatEnds: servers end watches now and then; that is no loss.
func TestWatchThatEnds(t *testing.T) {
	a := aPod("a", "web", -100, "10.1.0.7")
	follow(t, func(s *story) {
		for range 5 {
			s.wait(300)
			s.cut(nil)
			s.wait(1)
		}
		s.update(aPod("a", "web", -100, "10.1.0.9"))
		s.wait(1)
		require.True(s, s.Known())
		require.Equal(s, "ml/web", s.whose("10.1.0.9", 2000))
		require.Empty(s, s.BlindSpots())
	}, a)
}

func TestNoPermission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(aPod("a", "web", -100, "10.1.0.7"))
		s.cut(apierrors.NewForbidden(corev1.Resource("pods"), "", errors.New(`User "system:serviceaccount:x:y" cannot list resource "pods"`)))
		var got book
		k := Watch(s.api(), Config{Sink: got.take, Event: func(*policy.Event) error { return nil }, Log: zerolog.Nop()})
		for range 10 { // recording goes on, no slower than Lag
			require.NoError(t, k.Observe(seen("c", "10.1.0.7")))
		}
		time.Sleep(Lag)
		synctest.Wait()
		require.Len(t, got.lines(), 10)
		require.False(t, k.Known())
		time.Sleep(time.Minute)
		k.Close()
		require.Contains(t, k.BlindSpots()[0], "cannot list resource")
		require.Less(t, len(k.BlindSpots()[0]), 300, "a report keeps no more")
		require.Contains(t, k.BlindSpots()[0], "; it needs get, list and watch of pods and events")
	})
}

func TestEventsAreFollowed(t *testing.T) {
	follow(t, func(s *story) {
		s.wait(5)
		events := s.CoreV1().Events("ml")
		e := anEvent("e", "web", "Failed", pull, 1, 5, 5)
		_, err := events.Create(s.Context(), e, metav1.CreateOptions{})
		require.NoError(s, err)
		s.wait(0)
		require.Equal(s, []policy.Event{{Workload: "ml/web", Reason: "Failed", Text: pull, Count: 1}}, s.events)
		s.wait(10)
		e.Count, e.LastTimestamp = 3, metav1.NewTime(seconds(15))
		_, err = events.Update(s.Context(), e, metav1.UpdateOptions{})
		require.NoError(s, err)
		s.wait(0)
		require.Len(s, s.events, 1)
		s.Close()
		require.Equal(s, 2, s.events[1].Count)
	}, anEvent("old", "web", "Failed", "before", 1, -60, -60))
}

// TestHostileObjects: what the API says is not to be relied on.
func TestHostileObjects(t *testing.T) {
	empty := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: "empty", UID: "z"}}
	odd := aPod("o", "odd", 0, "not an address", "10.1.0.7", "10.1.0.7", "::ffff:10.1.0.7", "fe80::1%eth0")
	odd.Status.StartTime = nil
	odd.Status.HostIPs = append(odd.Status.HostIPs, corev1.HostIP{IP: "-"})
	follow(t, func(s *story) {
		require.Equal(s, "ml/odd", s.whose("10.1.0.7", 0))
		s.delete(odd)
		require.Empty(s, s.whose("10.1.0.7", 10))
		w, ok := s.index.At(netip.Addr{}, noon)
		require.False(s, ok, w)
	}, empty, odd)
}
