package workload

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/egressaudit/egressaudit/policy"
)

func selection(t testing.TB, text string) Selection {
	t.Helper()
	s, err := ParseSelection(text)
	require.NoError(t, err)
	return s
}

// labelled is p with labels, "KEY=VALUE".
func labelled(p *corev1.Pod, list ...string) *corev1.Pod {
	p.Labels = map[string]string{}
	for _, l := range list {
		k, v, _ := strings.Cut(l, "=")
		p.Labels[k] = v
	}
	return p
}

func TestSelection(t *testing.T) {
	elsewhere := labelled(aPod("e", "e", 0), "app=proxy")
	elsewhere.Namespace = "other"
	for _, c := range []struct {
		selector string
		pod      *corev1.Pod
		want     bool
	}{
		{"ml/app=proxy", labelled(aPod("a", "a", 0), "app=proxy", "x=y"), true},
		{"ml/app=proxy", labelled(aPod("a", "a", 0), "app=web"), false},
		{"ml/app=proxy", labelled(aPod("a", "a", 0)), false},
		{"ml/app=proxy", elsewhere, false},
		{"ml/app.kubernetes.io/name=egressaudit,app.kubernetes.io/component=proxy", labelled(aPod("a", "a", 0), "app.kubernetes.io/name=egressaudit", "app.kubernetes.io/component=proxy"), true},
		{"ml/app.kubernetes.io/name=egressaudit,app.kubernetes.io/component=proxy", labelled(aPod("a", "a", 0), "app.kubernetes.io/name=egressaudit"), false},
		{"ml/tier in (a, b),!old", labelled(aPod("a", "a", 0), "tier=b"), true},
		{"ml/tier in (a, b),!old", labelled(aPod("a", "a", 0), "tier=b", "old=1"), false},
	} {
		p := selecting([]Selection{{}, selection(t, "other/app=web"), selection(t, c.selector)})(c.pod).(*pod)
		require.Equal(t, c.want, p.selected, "%s %v", c.selector, c.pod.Labels)
	}
	require.False(t, selecting(nil)(labelled(aPod("a", "a", 0), "app=proxy")).(*pod).selected)
	for text, want := range map[string]string{
		"":                                   "no namespace",
		"app=proxy":                          "no namespace (write NAMESPACE/SELECTOR",
		"/app=proxy":                         `"" is not the name of a namespace`,
		"My_Space/app=proxy":                 `"My_Space" is not the name of a namespace`,
		"app.kubernetes.io/name=proxy":       `"app.kubernetes.io" is not the name of a namespace`,
		"ml/":                                "it selects every pod of the namespace (name a label of those that are meant: ml/app=proxy)",
		"ml/ ":                               "it selects every pod",
		"ml/app=a=b":                         `"app=a=b" is not a selector of labels`,
		"ml/app in (":                        "is not a selector",
		"ml/-=x":                             "is not a selector",
		"ml/app=" + strings.Repeat("x", 999): "is not a selector",
	} {
		_, err := ParseSelection(text)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "\n")
	}
}

// TestOwnPodsAreFollowed: their addresses are told as they come, change and go, of
// both families, and nothing else has them told again.
func TestOwnPodsAreFollowed(t *testing.T) {
	p := func(uid, name string, ips ...string) *corev1.Pod {
		return labelled(aPod(uid, name, -100, ips...), "app=proxy")
	}
	first, host := p("a", "p1", "10.1.0.7", "fd00::7"), p("h", "gateway", "192.0.2.1", "10.1.0.99")
	host.Spec.HostNetwork = true
	follow(t, func(s *story) {
		told := func(want ...string) {
			s.Helper()
			require.Equal(s, want, s.own)
			s.own = nil
		}
		told("[10.1.0.7 fd00::7]")
		s.create(labelled(aPod("w", "web", 0, "10.1.0.8"), "app=web"))
		s.create(p("b", "p2"))
		require.Empty(s, s.own, "nothing of theirs has changed")
		s.update(p("b", "p2", "10.1.0.9"))
		told("[10.1.0.7 10.1.0.9 fd00::7]")
		s.update(p("b", "p2", "10.1.0.10"))
		told("[10.1.0.7 10.1.0.10 fd00::7]")
		s.update(finished(p("b", "p2", "10.1.0.10"), corev1.PodFailed, 1))
		told("[10.1.0.7 fd00::7]")
		s.update(p("b", "p2", "10.1.0.10"))
		require.Empty(s, s.own, "what is over stays so")
		s.create(labelled(aPod("c", "late", 0, "10.1.0.11")))
		s.update(p("c", "late", "10.1.0.11"))
		told("[10.1.0.7 10.1.0.11 fd00::7]")
		s.update(labelled(aPod("c", "late", 0, "10.1.0.11"), "app=other"))
		told("[10.1.0.7 fd00::7]")
		s.create(labelled(aPod("d", "heir", 0, "10.1.0.7"), "app=web"))
		told("[fd00::7]") // for what comes from there may be the heir's
		s.delete(first)
		told("[]")
	}, first, host)
}

// TestOwnPodsOfAnAPIThatIsLost: the last ones stay until it is listed again.
func TestOwnPodsOfAnAPIThatIsLost(t *testing.T) {
	stays, goes := labelled(aPod("a", "stays", -100, "10.1.0.7"), "app=proxy"), labelled(aPod("b", "goes", -100, "10.1.0.8"), "app=proxy")
	follow(t, func(s *story) {
		s.cut(syscall.ECONNREFUSED)
		s.wait(20)
		s.delete(goes)
		s.create(labelled(aPod("c", "came", 20, "10.1.0.9"), "app=proxy"))
		s.wait(20)
		require.Equal(s, []string{"[10.1.0.7 10.1.0.8]"}, s.own)
		s.heal()
		s.wait(120)
		require.Equal(s, []string{"[10.1.0.7 10.1.0.8]", "[10.1.0.7 10.1.0.9]"}, s.own)
	}, stays, goes)
}

// TestNoOwnPods: that there are none is told, too, but not before it is known.
func TestNoOwnPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.cut(syscall.ECONNREFUSED)
		told := make(chan []netip.Addr, 10)
		k := Watch(s.api(), Config{Sink: (&book{}).take, Event: func(*policy.Event) error { return nil }, Selected: func(now []netip.Addr) { told <- now }, Log: zerolog.Nop()})
		defer k.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, told)
		s.heal()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Len(t, told, 1)
		require.Empty(t, <-told)
	})
}
