package isolate

import (
	"cmp"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Space is a network namespace and the command in it. Its methods may be called at
// once, but for Exec and Close.
type Space struct {
	// Captured takes redirected connections, Names and Packets take DNS, and Proxy
	// what the command sends there itself. Whoever serves them closes them.
	Captured, Proxy, Names *net.TCPListener
	Packets                *net.UDPConn
	// Command is the process that Exec makes the command: to wait for, and to signal.
	Command *exec.Cmd
	// Unprivileged says that the command is in a user namespace: other users than
	// its own are nobody there, and set-user-ID programs change nothing.
	Unprivileged bool

	control *net.UnixConn
	orders  *gob.Encoder
	log     *os.File
	ns      *os.File // the namespace
	watcher *exec.Cmd
	leash   *os.File // whose end tells the watcher that we are no more
	parted  chan struct{}

	mu    sync.Mutex
	spare map[string][]*os.File
}

// Start makes a namespace for a command with these standard streams (as exec.Cmd
// has them) and waits until its network is there. The error is
// ErrForbidden where the kernel gives this user none. Main must have been called at
// the beginning of the program. The caller calls Close.
//
// Descriptors that this process inherited beyond the standard streams are marked
// to be closed in whatever it starts from now on.
func Start(c Config, stdin io.Reader, stdout, stderr io.Writer) (*Space, error) {
	if err := unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("close inherited descriptors: %w (that needs Linux 5.11)", err)
	}
	s := &Space{parted: make(chan struct{}), spare: map[string][]*os.File{}}
	stage := func(flags uintptr) error {
		s.Command = again()
		s.Command.Stdin, s.Command.Stdout, s.Command.Stderr = stdin, stdout, stderr
		return s.start(c, flags)
	}
	err := stage(unix.CLONE_NEWNET)
	if errors.Is(err, unix.EPERM) {
		s.Unprivileged = true
		err = stage(unix.CLONE_NEWNET | unix.CLONE_NEWUSER)
	}
	if err == nil {
		err = s.guard()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// start begins the process that becomes the command.
func (s *Space) start(c Config, flags uintptr) error {
	ours, theirs, err := pair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	s.Command.ExtraFiles = []*os.File{theirs}
	s.Command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if flags&unix.CLONE_NEWUSER != 0 {
		s.Command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		s.Command.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SETPCAP} // become drops them
		s.Command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	}
	if err := s.fork(); err != nil {
		ours.Close()
		return forbidden(err, unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS)
	}
	theirs.Close()
	if err = s.settle(c, ours); err != nil {
		s.Command.Process.Kill()
		s.Command.Wait()
		s.Command = nil
	}
	return forbidden(err, unix.EPERM, unix.EACCES)
}

// forbidden says that the kernel did not want to, where the cause is one of these.
func forbidden(err error, causes ...syscall.Errno) error {
	var errno syscall.Errno
	if errors.As(err, &errno) && slices.Contains(causes, errno) {
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	return err
}

// again is this program once more.
func again(args ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe")
	c.Args = append([]string{os.Args[0], verb}, args...)
	return c
}

// fork starts the command's process from a thread that lives until Close: the
// command is killed when the thread ends that started it.
func (s *Space) fork() error {
	started := make(chan error, 1)
	go func(parted <-chan struct{}) {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		started <- s.Command.Start()
		<-parted
	}(s.parted)
	return <-started
}

// pair are two ends of a unix socket, ours and one to inherit.
func pair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	mine := os.NewFile(uintptr(fds[0]), "control")
	defer mine.Close()
	theirs = os.NewFile(uintptr(fds[1]), "control")
	c, err := net.FileConn(mine)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return c.(*net.UnixConn), theirs, nil
}

// settle has the process make its network, and takes the sockets.
func (s *Space) settle(c Config, control *net.UnixConn) error {
	s.control, s.orders = control, gob.NewEncoder(control)
	if err := s.orders.Encode(plan{c, s.Unprivileged}); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	var said [1 << 12]byte
	var rights [1 << 10]byte
	n, oobn, _, _, err := control.ReadMsgUnix(said[:], rights[:])
	if err == nil {
		err = heard(said[:n])
	}
	if err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	fds, err := received(rights[:oobn])
	if err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	return s.take(fds)
}

// received are the descriptors in a control message.
func received(rights []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return nil, cmp.Or(err, error(unix.EBADMSG))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	var files []*os.File
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		files = append(files, os.NewFile(uintptr(fd), "socket of the namespace"))
	}
	if err == nil && len(files) != handedOut {
		err = unix.EBADMSG
	}
	return files, err
}

// take makes of descriptors, in the order of hand, what they are.
func (s *Space) take(files []*os.File) error {
	for i, to := range []**net.TCPListener{&s.Captured, &s.Proxy, &s.Names} {
		l, err := net.FileListener(files[i])
		if err != nil {
			return err
		}
		files[i].Close()
		*to = l.(*net.TCPListener)
	}
	c, err := net.FilePacketConn(files[3])
	if err != nil {
		return err
	}
	files[3].Close()
	s.Packets = c.(*net.UDPConn)
	if err := unix.SetNonblock(int(files[4].Fd()), true); err != nil {
		return err
	}
	fd, err := unix.FcntlInt(files[4].Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return err
	}
	files[4].Close()
	s.log, s.ns = os.NewFile(uintptr(fd), "log of the namespace"), files[5] // which is nonblocking when it is made
	s.spare["tcp"], s.spare["udp"] = files[6:6+spareTCP], files[6+spareTCP:]
	return nil
}

// guard starts the process that kills what is left when we are killed.
func (s *Space) guard() error {
	end, leash, err := os.Pipe()
	if err != nil {
		return err
	}
	defer end.Close()
	s.leash, s.watcher = leash, again("watch")
	s.watcher.Stdin, s.watcher.ExtraFiles = end, []*os.File{s.ns}
	s.watcher.Dir = "/"                                        // it holds no folder
	s.watcher.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no key on the terminal reaches it
	if err := s.watcher.Start(); err != nil {
		s.watcher = nil
		return fmt.Errorf("watch over the command: %w", err)
	}
	return nil
}

// Exec makes the process the command: path with args, the first of which is its
// name, and the environment env. The error is that of execve(2).
func (s *Space) Exec(path string, args, env []string) error {
	if err := s.orders.Encode(order{path, args, env}); err != nil {
		return s.gone(err)
	}
	b, err := io.ReadAll(s.control)
	switch {
	case err != nil:
		return s.gone(err)
	case len(b) > 0:
		return heard(b)
	}
	return nil
}

// gone says how the process ended that was to become the command.
func (s *Space) gone(err error) error {
	if ended := s.Command.Wait(); ended != nil {
		err = ended
	}
	return fmt.Errorf("the process that makes the namespace ended: %w", err)
}

// Dial connects a socket of the namespace, "tcp" or "udp", to a port of its
// loopback, from outside: what the canary needs. There are but a few of them.
func (s *Space) Dial(network string, port uint16) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	spare := s.spare[network]
	if len(spare) == 0 {
		return nil, fmt.Errorf("dial port %d in the namespace: no %s socket is left", port, network)
	}
	s.spare[network] = spare[1:]
	defer spare[0].Close()
	if err := unix.Connect(int(spare[0].Fd()), &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, fmt.Errorf("dial port %d in the namespace: %w", port, err)
	}
	return net.FileConn(spare[0])
}

// Processes are those that run in the namespace now.
func (s *Space) Processes() []int { return inside(s.ns) }

// Close ends a command that has not, Watch, and the watching over the namespace.
// What else runs there stays, without a network.
func (s *Space) Close() error {
	if s.Command != nil && s.Command.Process != nil && s.Command.ProcessState == nil {
		s.Command.Process.Kill()
		s.Command.Wait()
	}
	var err error
	if s.watcher != nil {
		_, err = s.leash.Write([]byte{0})
		err = errors.Join(err, s.watcher.Wait())
	}
	for _, f := range append(append(s.spare["tcp"], s.spare["udp"]...), s.log, s.ns, s.leash) {
		if f != nil {
			f.Close()
		}
	}
	if s.control != nil {
		s.control.Close()
	}
	close(s.parted)
	return err
}

// patience is how long what was killed may take to end.
const patience = 10 * time.Second
