//go:build linux

// Package systemd has no code: its tests hold the units against systemd's own
// checks, and run the daemon as they do.
package systemd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/lab/netns"
	"github.com/egressaudit/egressaudit/test/suite"
)

// patience is how long what must come is waited for.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	status := m.Run()
	suite.Clean()
	os.Exit(status)
}

// need skips a test aloud where a program is missing, and root where it is needed;
// EGRESSAUDIT_E2E=must makes that a failure.
func need(t *testing.T, root bool, programs ...string) {
	t.Helper()
	var lacks []string
	if root && os.Geteuid() != 0 {
		lacks = append(lacks, "root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			lacks = append(lacks, p)
		}
	}
	if len(lacks) == 0 {
		return
	}
	why := "needs " + strings.Join(lacks, ", ")
	if os.Getenv("EGRESSAUDIT_E2E") == "must" {
		t.Fatal(why + ", and EGRESSAUDIT_E2E=must")
	}
	fmt.Fprintf(os.Stderr, "SKIPPED %s: %s\n", t.Name(), why)
	t.Skip(why)
}

// installed puts the units into a folder, with the program that is under test in
// the place of the installed one, and with TPROXY or not.
func installed(t *testing.T, tproxy bool) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, unit := range []string{"egressaudit.service", "egressaudit-rules.service"} {
		text, err := os.ReadFile(unit)
		require.NoError(t, err)
		text = bytes.ReplaceAll(text, []byte("/usr/local/bin/egressaudit"), []byte(suite.Program(t)))
		require.NoError(t, os.WriteFile(filepath.Join(dir, unit), text, 0o644))
	}
	if tproxy {
		require.NoError(t, os.CopyFS(dir, os.DirFS("tproxy")))
	}
	return dir
}

// analyze runs systemd-analyze over a unit of dir.
func analyze(dir string, args ...string) (string, error) {
	c := exec.Command("systemd-analyze", args...)
	c.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	out, err := c.CombinedOutput()
	return string(out), err
}

// systemd takes both units without a word, and finds a fault where there is one.
func TestVerify(t *testing.T) {
	need(t, false, "systemd-analyze")
	for _, tproxy := range []bool{false, true} {
		dir := installed(t, tproxy)
		daemon, rules := filepath.Join(dir, "egressaudit.service"), filepath.Join(dir, "egressaudit-rules.service")
		said, err := analyze(dir, "verify", "--man=no", daemon, rules)
		require.NoError(t, err, said)
		require.NotContains(t, said, "egressaudit", "tproxy %v", tproxy)

		text, err := os.ReadFile(daemon)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(daemon, append(text, "\n[Service]\nProtectHome=perhaps\n"...), 0o644))
		said, _ = analyze(dir, "verify", "--man=no", daemon)
		require.Contains(t, said, "egressaudit.service:", "a fault is told")
	}
}

// Both units stay below 2.0 (systemd counts in tenths), with TPROXY too; without
// what hardens it, a unit does not.
func TestSecurity(t *testing.T) {
	need(t, false, "systemd-analyze")
	const below = "--threshold=19"
	for _, tproxy := range []bool{false, true} {
		dir := installed(t, tproxy)
		for _, unit := range []string{"egressaudit.service", "egressaudit-rules.service"} {
			said, err := analyze(dir, "security", "--offline=true", below, filepath.Join(dir, unit))
			require.NoError(t, err, said)
			require.Contains(t, said, "Overall exposure level for "+unit)
		}
	}
	dir := t.TempDir()
	bare := filepath.Join(dir, "bare.service")
	require.NoError(t, os.WriteFile(bare, []byte("[Service]\nExecStart=/bin/true\n"), 0o644))
	said, err := analyze(dir, "security", "--offline=true", below, bare)
	require.Error(t, err, said)
}

// Open tunnels get the time that serve promises them, and rules go before listeners.
func TestTimes(t *testing.T) {
	stop, err := time.ParseDuration(value(t, "egressaudit.service", "TimeoutStopSec=") + "s")
	require.NoError(t, err)
	drain, err := time.ParseDuration(value(t, "serve.yaml", "drain: "))
	require.NoError(t, err)
	require.GreaterOrEqual(t, stop, drain+10*time.Second)
	for _, key := range []string{"BindsTo=", "After="} { // stopped in reverse
		require.Equal(t, "egressaudit.service", value(t, "egressaudit-rules.service", key))
	}
}

// value is what stands behind a key, once.
func value(t *testing.T, unit, key string) string {
	t.Helper()
	list := values(t, unit, key)
	require.Len(t, list, 1, "%s in %s", key, unit)
	return list[0]
}

// The user of the unit is the one that sysusers makes, with the number of the rules.
func TestUser(t *testing.T) {
	need(t, true, "systemd-sysusers")
	root := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(root, "etc"), 0o755))
	text, err := os.ReadFile("egressaudit.sysusers")
	require.NoError(t, err)
	c := exec.Command("systemd-sysusers", "--root="+root, "-")
	c.Stdin = bytes.NewReader(text)
	out, err := c.CombinedOutput()
	require.NoError(t, err, string(out))
	passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	require.NoError(t, err)
	require.Regexp(t, `(?m)^`+value(t, "egressaudit.service", "User=")+`:[^:]*:64042:`, string(passwd))
}

// serve takes the sample as it is, as a user with the capabilities of its unit and
// no others, says when it is ready, reloads at SIGHUP, and ends well. The rules that
// the README makes fit its listeners, and are loaded with the one capability of
// their unit.
func TestDaemon(t *testing.T) {
	need(t, true, "ip", "nft", "setpriv")
	require.NoError(t, netns.Sweep("easysd"))
	for name, tproxy := range map[string]bool{"redirect": false, "tproxy": true} {
		t.Run(name, func(t *testing.T) { daemon(t, name, tproxy) })
	}
}

func daemon(t *testing.T, name string, tproxy bool) {
	n := netns.New("easysd", name)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	host, err := n.Add("host")
	require.NoError(t, err)
	dir, capabilities, extra := openDir(t), "-all", []string{}
	if tproxy {
		capabilities, extra = "-all,+net_admin", []string{"--tproxy", "[::]:3130"}
	}
	word := listen(t, filepath.Join(dir, "notify"))
	c := as("64042", capabilities, suite.Program(t), append([]string{"serve", "--config", copied(t, dir, "serve.yaml"), "--ledger", filepath.Join(dir, "ledger.jsonl")}, extra...)...)
	c.Env, c.Dir = []string{"NOTIFY_SOCKET=" + filepath.Join(dir, "notify")}, dir
	says := lines(t, c)
	require.NoError(t, host.Start(c))
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	require.Equal(t, "READY=1", word(), "when all listeners are open")
	for _, listener := range []string{"proxy=[::]:3128", "dns=[::]:5353", "redirect=[::]:3129", "admin=127.0.0.1:3180"} {
		says(listener)
	}
	require.NoError(t, c.Process.Signal(syscall.SIGHUP))
	says("catalogs reloaded")
	loadRules(t, host, dir, tproxy)
	require.NoError(t, c.Process.Signal(syscall.SIGTERM))
	require.Equal(t, "STOPPING=1", word())
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	info, err := os.Stat(filepath.Join(dir, "ledger.jsonl"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

// loadRules does what the unit of the rules does, and undoes it.
func loadRules(t *testing.T, host *netns.Space, dir string, tproxy bool) {
	t.Helper()
	args := []string{"env", "--format", "nftables", "--redirect", "3129", "--dns", "5353", "--nodes", "10.0.0.0/24", "--pods", "10.244.0.0/16", "--services", "10.96.0.0/12"}
	units := []string{"egressaudit-rules.service"}
	if tproxy {
		args, units = append(args, "--tproxy", "3130"), append(units, "tproxy/egressaudit-rules.service.d/tproxy.conf")
	}
	rules, err := exec.Command(suite.Program(t), args...).Output()
	require.NoError(t, err)
	file := filepath.Join(dir, "rules.nft")
	require.NoError(t, os.WriteFile(file, rules, 0o644))
	play := func(key string) {
		for _, unit := range units {
			for _, line := range values(t, unit, key) {
				f := strings.Fields(strings.ReplaceAll(strings.TrimPrefix(line, "-"), "/etc/egressaudit/rules.nft", file))
				var out bytes.Buffer
				c := as("65534", "-all,+net_admin", f[0], f[1:]...)
				c.Stdout, c.Stderr = &out, &out
				require.NoError(t, errors.Join(host.Start(c), c.Wait()), "%s: %s", line, out.String())
			}
		}
	}
	play("ExecStartPre=")
	play("ExecStart=")
	require.NoError(t, host.Run("nft", "list", "table", "inet", "egressaudit"))
	play("ExecStopPost=")
	require.Error(t, host.Run("nft", "list", "table", "inet", "egressaudit"), "the rules are gone")
	for _, family := range []string{"-4", "-6"} {
		require.Empty(t, shown(t, host, family), "and so are the routes")
	}
}

// shown are our routing rules of a family.
func shown(t *testing.T, host *netns.Space, family string) string {
	t.Helper()
	var out bytes.Buffer
	c := exec.Command("ip", family, "rule", "show", "fwmark", "0xea01")
	c.Stdout = &out
	require.NoError(t, errors.Join(host.Start(c), c.Wait()))
	return out.String()
}

// values are what stands behind a key in a unit.
func values(t *testing.T, unit, key string) (out []string) {
	t.Helper()
	text, err := os.ReadFile(unit)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, key); ok {
			out = append(out, strings.TrimSpace(v))
		}
	}
	return out
}

// openDir is a folder that other users may write to.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "egressaudit-systemd-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o777))
	require.NoError(t, os.Chmod(filepath.Dir(suite.Program(t)), 0o711))
	return dir
}

// lines makes a function of what c says, to be called before c starts: it waits until
// a line has the text, this one or a later one.
func lines(t *testing.T, c *exec.Cmd) (says func(text string)) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	c.Stderr = w
	t.Cleanup(func() { w.Close(); r.Close() })
	in, last, before := bufio.NewScanner(r), "", ""
	return func(text string) {
		t.Helper()
		require.NoError(t, r.SetReadDeadline(time.Now().Add(patience)))
		for !strings.Contains(last, text) {
			require.True(t, in.Scan(), "it never said %q, but\n%s", text, before)
			last = in.Text()
			before += last + "\n"
		}
	}
}

func copied(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	to := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(to, text, 0o644))
	return to
}

// as is a command of another user, with these capabilities and no others.
func as(uid, capabilities, name string, args ...string) *exec.Cmd {
	return exec.Command("setpriv", append([]string{"--reuid=" + uid, "--regid=65534", "--clear-groups", "--no-new-privs",
		"--inh-caps=" + capabilities, "--ambient-caps=" + capabilities, "--bounding-set=" + capabilities, name}, args...)...)
}

// listen waits at a socket for what a daemon tells its service manager.
func listen(t *testing.T, path string) (next func() string) {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, os.Chmod(path, 0o777))
	return func() string {
		b := make([]byte, 256)
		c.SetReadDeadline(time.Now().Add(patience))
		n, _ := c.Read(b) // "" where nothing came
		return string(b[:n])
	}
}
