//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/suite"
)

func TestMain(m *testing.M) {
	status := m.Run()
	suite.Clean()
	os.Exit(status)
}

const (
	patience = time.Minute
	delay    = 2 * time.Second // --shutdown-delay: many times what the balancer takes to see a red readyz
	drain    = 3 * time.Second // --drain
	sight    = 100 * time.Millisecond
)

// pod is one serve process, as a Deployment has them.
type pod struct {
	cmd          *exec.Cmd
	proxy, admin string
	ledger       string
	told         time.Time // of SIGTERM
	ended        chan struct{}
	err          error
	said         *lines
	ready        atomic.Bool // as the balancer sees it
}

// lines are what a pod says.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.WriteString(s + "\n")
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

var listening = regexp.MustCompile(`listening admin=(\S+) .*proxy=(\S+)`)

func startPod(t *testing.T, program, dir string, n int) *pod {
	t.Helper()
	p := &pod{ledger: filepath.Join(dir, fmt.Sprintf("pod-%d.jsonl", n)), ended: make(chan struct{}), said: &lines{}}
	p.cmd = exec.Command(program, "serve", "--proxy", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--ledger", p.ledger,
		"--allow-address", "127.0.0.0/8", "--trial", "rolling", "--vantage", "pod", "--max-client-tunnels", "10000",
		"--shutdown-delay", delay.String(), "--drain", drain.String(), "--catalog", "azure-arc")
	said, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	up := make(chan []string, 1)
	go func() {
		defer close(p.ended)
		for s := bufio.NewScanner(said); s.Scan(); {
			p.said.add(s.Text())
			if m := listening.FindStringSubmatch(s.Text()); m != nil {
				up <- m
			}
		}
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
	})
	select {
	case m := <-up:
		p.admin, p.proxy = m[1], m[2]
	case <-p.ended:
		t.Fatalf("pod %d ended: %s", n, p.said)
	case <-time.After(patience):
		t.Fatalf("pod %d does not listen: %s", n, p.said)
	}
	return p
}

// stop ends it as a kubelet does, and waits for its end.
func (p *pod) stop(t *testing.T) {
	t.Helper()
	p.told = time.Now()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("does not end: %s", p.said)
	}
	require.NoError(t, p.err, "%s", p.said)
	require.Contains(t, p.said.String(), "stopped lost=0")
}

// service is a balancer as a Service is one: it sends each new connection to one of
// the pods that were ready when it last looked, and tries no other.
type service struct {
	net.Listener
	mu   sync.Mutex
	pods []*pod
}

func startService(t *testing.T) *service {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	s := &service{Listener: l}
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go s.carry(c.(*net.TCPConn))
		}
	}()
	return s
}

// add puts a pod behind the service, and waits until it is ready.
func (s *service) add(t *testing.T, p *pod) {
	t.Helper()
	s.mu.Lock()
	s.pods = append(s.pods, p)
	s.mu.Unlock()
	ready := make(chan struct{})
	go p.watch(sync.OnceFunc(func() { close(ready) }))
	select {
	case <-ready:
	case <-time.After(patience):
		t.Fatalf("never ready: %s", p.said)
	}
}

// watch asks for readiness until the pod ends.
func (p *pod) watch(ready func()) {
	tick := time.NewTicker(sight)
	defer tick.Stop()
	for {
		resp, err := http.Get("http://" + p.admin + "/readyz")
		if err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		is := err == nil && resp.StatusCode == http.StatusOK
		if p.ready.Store(is); is {
			ready()
		}
		select {
		case <-p.ended:
			p.ready.Store(false)
			return
		case <-tick.C:
		}
	}
}

func (s *service) pick() *pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ready []*pod
	for _, p := range s.pods {
		if p.ready.Load() {
			ready = append(ready, p)
		}
	}
	if len(ready) == 0 {
		return nil
	}
	return ready[rand.IntN(len(ready))]
}

func (s *service) carry(client *net.TCPConn) {
	defer client.Close()
	p := s.pick()
	if p == nil {
		return
	}
	to, err := net.Dial("tcp", p.proxy)
	if err != nil {
		client.SetLinger(0) // a Service's client is refused
		return
	}
	defer to.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(to, client)
		to.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(client, to)
	client.CloseWrite()
	<-done
}

// TestRollingRestart: two pods behind a service, replaced one after the other under
// load. Nothing that a client begins fails, no tunnel is cut before its pod's delay
// and drain are over, and every connection has its record.
func TestRollingRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes 15 s")
	}
	program, dir := suite.Program(t), t.TempDir()
	destination, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer destination.Close()
	go echo(destination)
	s := startService(t)
	pods := []*pod{startPod(t, program, dir, 1), startPod(t, program, dir, 2)}
	for _, p := range pods {
		s.add(t, p)
	}

	l := &load{Proxy: s.Addr().String(), Target: destination.Addr().String(), Rate: 500, Tunnels: 200, Patience: 30 * time.Second}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan Result, 1)
	begun := make(chan struct{})
	go func() { done <- l.run(ctx, func() { close(begun) }) }()
	<-begun
	for n, old := range pods[:2] {
		fresh := startPod(t, program, dir, 3+n)
		s.add(t, fresh)
		old.stop(t)
		pods = append(pods, fresh)
	}
	cancel()
	r := <-done
	for _, p := range pods[2:] {
		p.stop(t)
	}

	var replicas []Replica
	for _, p := range pods {
		replicas = append(replicas, Replica{p.ledger, p.told.Add(delay + drain)})
	}
	require.Empty(t, judge(r, replicas, 0))
	require.Equal(t, l.Tunnels, r.Tunnels.OK-len(r.Cuts), "who was cut came back")
	t.Logf("%.0f connections a second of %.0f asked (least %d), slowest %d ms; %d in all, %d tunnels, %d cut by a drain",
		r.Rate.Held, r.Rate.Asked, r.Rate.Least, r.Connections.SlowestMS, r.Connections.OK, l.Tunnels, len(r.Cuts))

	blind := reported(t, program, pods)
	for _, wrong := range []string{"no stop record", "cut off", "canary", "lost", "in between", "damaged"} {
		require.NotContains(t, blind, wrong)
	}
}

// reported is what a report over all ledgers could not see.
func reported(t *testing.T, program string, pods []*pod) string {
	t.Helper()
	args := []string{"report", "--format", "json"}
	for _, p := range pods {
		args = append(args, p.ledger)
	}
	out, err := exec.Command(program, args...).Output()
	require.ErrorContains(t, err, "exit status 3", "a destination on this host exercises no endpoint")
	var r struct {
		Blind []string `json:"blind_spots"`
	}
	require.NoError(t, json.Unmarshal(out, &r))
	return strings.Join(r.Blind, "\n")
}
