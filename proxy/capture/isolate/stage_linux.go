package isolate

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sockets of the namespace that nobody has connected yet, for Dial.
const (
	spareTCP = 8
	spareUDP = 4
	// handedOut are all descriptors: three listeners, the UDP socket, the log, the
	// namespace.
	handedOut = 6 + spareTCP + spareUDP
)

// plan is what to make.
type plan struct {
	Config
	Unprivileged bool // as in Space
}

// order is what to become.
type order struct {
	Path      string
	Args, Env []string
}

// trouble is what went wrong in the process that becomes the command.
type trouble struct {
	What  string // "" is nothing
	Errno syscall.Errno
}

// heard is the error in a message; nil for none.
func heard(b []byte) error {
	var t trouble
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(&t); err != nil {
		return fmt.Errorf("the process that makes it ended: %w", err)
	}
	switch {
	case t.Errno != 0 && t.What != "":
		return fmt.Errorf("%s: %w", t.What, t.Errno)
	case t.Errno != 0:
		return t.Errno
	case t.What != "":
		return errors.New(t.What)
	}
	return nil
}

// said is the message for an error.
func said(err error) []byte {
	var t trouble
	switch {
	case err == nil:
	case errors.As(err, &t.Errno):
		t.What = strings.TrimSuffix(strings.TrimSuffix(err.Error(), t.Errno.Error()), ": ")
	default:
		t.What = err.Error()
	}
	var b bytes.Buffer
	gob.NewEncoder(&b).Encode(t) // into memory
	return b.Bytes()
}

// Main takes over where this program was started by Start, and does not return
// then. It is called first of all by main, with os.Args.
func Main(args []string) {
	if len(args) < 2 || args[1] != verb {
		return
	}
	if len(args) > 2 {
		os.Exit(watch())
	}
	os.Exit(become())
}

// become makes the network and turns into the command. It returns where that
// fails.
func become() int {
	runtime.LockOSThread() // capabilities are each thread's own
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s) // the parent has it too; execve undoes this
		}
	}
	unix.CloseOnExec(3)
	f := os.NewFile(3, "control")
	c, err := net.FileConn(f)
	if err != nil {
		fmt.Fprintln(os.Stderr, "egressaudit: this verb is for the program's own use")
		return 2
	}
	f.Close()
	control, orders := c.(*net.UnixConn), gob.NewDecoder(c)
	var p plan
	if orders.Decode(&p) != nil {
		return 2
	}
	if err := hand(control, p.Config); err != nil {
		control.Write(said(err))
		return 2
	}
	var o order
	if orders.Decode(&o) != nil {
		return 2 // the trial came to nothing
	}
	if err := shed(p.Unprivileged); err != nil {
		control.Write(said(err))
		return 2
	}
	err = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	if err == nil {
		err = syscall.Exec(o.Path, o.Args, o.Env)
	}
	control.Write(said(err))
	return 2
}

// hand makes the network, and hands the sockets out.
func hand(control *net.UnixConn, c Config) error {
	if err := plug(c); err != nil {
		return err
	}
	captured, err := listen(0)
	if err != nil {
		return err
	}
	proxy, err := listen(0)
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp", ":0")
	if err != nil {
		return err
	}
	at := packets.LocalAddr().(*net.UDPAddr).Port
	names, err := listen(at)
	if err != nil {
		return err
	}
	if err := lay(c, uint16(captured.Addr().(*net.TCPAddr).Port), uint16(at)); err != nil {
		return err
	}
	log, err := listenLog()
	if err != nil {
		return err
	}
	ns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return err
	}
	fds, err := descriptors(captured.(*net.TCPListener), proxy.(*net.TCPListener), names.(*net.TCPListener), packets.(*net.UDPConn), log, ns)
	if err == nil {
		_, _, err = control.WriteMsgUnix(said(nil), unix.UnixRights(fds...), nil)
	}
	runtime.KeepAlive([]any{captured, proxy, packets, names, log, ns})
	return err
}

// listen listens on a port of both families, or of the one that there is.
func listen(port int) (net.Listener, error) {
	return (&net.ListenConfig{KeepAlive: -1}).Listen(context.Background(), "tcp", ":"+strconv.Itoa(port))
}

// descriptors are those of the sockets, and the spare ones.
func descriptors(sockets ...syscall.Conn) ([]int, error) {
	var fds []int
	for _, s := range sockets {
		raw, err := s.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
		}
		if err != nil {
			return nil, err
		}
	}
	for i := range spareTCP + spareUDP {
		kind := unix.SOCK_STREAM
		if i >= spareTCP {
			kind = unix.SOCK_DGRAM
		}
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// shedded are the capabilities that the command shall not have: to change the
// rules, to enter another namespace, and to reach into a process that is outside.
var shedded = []int{unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE}

// shed takes capabilities from this thread, and from whatever it becomes: those
// out of the bounding set come back by no program file and no change of user. inherited
// are those that only get from this program to the next: where Start gave them, none
// of them may.
func shed(inherited bool) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for _, c := range shedded {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("drop capabilities: %w", err)
		}
		set, bit := &sets[c/32], uint32(1)<<(c%32)
		set.Effective &^= bit
		set.Permitted &^= bit
		set.Inheritable &^= bit
	}
	if inherited {
		sets[0].Inheritable, sets[1].Inheritable = 0, 0 // and no ambient one without it
	}
	if err := unix.Capset(&header, &sets[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// watch waits for the end of the process that started it. A byte before means that
// it ended in order; without one, all that runs in the namespace is killed.
func watch() int {
	var b [1]byte
	if n, _ := os.Stdin.Read(b[:]); n == 1 {
		return 0
	}
	ns := os.NewFile(3, "namespace")
	for until := time.Now().Add(patience); time.Now().Before(until); {
		left := inside(ns)
		if len(left) == 0 {
			return 0
		}
		for _, pid := range left {
			kill(pid, ns)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return 1
}

// kill ends a process that is in the namespace, and no other that has its number
// meanwhile.
func kill(pid int, ns *os.File) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if shares(pid, ns) {
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}

// inside are the processes in a namespace, without this one.
func inside(ns *os.File) []int {
	names, _ := os.ReadDir("/proc")
	var pids []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n.Name()); err == nil && pid != os.Getpid() && shares(pid, ns) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// shares says whether a process is in the namespace.
func shares(pid int, ns *os.File) bool {
	theirs, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return false
	}
	ours, err := ns.Stat()
	return err == nil && os.SameFile(theirs, ours)
}
