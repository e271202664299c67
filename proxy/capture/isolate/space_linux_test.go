package isolate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/egressaudit/egressaudit/proxy/capture"
)

// nobody is the user without rights that the tests turn into.
const nobody = 65534

// TestMain is also the command that runs in namespaces, and the parent that is
// killed.
func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=10") // of the processes that are started; not a second each
	Main(os.Args)
	if len(os.Args) > 1 && os.Args[1] == "act" {
		act(os.Args[2:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// each runs a test as root, where this is root, and as a user without rights.
func each(t *testing.T, f func(t *testing.T)) {
	if os.Geteuid() != 0 {
		t.Run("user", f)
		return
	}
	t.Run("root", f)
	t.Run("nobody", func(t *testing.T) {
		var out bytes.Buffer
		parent, _, _ := strings.Cut(t.Name(), "/")
		c := exec.Command("/proc/self/exe", "-test.run=^"+parent+"$", "-test.v", "-test.timeout=60s")
		c.Dir, c.Stdout, c.Stderr = "/", &out, &out
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		err := c.Run()
		if err == nil && strings.Contains(out.String(), "--- SKIP") {
			t.Skip(out.String())
		}
		require.NoError(t, err, out.String())
		require.Contains(t, out.String(), "--- PASS: "+parent+"/user")
	})
}

// start makes a Space whose command writes to out, and skips aloud where the kernel
// allows none.
func start(t *testing.T, c Config, out io.Writer) *Space {
	t.Helper()
	s, err := Start(c, nil, out, os.Stderr)
	if errors.Is(err, ErrForbidden) && os.Geteuid() != 0 {
		fmt.Fprintf(os.Stderr, "SKIPPED %s: %v\n", t.Name(), err)
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.Equal(t, os.Geteuid() != 0, s.Unprivileged)
	return s
}

// become makes the process of s this program with these words.
func (s *Space) becomes(t *testing.T, words ...string) {
	t.Helper()
	require.NoError(t, s.Exec("/proc/self/exe", append([]string{"command", "act"}, words...), os.Environ()))
}

// serve answers on the listeners of s: connections with their name and where they
// were going, packets with themselves.
func (s *Space) serve(t *testing.T) {
	for name, l := range map[string]*net.TCPListener{"captured": s.Captured, "names": s.Names, "proxy": s.Proxy} {
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.AcceptTCP()
				if err != nil {
					return
				}
				to, err := capture.OriginalDestination(c)
				fmt.Fprint(c, name, " ", to, " ", err)
				c.Close()
			}
		}()
	}
	t.Cleanup(func() { s.Packets.Close() })
	go func() {
		p, b := ipv6.NewPacketConn(s.Packets), make([]byte, 512)
		p.SetControlMessage(ipv6.FlagDst, true)
		for {
			n, cm, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			// Else the answer is from elsewhere than the rules led the question to.
			source := (&ipv6.ControlMessage{Src: cm.Dst}).Marshal()
			if four := cm.Dst.To4(); four != nil {
				source = (&ipv4.ControlMessage{Src: four}).Marshal()
			}
			s.Packets.WriteMsgUDP(b[:n], source, from.(*net.UDPAddr))
		}
	}()
}

// act is the command: what each of its words does, and a line of what came of it.
func act(words []string) {
	for _, w := range words {
		verb, rest, _ := strings.Cut(w, "=")
		fmt.Println(w, "->", acts[verb](rest))
	}
}

var acts = map[string]func(string) any{
	"tcp": func(to string) any { return said2(net.DialTimeout("tcp", to, 5*time.Second)) },
	"udp": func(to string) any { return askUDP(to) },
	"own": func(at string) any {
		l, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				fmt.Fprint(c, "hello")
				c.Close()
			}
		}()
		return said2(net.Dial("tcp", l.Addr().String()))
	},
	"id": func(string) any {
		return fmt.Sprint(os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid(), os.Getppid())
	},
	"limit": func(string) any {
		var r unix.Rlimit
		err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r)
		return fmt.Sprint(r.Max, err)
	},
	"caps": func(string) any {
		var sets [2]unix.CapUserData
		err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &sets[0])
		bounding := ""
		for _, c := range shedded {
			has, _ := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
			bounding += strconv.Itoa(has)
		}
		mask := uint32(1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_PTRACE)
		return fmt.Sprintln(sets[0].Permitted&mask, sets[0].Effective&mask, sets[0].Inheritable&mask, bounding, err)
	},
	"files": func(string) any {
		links, _ := filepath.Glob("/proc/self/fd/*")
		for i, l := range links {
			links[i], _ = os.Readlink(l)
		}
		return fmt.Sprint(links)
	},
	"flush":   func(string) any { return lay(Config{}, 1, 2) },
	"address": func(string) any { return plug(Config{}) },
	"leave": func(string) any {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", os.Getppid()))
		if err == nil {
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		return err
	},
	"reach": func(string) any { // into the parent, which has sockets outside
		fd, err := unix.PidfdOpen(os.Getppid(), 0)
		if err != nil {
			return err
		}
		_, err = unix.PidfdGetfd(fd, 0, 0)
		return err
	},
	"linger": func(string) any {
		c := exec.Command("sleep", "1000")
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return cmpErr(c.Start(), func() any { return c.Process.Pid })
	},
	"flood": func(n string) any {
		count, _ := strconv.Atoi(n)
		c, err := net.Dial("udp", "198.51.100.9:9")
		if err != nil {
			return err
		}
		defer c.Close()
		for range count {
			c.Write(make([]byte, 1400)) // every other one tells of the one before
		}
		return "sent"
	},
	"wait":   func(string) any { select {} },
	"parent": func(string) any { parent(); return nil },
}

func cmpErr(err error, f func() any) any {
	if err != nil {
		return err
	}
	return f()
}

// said2 is what a server says.
func said2(c net.Conn, err error) any {
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	b, _ := io.ReadAll(c)
	return string(b)
}

// askUDP is what comes back of a packet.
func askUDP(to string) any {
	c, err := net.Dial("udp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write([]byte("words")); err != nil {
		return err
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	return cmpErr(err, func() any { return string(b[:n]) })
}

// TestSpace is what a command in the namespace can do: everything it sends is led to
// us or refused, and it cannot change that.
func TestSpace(t *testing.T) {
	each(t, func(t *testing.T) {
		inherited, err := os.Open("/etc/passwd") // which Go marks, so unmark it
		require.NoError(t, err)
		defer inherited.Close()
		_, err = unix.FcntlInt(inherited.Fd(), unix.F_SETFD, 0)
		require.NoError(t, err)
		var out bytes.Buffer
		s := start(t, Config{Through: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:6443")}}, &out)
		s.serve(t)
		var seen []Packet
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			lost, err := s.Watch(func(p Packet) { p.Payload = bytes.Clone(p.Payload); seen = append(seen, p) })
			if lost > 0 || err != nil {
				t.Errorf("lost %d: %v", lost, err)
			}
		}()
		s.becomes(t, "tcp=198.51.100.7:443", "tcp=[2001:db8::7]:80", "tcp=10.1.2.3:22", "tcp=127.0.0.1:6443", "tcp=127.0.0.1:1", "tcp=8.8.8.8:53", "tcp=127.0.0.53:53",
			"udp=8.8.8.8:53", "udp=[2001:db8::53]:53", "udp=127.0.0.53:53", "udp=198.51.100.9:123", "udp=[2001:db8::9]:443", "own=127.0.0.1:0", "own=[::1]:0",
			"id", "limit", "caps", "files", "flush", "address", "leave", "reach")
		require.NoError(t, s.Command.Wait())
		s.Unwatch()
		<-watched
		said := map[string]string{}
		for line := range strings.Lines(out.String()) {
			what, came, _ := strings.Cut(strings.TrimSpace(line), " -> ")
			said[what] = came
		}
		for what, want := range map[string]string{
			"tcp=198.51.100.7:443":  "captured 198.51.100.7:443 <nil>",
			"tcp=[2001:db8::7]:80":  "captured [2001:db8::7]:80 <nil>",
			"tcp=10.1.2.3:22":       "captured 10.1.2.3:22 <nil>",
			"tcp=127.0.0.1:6443":    "captured 127.0.0.1:6443 <nil>",
			"tcp=8.8.8.8:53":        "names 8.8.8.8:53 <nil>",
			"tcp=127.0.0.53:53":     "names 127.0.0.53:53 <nil>",
			"udp=8.8.8.8:53":        "words",
			"udp=[2001:db8::53]:53": "words",
			"udp=127.0.0.53:53":     "words",
			"own=127.0.0.1:0":       "hello",
			"own=[::1]:0":           "hello",
			"id":                    fmt.Sprint(os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid(), os.Getpid()),
			"limit":                 acts["limit"]("").(string),
			"caps":                  "0 0 0 000 <nil>",
		} {
			require.Equal(t, want, said[what], what)
		}
		for what, want := range map[string]string{
			"tcp=127.0.0.1:1": "connection refused", "udp=198.51.100.9:123": "connection refused", "udp=[2001:db8::9]:443": "connection refused",
			"flush": "not permitted", "address": "not permitted", "reach": "not permitted", "files": "pipe:",
		} {
			require.Contains(t, said[what], want, what)
		}
		require.Regexp(t, "permission denied|not permitted", said["leave"])
		require.NotContains(t, said["files"], "/etc/passwd")
		told := func(why Why, protocol, to string) bool {
			return slices.ContainsFunc(seen, func(p Packet) bool { return p.Why == why && p.Protocol == protocol && p.To.String() == to })
		}
		require.True(t, told(Refused, "udp", "198.51.100.9:123"), "%v", seen)
		require.True(t, told(Refused, "udp", "[2001:db8::9]:443"), "%v", seen)
		require.True(t, told(Closed, "tcp", "127.0.0.1:1"), "%v", seen)
		for _, p := range seen {
			require.True(t, p.Why == Closed && p.To.Port() == 1 || string(p.Payload) == "words", "nothing else is told: %v", p)
		}
	})
}

// TestFlood: of packets that come faster than they are read, none is lost without a
// word.
func TestFlood(t *testing.T) {
	each(t, func(t *testing.T) {
		s := start(t, Config{}, io.Discard)
		s.becomes(t, "flood=40000")
		require.NoError(t, s.Command.Wait()) // before anybody reads
		seen := 0
		s.Unwatch()
		lost, err := s.Watch(func(Packet) { seen++ })
		require.NoError(t, err)
		require.Positive(t, seen)
		require.Positive(t, lost, "%d were seen", seen)
	})
}

// TestNoIPv6 is a host without a route for it: inside, there is none either.
func TestNoIPv6(t *testing.T) {
	each(t, func(t *testing.T) {
		var out bytes.Buffer
		s := start(t, Config{NoIPv6: true}, &out)
		s.serve(t)
		s.becomes(t, "tcp=[2001:db8::7]:80", "tcp=198.51.100.7:443", "own=[::1]:0")
		require.NoError(t, s.Command.Wait())
		require.Regexp(t, `2001.* -> .*network is unreachable`, out.String())
		require.Contains(t, out.String(), "captured 198.51.100.7:443 <nil>")
		require.Contains(t, out.String(), "-> hello")
	})
}

// TestDial is the way of the canary: from outside, to the listeners in the
// namespace, as often as there are sockets.
func TestDial(t *testing.T) {
	each(t, func(t *testing.T) {
		s := start(t, Config{}, io.Discard)
		s.serve(t)
		port := func(a net.Addr) uint16 { return netip.MustParseAddrPort(a.String()).Port() }
		for range spareTCP {
			c, err := s.Dial("tcp", port(s.Captured.Addr()))
			require.Contains(t, said2(c, err), "captured ")
		}
		_, err := s.Dial("tcp", port(s.Captured.Addr()))
		require.ErrorContains(t, err, "no tcp socket is left")
		c, err := s.Dial("udp", port(s.Packets.LocalAddr()))
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(5*time.Second)))
		_, err = c.Write([]byte("words"))
		require.NoError(t, err)
		b := make([]byte, 10)
		n, err := c.Read(b)
		require.NoError(t, err)
		require.Equal(t, "words", string(b[:n]))
	})
}

// TestExecErrors: why a command cannot be, as execve(2) says it.
func TestExecErrors(t *testing.T) {
	each(t, func(t *testing.T) {
		for path, want := range map[string]error{"/no/such": unix.ENOENT, "/etc/passwd": unix.EACCES, "/": unix.EACCES} {
			s := start(t, Config{}, io.Discard)
			require.ErrorIs(t, s.Exec(path, []string{"x"}, nil), want, path)
		}
		s := start(t, Config{}, io.Discard)
		require.NoError(t, s.Command.Process.Kill())
		require.ErrorContains(t, s.Exec("/bin/true", []string{"true"}, nil), "ended: signal: killed")
	})
}

// TestLongWords: as many arguments as execve(2) takes, and not UTF-8.
func TestLongWords(t *testing.T) {
	var out bytes.Buffer
	s := start(t, Config{}, &out)
	args := []string{"printf", "%s"}
	for range 20 {
		args = append(args, strings.Repeat("\xff", 100<<10))
	}
	require.NoError(t, s.Exec("/usr/bin/printf", args, nil))
	require.NoError(t, s.Command.Wait())
	require.Equal(t, strings.Repeat("\xff", 2000<<10), out.String())
}

// parent is a process that has a Space, whose command starts another one, and waits
// to be killed.
func parent() {
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	s, err := Start(Config{}, nil, w, os.Stderr)
	if err != nil {
		panic(err)
	}
	if err := s.Exec("/proc/self/exe", []string{"command", "act", "linger", "wait"}, os.Environ()); err != nil {
		panic(err)
	}
	b := make([]byte, 100)
	n, err := r.Read(b)
	fmt.Println(s.Command.Process.Pid, s.watcher.Process.Pid, strings.TrimSpace(string(b[:n])), err)
	io.Copy(io.Discard, r)
}

// TestParentKilled: nothing is left of a namespace whose parent was killed, not even
// what left the command's session; nor of one whose command was.
func TestParentKilled(t *testing.T) {
	each(t, func(t *testing.T) {
		if os.Geteuid() != 0 { // says whether the kernel allows it, or skips
			start(t, Config{}, io.Discard)
		}
		c := exec.Command("/proc/self/exe", "act", "parent")
		out, err := c.StdoutPipe()
		require.NoError(t, err)
		c.Stderr = os.Stderr
		require.NoError(t, c.Start())
		defer c.Process.Kill()
		var command, watcher, lingers int
		_, err = fmt.Fscanf(out, "%d %d linger -> %d", &command, &watcher, &lingers)
		require.NoError(t, err)
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", command))
		require.NoError(t, err)
		defer ns.Close()
		require.ElementsMatch(t, []int{command, lingers}, inside(ns))
		require.NoError(t, c.Process.Kill())
		require.Eventually(t, func() bool { return len(inside(ns)) == 0 }, 10*time.Second, 5*time.Millisecond)
		require.Eventually(t, func() bool {
			state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", watcher))
			return err != nil || bytes.Contains(state, []byte(") Z ")) // whom nobody waits for in a container
		}, 10*time.Second, 5*time.Millisecond)
		c.Wait()
	})
}

// TestLeftBehind: what a command leaves running is told, and left alone.
func TestLeftBehind(t *testing.T) {
	each(t, func(t *testing.T) {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		s := start(t, Config{}, w)
		s.becomes(t, "linger")
		var pid int
		_, err = fmt.Fscanf(r, "linger -> %d", &pid)
		require.NoError(t, err)
		w.Close()
		require.NoError(t, s.Command.Wait())
		require.Equal(t, []int{pid}, s.Processes())
		require.NoError(t, unix.Kill(pid, 0))
		require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	})
}

// TestNotStarted: a Space whose command never came to anything leaves nothing.
func TestNotStarted(t *testing.T) {
	each(t, func(t *testing.T) {
		s, err := Start(Config{}, nil, nil, nil)
		if errors.Is(err, ErrForbidden) && os.Geteuid() != 0 {
			t.Skip(err)
		}
		require.NoError(t, err)
		pid := s.Command.Process.Pid
		require.NoError(t, s.Close())
		require.ErrorIs(t, unix.Kill(pid, 0), unix.ESRCH)
	})
}

// TestForbidden: the message where the kernel allows no user namespace.
func TestForbidden(t *testing.T) {
	err := forbidden(&os.PathError{Op: "fork/exec", Path: "/proc/self/exe", Err: unix.ENOSPC}, unix.ENOSPC)
	require.ErrorIs(t, err, ErrForbidden)
	require.NotErrorIs(t, forbidden(unix.ENOMEM, unix.ENOSPC), ErrForbidden)
	require.NoError(t, forbidden(nil, unix.ENOSPC))
}

// TestUnixSockets: a socket that we listen on is found, one that only connects is
// not, and those that make connections for others come first.
func TestUnixSockets(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for _, name := range []string{"a.sock", "docker.sock"} {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		require.NoError(t, err)
		defer l.Close()
		paths = append(paths, l.Addr().String())
	}
	l, err := net.ListenPacket("unixgram", filepath.Join(dir, "log"))
	require.NoError(t, err)
	defer l.Close()
	client, err := (&net.Dialer{LocalAddr: &net.UnixAddr{Name: filepath.Join(dir, "client"), Net: "unix"}}).DialContext(context.Background(), "unix", paths[0])
	require.NoError(t, err)
	defer client.Close()
	all := UnixSockets()
	require.Less(t, slices.Index(all, paths[1]), slices.Index(all, paths[0]))
	require.Subset(t, all, append(paths, l.LocalAddr().String()))
	require.NotContains(t, all, filepath.Join(dir, "client"))
	for _, line := range []string{"", "Num       RefCount Protocol Flags    Type St Inode Path", "0: 1 2 00010000 0001 01 3", "0: 1 2 00010000 0001 01 3 @/abstract"} {
		path, ok := listening(line)
		require.False(t, ok && !strings.HasPrefix(path, "/"), line)
	}
}
