package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egressaudit/egressaudit/test/lab/netns"
)

// node is the machine that Kubernetes runs on: a network namespace, and in it a
// process (init) with mounts, processes and cgroups of its own. All that the node
// starts ends with init, and init ends with this program. Its /etc, /var and /run
// are its own, in memory: nothing of them is left on the host.
type node struct {
	dir   string // of the host: kubeconfig, certificates, logs
	disk  string // of the node alone
	space *netns.Space
	init  *exec.Cmd
	kube  string // the program: test/cluster/kube
	group string

	stopRuntime func() // ends the containerd that runs
}

// joinGroup is a wrapper that takes a program into the node's own cgroup.
const joinGroup = `for f in /sys/fs/cgroup/` + groupNode + `/cgroup.procs /sys/fs/cgroup/*/` + groupNode + `/cgroup.procs; do [ ! -e "$f" ] || echo 0 >"$f"; done; exec "$@"`

// startNode boots a machine in a network namespace. With ctx it ends at once, and
// whatever waits for a program there goes on.
func startNode(ctx context.Context, network *netns.Space, dir, kube string) (*node, error) {
	n := &node{dir: dir, disk: filepath.Join(dir, "disk"), kube: kube, group: groupName(os.Getpid())}
	if err := errors.Join(os.MkdirAll(n.disk, 0o755), os.MkdirAll(n.path("logs"), 0o755), makeGroups(n.group)); err != nil {
		return n, err
	}
	c := exec.Command("/proc/self/exe", "init", n.disk, n.group)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	ready, err := c.StdoutPipe()
	if err != nil {
		return n, err
	}
	if err := network.Start(c); err != nil {
		return n, err
	}
	n.init = c
	context.AfterFunc(ctx, func() { c.Process.Kill() })
	if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		return n, fmt.Errorf("the node's init ended: %w", err)
	}
	n.space, err = netns.Inside("node", c.Process.Pid)
	return n, err
}

// stop ends all of the node's processes and removes what it had.
func (n *node) stop() error {
	if n.init != nil {
		n.init.Process.Kill()
		n.init.Wait()
	}
	return removeGroups(n.group)
}

// path is a file of the host, which the node sees under the same name.
func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

// command is a program that will run on the node.
func (n *node) command(name string, args ...string) *exec.Cmd {
	c := exec.Command("sh", append([]string{"-c", joinGroup, "sh", name}, args...)...)
	c.Env = append(os.Environ(), "KUBECONFIG="+n.path("kubeconfig"))
	return c
}

// start runs a program in the background; what it writes goes to logs/NAME.log. The
// channel closes when it has ended.
func (n *node) start(log string, c *exec.Cmd) (<-chan struct{}, error) {
	f, err := os.OpenFile(n.path("logs/"+log+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c.Stdout, c.Stderr = f, f
	if err := n.space.Start(c); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() { // init's end waits until all of its own were waited for
		defer close(ended)
		c.Wait()
	}()
	return ended, nil
}

// run runs a program with that input and returns what it printed.
func (n *node) run(input, name string, args ...string) (string, error) {
	c := n.command(name, args...)
	var out, errs bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(input), &out, &errs
	if err := n.space.Start(c); err != nil {
		return "", err
	}
	if err := c.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// kubectl runs kubectl and returns what it printed.
func (n *node) kubectl(args ...string) (string, error) {
	return n.run("", n.kube, append([]string{"kubectl"}, args...)...)
}

// apply gives manifests to the cluster.
func (n *node) apply(manifests string) error {
	_, err := n.run(manifests, n.kube, "kubectl", "apply", "-f", "-")
	return err
}

// until tries until it works, or the limit is over: then the last error counts.
func until(ctx context.Context, what string, limit time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %s", limit))
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// initNode is the program that init begins as: it takes itself into the node's
// cgroups, makes the node's mounts, and goes on as reap.
func initNode(disk, group string) error {
	runtime.LockOSThread() // namespaces are a thread's, and it is this thread that goes on
	hs, err := hierarchies()
	if err != nil {
		return err
	}
	join := func(sub string) error {
		for _, h := range hs {
			if err := os.WriteFile(filepath.Join(h.own, group, sub, "cgroup.procs"), []byte("0"), 0); err != nil {
				return err
			}
		}
		return nil
	}
	if err := errors.Join(join(""), unix.Unshare(unix.CLONE_NEWCGROUP), join(groupNode)); err != nil {
		return fmt.Errorf("enter the cgroups: %w", err)
	}
	if err := mountNode(disk, hs, group); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	for name, text := range map[string]string{
		"/etc/hosts":       "127.0.0.1 localhost\n" + nodeAddr + " " + nodeName + "\n",
		"/etc/resolv.conf": "nameserver " + nameServer + "\n",
	} {
		os.Remove(name) // a link to /run, perhaps
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return syscall.Exec("/proc/self/exe", []string{"cluster", "reap"}, os.Environ())
}

// mount is one call of mount(2).
type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

func mountNode(disk string, hs []hierarchy, group string) error {
	mounts := []mount{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE, ""},
		{"proc", "/proc", "proc", 0, ""},
		{"node", disk, "tmpfs", 0, "size=75%"},
	}
	for _, h := range hs {
		mounts = append(mounts, mount{filepath.Join(h.own, group), h.mount, "", unix.MS_BIND, ""})
	}
	for _, d := range []string{"etc", "var"} {
		up, work := filepath.Join(disk, d), filepath.Join(disk, d+".work")
		mounts = append(mounts, mount{"node-" + d, "/" + d, "overlay", 0, fmt.Sprintf("lowerdir=/%s,upperdir=%s,workdir=%s", d, up, work)})
	}
	kubelet := "/var/lib/kubelet"
	mounts = append(mounts,
		mount{filepath.Join(disk, "run"), "/run", "", unix.MS_BIND, ""},
		mount{filepath.Join(disk, "kubelet"), kubelet, "", unix.MS_BIND, ""},
		mount{"", kubelet, "", unix.MS_REC | unix.MS_SHARED, ""})
	for _, m := range mounts {
		if m.target == kubelet || m.kind == "overlay" || m.target == "/run" {
			if err := errors.Join(folders(m, disk)...); err != nil {
				return err
			}
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("%s on %s: %w", m.source, m.target, err)
		}
	}
	return nil
}

// folders makes what a mount needs.
func folders(m mount, disk string) []error {
	errs := []error{os.MkdirAll(m.target, 0o755)}
	if m.kind == "overlay" {
		errs = append(errs, os.MkdirAll(filepath.Join(disk, m.target), 0o755), os.MkdirAll(filepath.Join(disk, m.target+".work"), 0o755))
	} else if m.source != "" {
		errs = append(errs, os.MkdirAll(filepath.Join(m.source, "netns"), 0o755))
	}
	return errs
}

// reap is what init goes on as: it says that the node is ready, and waits for
// orphans until it is killed.
func reap(out io.Writer) {
	fmt.Fprintln(out, "ready")
	for {
		if pid, _ := syscall.Wait4(-1, nil, 0, nil); pid <= 0 {
			time.Sleep(50 * time.Millisecond) // no child at the moment
		}
	}
}
