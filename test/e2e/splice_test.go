//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/suite"
)

// bulk is how much the download carries.
const bulk = 256 << 20

// returned is a finished call in strace's output that moved bytes.
var returned = regexp.MustCompile(`(?:^|\s)(?:<\.\.\. )?(splice|sendfile|read|write|readv|writev|sendto|recvfrom|sendmsg|recvmsg)(?:\(| resumed).*\)\s+= (\d+)$`)

// TestSplice counts the bytes that each system call of the program moved while
// a client moved a big file through a tunnel.
func TestSplice(t *testing.T) {
	suite.Need(t, "curl", "strace")
	down := fmt.Sprintf("/bytes/%d", bulk)
	for _, row := range []struct {
		name string
		args []string
	}{
		{"tls", []string{"https://web.egress.test" + down}},
		{"clear text in a tunnel", []string{"http://web.egress.test" + down}},
		{"upload", []string{"-T", "upload", "https://web.egress.test/"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			trace := filepath.Join(w.dir, "trace")
			d := w.serveProxy(t, []string{"strace", "-f", "--seccomp-bpf", "-qq", "-s", "0", "-e", "signal=none", "-e",
				"trace=splice,sendfile,read,write,readv,writev,sendto,recvfrom,sendmsg,recvmsg", "-o", trace})
			require.NoError(t, os.Truncate(w.write(t, "upload", ""), bulk))
			c := d.client(t, w, append([]string{"curl", "-sS", "-p", "--cacert", w.ca, "-o", "/dev/null", "-w", "%{size_download} %{size_upload}"}, row.args...)...)
			require.Zero(t, c.wait(), c.stderr.String())
			require.Contains(t, c.stdout.String(), strconv.Itoa(bulk))
			syscall.Kill(-d.cmd.Process.Pid, syscall.SIGTERM) // strace itself only notes it and goes on
			require.Zero(t, d.wait(), d.stderr.String())

			moved := movedBytes(t, trace)
			t.Logf("bytes moved by system calls: %v", moved)
			require.Greater(t, moved["splice"], int64(2*bulk-8<<20), "into the pipe and out of it: all but the beginning")
			var copied int64
			for call, n := range moved {
				if call != "splice" {
					copied += n
				}
			}
			require.Less(t, copied, int64(8<<20), "next to nothing passes through the program's own memory")
			seen := closing(readLedger(t, d.ledger))
			require.Len(t, seen, 1)
			require.Equal(t, w.meters[seen[0].Address.String()].settled(t, false), carried(seen), "spliced bytes are counted like others")
		})
	}
}

func movedBytes(t *testing.T, trace string) map[string]int64 {
	t.Helper()
	f, err := os.Open(trace)
	require.NoError(t, err)
	defer f.Close()
	moved := map[string]int64{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if m := returned.FindStringSubmatch(lines.Text()); m != nil {
			n, err := strconv.ParseInt(m[2], 10, 64)
			require.NoError(t, err)
			moved[m[1]] += n
		}
	}
	require.NoError(t, lines.Err())
	return moved
}

// TestIdleTunnels opens tunnels that carried bulk and now rest: each costs two
// sockets, and none holds a pipe. What pipes there are belong to a small stock.
func TestIdleTunnels(t *testing.T) {
	suite.Need(t, "curl")
	const tunnels, stock = 60, 16
	w := newWorld(t)
	d := w.serveProxy(t, nil)
	var before map[string]int
	eventually(t, "only the listener is open: the canary has sung", func() bool {
		before = descriptors(t, d.cmd.Process.Pid)
		return before["socket"] == 1
	})
	for range tunnels {
		c := w.command(t, []string{"https_proxy=http://" + d.address}, "sh", "-c",
			`curl -sSN --cacert "$0" -o /dev/null https://web.egress.test/bytes/8388608 --next -sSN --cacert "$0" https://web.egress.test/held`, w.ca).start()
		c.says(&c.stdout, "first")
	}
	after := before
	require.Eventually(t, func() bool {
		after = descriptors(t, d.cmd.Process.Pid)
		return after["socket"]-before["socket"] == 2*tunnels
	}, patience, 5*time.Millisecond, "one tunnel for each client, that rests: %v, then %v", before, &after)
	t.Logf("descriptors before %v, with %d idle tunnels %v", before, tunnels, after)
	require.LessOrEqual(t, after["pipe"], before["pipe"]+2*stock, "pipes do not grow with tunnels")
}

// descriptors counts a process's open files by kind.
func descriptors(t *testing.T, pid int) map[string]int {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	kinds := map[string]int{}
	for _, e := range list {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			kind, _, _ := strings.Cut(to, ":")
			kinds[kind]++
		}
	}
	return kinds
}
