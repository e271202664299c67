package workload

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// noon is when the stories of these tests begin.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// clock is a time that a test sets, in seconds after noon.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func (c *clock) at(s float64) time.Time {
	c.Time = noon.Add(time.Duration(s * float64(time.Second)))
	return c.Time
}

func seconds(s float64) time.Time { return (&clock{}).at(s) }

// known is an index over an API that is watched.
func known(self Self) (*Index, *clock) {
	c := &clock{noon}
	r := newReach("pods", "which pods were behind addresses is", zerolog.Nop(), c.now)
	r.found()
	return newIndex(self, r, c.now), c
}

// aPod is a Pod on node n1 (192.0.2.1) that started s seconds after noon.
func aPod(uid, name string, s int, ips ...string) *corev1.Pod {
	start := metav1.NewTime(noon.Add(time.Duration(s) * time.Second))
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ml", Name: name, UID: types.UID(uid)},
		Spec:       corev1.PodSpec{NodeName: "n1", ServiceAccountName: "default"},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, StartTime: &start, HostIP: "192.0.2.1", HostIPs: []corev1.HostIP{{IP: "192.0.2.1"}, {IP: "2001:db8::1"}},
		},
	}
	for _, ip := range ips {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	if len(ips) > 0 {
		p.Status.PodIP = ips[0]
	}
	return p
}

// finished is p after its container ended s seconds after noon.
func finished(p *corev1.Pod, phase corev1.PodPhase, s int) *corev1.Pod {
	p = p.DeepCopy()
	p.Status.Phase = phase
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(noon.Add(time.Duration(s) * time.Second))},
	}}}
	return p
}

func kept(p *corev1.Pod) *pod { return podOf(p).(*pod) }

// who is the name of an address at a time, "" where it has none.
func (x *Index) who(address string, s float64) string {
	w, ok := x.At(netip.MustParseAddr(address), seconds(s))
	if !ok && w != (Workload{}) {
		panic("a workload that is not known")
	}
	return w.Name
}

func TestAddressHasPodFromItsStartToItsEnd(t *testing.T) {
	x, now := known(Self{})
	a := aPod("a", "job-a", 10, "10.1.0.7")
	now.at(12) // the API tells it two seconds later
	x.set(kept(a))
	for s, want := range map[float64]string{9.9: "", 10: "ml/job-a", 11: "ml/job-a", 12: "ml/job-a", 100: "ml/job-a"} {
		require.Equal(t, want, x.who("10.1.0.7", s), "at %v", s)
	}
	now.at(50)
	x.drop(kept(a))
	require.Equal(t, "ml/job-a", x.who("10.1.0.7", 49.9), "an old connection that is told of now")
	require.Empty(t, x.who("10.1.0.7", 50))
	require.Empty(t, x.who("10.1.0.8", 20))
}

// TestAddressThatIsUsedAgain: each has it in its own time, and nobody where that
// cannot be told.
func TestAddressThatIsUsedAgain(t *testing.T) {
	x, now := known(Self{})
	a, b := aPod("a", "job-a", 10, "10.1.0.7"), aPod("b", "job-b", 30, "10.1.0.7")
	now.at(11)
	x.set(kept(a))
	now.at(22.5)
	x.set(kept(finished(a, corev1.PodSucceeded, 20)))
	require.Equal(t, "ml/job-a", x.who("10.1.0.7", 20.9), "its last second")
	require.Empty(t, x.who("10.1.0.7", 21), "it had ended, though the API told it later")
	now.at(31)
	x.set(kept(b))
	now.at(40)
	x.drop(kept(finished(a, corev1.PodSucceeded, 20)))
	for s, want := range map[float64]string{15: "ml/job-a", 25: "", 30: "ml/job-b", 45: "ml/job-b"} {
		require.Equal(t, want, x.who("10.1.0.7", s), "at %v", s)
	}
	// A third one was bound while the second had not ended for sure.
	c := aPod("c", "job-c", 50, "10.1.0.7")
	now.at(53)
	x.set(kept(c))
	require.Empty(t, x.who("10.1.0.7", 52), "two may have it")
	now.at(54)
	x.drop(kept(b))
	for s, want := range map[float64]string{49: "ml/job-b", 52: "", 53.9: "", 54: "ml/job-c"} {
		require.Equal(t, want, x.who("10.1.0.7", s), "at %v", s)
	}
}

// TestPodOfTheSameName: a StatefulSet's pod that is made again is another one.
func TestPodOfTheSameName(t *testing.T) {
	x, now := known(Self{})
	now.at(2)
	x.set(kept(aPod("a", "db-0", 1, "10.1.0.7")))
	now.at(20)
	x.drop(kept(aPod("a", "db-0", 1, "10.1.0.7")))
	now.at(22)
	x.set(kept(aPod("b", "db-0", 21, "10.1.0.9")))
	for s, want := range map[float64]string{10: "ml/db-0", 20: "", 21: "", 30: ""} {
		require.Equal(t, want, x.who("10.1.0.7", s), "the old address at %v", s)
	}
	require.Empty(t, x.who("10.1.0.9", 20.9))
	require.Equal(t, "ml/db-0", x.who("10.1.0.9", 21))
}

// TestSandboxMadeAnew: a pod that gets another address did not have it from its
// start on.
func TestSandboxMadeAnew(t *testing.T) {
	for name, between := range map[string][]string{"at once": nil, "with none between": {""}} {
		t.Run(name, func(t *testing.T) {
			x, now := known(Self{})
			now.at(2)
			x.set(kept(aPod("a", "web", 1, "10.1.0.7")))
			now.at(99)
			for range between {
				x.set(kept(aPod("a", "web", 1)))
			}
			now.at(100)
			x.set(kept(aPod("a", "web", 1, "10.1.0.9")))
			require.Empty(t, x.who("10.1.0.9", 50), "somebody else's, that nobody told of")
			require.Equal(t, "ml/web", x.who("10.1.0.9", 98), "within the lag of the API")
			require.Equal(t, "ml/web", x.who("10.1.0.7", 50))
			require.Empty(t, x.who("10.1.0.7", 101))
		})
	}
}

func TestTerminalPodsReleaseTheirAddress(t *testing.T) {
	for _, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed} {
		x, now := known(Self{})
		now.at(30) // it is first told of when it is over, as a short job may be
		x.set(kept(finished(aPod("a", "job", 10, "10.1.0.7"), phase, 12)))
		require.Equal(t, "ml/job", x.who("10.1.0.7", 11))
		require.Empty(t, x.who("10.1.0.7", 13.1))
		x.set(kept(finished(aPod("a", "job", 10, "10.1.0.7"), phase, 12)))
		require.Empty(t, x.who("10.1.0.7", 29), "told again, it does not come back")
	}
	x, now := known(Self{}) // evicted: no container says when it ended
	now.at(30)
	p := aPod("a", "job", 10, "10.1.0.7")
	x.set(kept(p))
	now.at(40)
	p.Status.Phase = corev1.PodFailed
	x.set(kept(p))
	require.Equal(t, "ml/job", x.who("10.1.0.7", 39))
	require.Empty(t, x.who("10.1.0.7", 41))
}

func TestNodesAndHostNetwork(t *testing.T) {
	x, now := known(Self{})
	now.at(10)
	host := aPod("h", "kube-proxy", 1, "192.0.2.1", "2001:db8::1", "198.51.100.1")
	host.Spec.HostNetwork = true
	x.set(kept(host))
	for _, a := range []string{"192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "198.51.100.1"} {
		require.Equal(t, "node:n1", x.who(a, 20), a)
	}
	// The node goes, and another gets its address: each in its own time.
	now.at(50)
	x.drop(kept(host))
	require.Empty(t, x.who("192.0.2.1", 51))
	next := aPod("i", "kube-proxy-2", 60)
	next.Spec.NodeName = "n2"
	now.at(60)
	x.set(kept(next))
	require.Equal(t, "node:n1", x.who("192.0.2.1", 20))
	require.Equal(t, "node:n2", x.who("192.0.2.1", 61))
	// A pod that says that an address of the node is its own has none.
	x.set(kept(aPod("j", "odd", 60, "192.0.2.1")))
	require.Empty(t, x.who("192.0.2.1", 61), "two nodes say so: never guessed")
}

func TestBothFamilies(t *testing.T) {
	x, now := known(Self{})
	now.at(3)
	x.set(kept(aPod("a", "web", 1, "10.1.0.7", "fd00::7")))
	for _, a := range []string{"10.1.0.7", "fd00::7", "::ffff:10.1.0.7"} {
		require.Equal(t, "ml/web", x.who(a, 2), a)
	}
	zoned, ok := x.At(netip.MustParseAddr("fd00::7%eth0"), seconds(2))
	require.True(t, ok)
	require.Equal(t, "ml/web", zoned.Name)
}

func TestOurOwnNode(t *testing.T) {
	self := Self{Node: "n1", Gateways: []netip.Addr{netip.MustParseAddr("10.1.0.1")}, Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.5")}}
	x, now := known(self)
	now.at(1)
	x.set(kept(aPod("us", "egressaudit", 0, "10.1.0.5")))
	require.Equal(t, "node:n1", x.who("10.1.0.1", 2), "bridge networks translate to it")
	require.Equal(t, "ml/egressaudit", x.who("10.1.0.5", 2))

	self.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.1.0.1")}
	self.Gateways = []netip.Addr{netip.MustParseAddr("192.0.2.254")}
	x, now = known(self)
	now.at(1)
	us := aPod("us", "egressaudit", 0, "192.0.2.1")
	us.Spec.HostNetwork = true
	x.set(kept(us))
	require.Empty(t, x.who("192.0.2.254", 2), "on the host's network it is a router")
	require.Equal(t, "node:n1", x.who("10.1.0.1", 2), "an address of this host is this node's")

	x, _ = known(Self{Gateways: self.Gateways})
	require.Empty(t, x.who("192.0.2.254", 2), "which node it is, nobody said")
}

func TestOwner(t *testing.T) {
	yes := true
	of := func(kind, name, hash string) *corev1.Pod {
		p := aPod("a", "p", 0)
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "Node", Name: "not the controller"}, {Kind: kind, Name: name, Controller: &yes}}
		p.Labels = map[string]string{"pod-template-hash": hash}
		return p
	}
	for _, c := range []struct{ kind, name, hash, want, why string }{
		{"ReplicaSet", "web-5d4f8c7b9", "5d4f8c7b9", "Deployment/web", "the label that the Deployment gave both"},
		{"ReplicaSet", "a-b-5d4f8c7b9", "5d4f8c7b9", "Deployment/a-b", ""},
		{"ReplicaSet", "web-5d4f8c7b9", "other", "ReplicaSet/web-5d4f8c7b9", "it does not fit"},
		{"ReplicaSet", "web", "", "ReplicaSet/web", "nobody's"},
		{"ReplicaSet", "-x", "x", "ReplicaSet/-x", "no name is left"},
		{"Job", "train-28", "28", "Job/train-28", "no ReplicaSet"},
		{"DaemonSet", "logs", "", "DaemonSet/logs", ""},
		{"StatefulSet", "db", "", "StatefulSet/db", ""},
	} {
		require.Equal(t, c.want, kept(of(c.kind, c.name, c.hash)).owner, c.why)
	}
	require.Empty(t, kept(aPod("a", "p", 0)).owner)
}

func TestClocksThatDisagree(t *testing.T) {
	x, now := known(Self{})
	now.at(5)
	x.set(kept(aPod("a", "job", 9, "10.1.0.7"))) // its node's clock is ahead
	require.Equal(t, "ml/job", x.who("10.1.0.7", 6))
	now.at(8)
	x.drop(kept(finished(aPod("a", "job", 9, "10.1.0.7"), corev1.PodFailed, 12)))
	require.Equal(t, "ml/job", x.who("10.1.0.7", 7))
	require.Empty(t, x.who("10.1.0.7", 8))
	require.NotPanics(t, func() { x.remove("never there") })
}

// TestForgetting: what is over is remembered up to a bound; then whoever came
// next, while the one before may still have been there, had the address later.
func TestForgetting(t *testing.T) {
	x, now := known(Self{})
	now.at(2)
	x.set(kept(aPod("a", "old", 1, "10.1.0.7")))
	now.at(12)
	x.set(kept(aPod("b", "next", 10, "10.1.0.7")))
	now.at(20)
	x.drop(kept(aPod("a", "old", 1, "10.1.0.7")))
	require.Empty(t, x.who("10.1.0.7", 15), "both may have it")
	for i := range maxEnded + 10 {
		p := aPod(fmt.Sprint("u", i), fmt.Sprint("p", i), 20, netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}).String())
		now.at(21)
		x.set(kept(p))
		now.at(22)
		x.drop(kept(p))
	}
	require.Len(t, x.ended, maxEnded)
	require.LessOrEqual(t, len(x.history), maxEnded+3, "addresses of the node, and of next")
	require.Empty(t, x.who("10.1.0.7", 5), "forgotten")
	require.Empty(t, x.who("10.1.0.7", 15), "and not next's now")
	require.Equal(t, "ml/next", x.who("10.1.0.7", 21))
	require.Len(t, x.pods, 1)
}

// TestTenThousandPods bounds what a big cluster costs.
func TestTenThousandPods(t *testing.T) {
	const many = 10_000
	before := heap()
	x, now := known(Self{})
	now.at(30)
	var all []*pod
	for i := range many {
		p := aPod(fmt.Sprintf("00000000-0000-0000-0000-%012d", i), fmt.Sprintf("a-pod-with-a-long-name-%d", i), 10,
			netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String(), fmt.Sprintf("fd00::%x", i+1))
		p.Annotations = map[string]string{"big": string(make([]byte, 4096))}
		all = append(all, kept(p))
	}
	x.replace(all)
	all = nil
	used := heap() - before
	t.Logf("%d pods of two addresses: %d octets each", many, used/many)
	require.Less(t, used, uint64(many*2048))
	require.Equal(t, "ml/a-pod-with-a-long-name-9999", x.who("10.1.39.15", 20))
	a, when := netip.MustParseAddr("10.1.39.15"), seconds(20)
	require.Zero(t, testing.AllocsPerRun(100, func() { x.At(a, when) }))
	runtime.KeepAlive(x)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
