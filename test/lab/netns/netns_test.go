package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func needRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nftables")
	}
}

// TestNet: two namespaces and a router between them. What listens in one is
// reached from the other, until a rule of the router says no; nothing leads out.
func TestNet(t *testing.T) {
	needRoot(t)
	n := New("eatest", "net")
	defer n.Close()
	var spaces [3]*Space
	for i := range spaces {
		s, err := n.Add(fmt.Sprint("s", i))
		require.NoError(t, err)
		spaces[i] = s
	}
	a, router, b := spaces[0], spaces[1], spaces[2]
	require.NoError(t, errors.Join(
		n.Link(a, "10.1.0.2/24 fd01::2/64", router, "10.1.0.1/24 fd01::1/64"),
		n.Link(router, "10.2.0.1/24 fd02::1/64", b, "10.2.0.2/24 fd02::2/64"),
		router.Router(), a.Route("default", "10.1.0.1"), a.Route("default", "fd01::1"), b.Route("default", "10.2.0.1"), b.Route("default", "fd02::1"),
		b.Own("198.18.0.0/15"), router.Route("198.18.0.0/15", "10.2.0.2"),
	))
	require.NoError(t, b.Do(func() error {
		l, err := net.Listen("tcp", "[::]:443")
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	}))
	dial := func(to string) error {
		return a.Do(func() error {
			c, err := net.DialTimeout("tcp", to, 5*time.Second)
			if err == nil {
				c.Close()
			}
			return err
		})
	}
	require.NoError(t, dial("10.2.0.2:443"))
	require.NoError(t, dial("198.18.7.7:443"))
	require.NoError(t, dial("[fd02::2]:443"))
	require.NoError(t, router.Nft("table ip t { chain f { type filter hook forward priority 0; ip daddr 198.18.7.7 reject with icmp type admin-prohibited; }; }"))
	require.ErrorIs(t, dial("198.18.7.7:443"), syscall.EHOSTUNREACH)
	require.NoError(t, dial("198.18.7.8:443"))
	require.NoError(t, a.Batch("route add blackhole 198.18.7.8\n"))
	require.Error(t, dial("198.18.7.8:443"))
	require.ErrorIs(t, router.Do(func() error {
		_, err := net.DialTimeout("tcp", "192.0.2.1:53", time.Second)
		return err
	}), syscall.ENETUNREACH, "no way out")

	require.ErrorContains(t, a.Run("ip", "link", "set", "nothing", "up"), a.Name)
	c := exec.Command("sleep", "600")
	require.NoError(t, a.Start(c))
	require.NoError(t, n.Close())
	require.Error(t, c.Wait(), "what runs in a namespace ends with it")
	require.NoFileExists(t, filepath.Join(dir, a.Name))
}

// TestSweep: what a dead process left is removed, with what runs there; what a
// living one has is not touched.
func TestSweep(t *testing.T) {
	needRoot(t)
	dead := exec.Command("true")
	require.NoError(t, dead.Run())
	left := fmt.Sprintf("eatest%d-left", dead.Process.Pid)
	require.NoError(t, command("ip", "netns", "add", left))
	c := exec.Command("ip", "netns", "exec", left, "sleep", "600")
	require.NoError(t, c.Start())
	require.Eventually(t, func() bool { pids, err := inside(left); return err == nil && len(pids) > 0 }, 5*time.Second, 5*time.Millisecond)
	n := New("eatest", "sweep")
	defer n.Close()
	s, err := n.Add("mine")
	require.NoError(t, err)
	require.NoError(t, Sweep("eatest"))
	require.NoFileExists(t, filepath.Join(dir, left))
	require.Error(t, c.Wait())
	require.FileExists(t, filepath.Join(dir, s.Name))
}

// TestInside: what is started inside a process's namespaces sees its processes, and
// ends with it.
func TestInside(t *testing.T) {
	needRoot(t)
	n := New("eatest", "inside")
	defer n.Close()
	s, err := n.Add("s")
	require.NoError(t, err)
	init := exec.Command("sleep", "600")
	init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	require.NoError(t, s.Start(init))
	in, err := Inside("guest", init.Process.Pid)
	require.NoError(t, err)
	require.NoError(t, in.Run("sh", "-c", "test $$ -lt 100 && ip link show lo | grep -q UP"), "a process number of its own, in the network of s")
	c := exec.Command("sleep", "600")
	require.NoError(t, in.Start(c))
	require.NoError(t, init.Process.Kill())
	require.Error(t, c.Wait())
	require.Error(t, init.Wait())
	_, err = Inside("gone", init.Process.Pid)
	require.ErrorContains(t, err, "gone")
}
