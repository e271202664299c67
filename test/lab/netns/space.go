package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dir is where ip(8) keeps the names of namespaces.
const dir = "/run/netns"

// Space is one namespace. Its methods may be called at once.
type Space struct {
	Name string // as ip netns knows it

	work  chan func() // done by the thread that lives in the namespace
	guest bool        // its programs end with a process of its own, not with this one
}

// Inside is where a process lives: in its network, its mounts, its cgroups and
// among its processes, which is that process and its children. The name is for
// errors. Programs started there end with that process, too.
func Inside(name string, pid int) (*Space, error) {
	s := &Space{Name: name, work: make(chan func()), guest: true}
	return s, s.enter(func() error { return join(pid) })
}

// join takes the calling thread to where a process lives; mounts last, for they
// take the way to the others away.
func join(pid int) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // threads share it, and mounts are not for the others
		return fmt.Errorf("unshare the root folder: %w", err)
	}
	for _, kind := range []string{"net", "cgroup", "pid", "mnt"} {
		if err := setns(fmt.Sprintf("/proc/%d/ns/%s", pid, kind)); err != nil {
			return err
		}
	}
	return nil
}

// setns takes the calling thread into the namespace that a file stands for.
func setns(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), 0); err != nil {
		return fmt.Errorf("setns %q: %w", path, err)
	}
	return nil
}

// enter starts the thread that lives in the namespace. It stays for as long as
// the namespace does, since programs are killed when their parent's thread ends.
func (s *Space) enter(in func() error) error {
	entered := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		entered <- in()
		for f := range s.work {
			f()
		}
	}()
	if err := <-entered; err != nil {
		return fmt.Errorf("enter namespace %q: %w", s.Name, err)
	}
	return nil
}

// Do runs f inside the namespace; sockets that f makes itself stay there. It must
// be short, for everything else waits.
func (s *Space) Do(f func() error) error {
	done := make(chan error, 1)
	s.work <- func() { done <- f() }
	return <-done
}

// Start starts a program in the namespace; the caller waits for it. It is killed
// when this process ends, or the one that it is Inside.
func (s *Space) Start(c *exec.Cmd) error {
	if !s.guest { // who sees no parent's number takes it for dead, at once
		leashed(c)
	}
	if err := s.Do(c.Start); err != nil {
		return fmt.Errorf("in namespace %q, start %q: %w", s.Name, c.Path, err)
	}
	return nil
}

func (s *Space) close() error {
	close(s.work)
	return remove(s.Name)
}

// remove ends what runs in a namespace of ours, and removes it.
func remove(name string) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		pids, err := inside(name)
		if err != nil || len(pids) == 0 || time.Now().After(deadline) {
			break
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return command("ip", "netns", "del", name)
}

// inside are the processes in a namespace, without this one, of which but a
// thread may be there.
func inside(name string) ([]int, error) {
	out, err := exec.Command("ip", "netns", "pids", name).Output()
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, field := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Sweep removes the namespaces with that prefix whose maker is no more, with
// everything that still runs in them.
func Sweep(prefix string) error {
	names, err := filepath.Glob(filepath.Join(dir, prefix+"*-*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range names {
		name := filepath.Base(path)
		number, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "-")
		pid, err := strconv.Atoi(number)
		if err != nil || alive(pid) {
			continue
		}
		errs = append(errs, remove(name))
	}
	return errors.Join(errs...)
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
