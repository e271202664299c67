package isolate

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// errands are words in the names of sockets whose servers make connections for
// others: they come first.
var errands = []string{"docker", "containerd", "crio", "podman", "buildkit", "snapd", "systemd/private", "dbus", "resolve", "nscd"}

// UnixSockets are the paths of the unix sockets that this process, and so the
// command, could connect to: namespaces of networks do not keep them apart, and
// whoever listens there is outside. Those whose servers are known to make
// connections for others come first.
func UnixSockets() []string {
	f, err := os.Open("/proc/net/unix")
	if err != nil {
		return nil
	}
	defer f.Close()
	var paths []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if p, ok := listening(lines.Text()); ok && unix.Access(p, unix.W_OK) == nil {
			paths = append(paths, p)
		}
	}
	slices.SortFunc(paths, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(paths)
}

// listening reads a line of /proc/net/unix: the path of a socket that accepts
// connections, or takes datagrams.
func listening(line string) (path string, ok bool) {
	const accepts, datagrams = "00010000", "0002"
	var number, count, protocol, flags, kind, state, inode string
	if n, _ := fmt.Sscan(line, &number, &count, &protocol, &flags, &kind, &state, &inode); n < 7 {
		return "", false
	}
	at := strings.IndexByte(line, '/')
	return line[max(at, 0):], at > 0 && (flags == accepts || kind == datagrams)
}

func rank(path string) int {
	if i := slices.IndexFunc(errands, func(e string) bool { return strings.Contains(path, e) }); i >= 0 {
		return i
	}
	return len(errands)
}
