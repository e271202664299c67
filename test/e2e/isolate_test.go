//go:build linux

package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/test/lab/netns"
	"github.com/egressaudit/egressaudit/test/suite"
)

// outside is an internet of public addresses in a network namespace, which stands
// for the host that the program runs on: there, it dials what a command in a
// namespace of its own asked for.
type outside struct {
	*world
	space   *netns.Space
	program string // where everybody may run it
}

// Its addresses.
const (
	web4    = "198.18.0.10"
	web6    = "2001:db8::10"
	server4 = "198.18.0.53"
)

func newOutside(t *testing.T) *outside {
	t.Helper()
	require.NoError(t, netns.Sweep("eaisol"))
	n := netns.New("eaisol", strings.ToLower(strings.Map(onlyLetters, t.Name())))
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	space, err := n.Add("host")
	require.NoError(t, err)
	require.NoError(t, space.Own("198.18.0.0/15"))
	require.NoError(t, space.Own("2000::/3"))
	require.NoError(t, space.Run("ip", "addr", "add", web6+"/128", "dev", "lo", "nodad"))
	dir, err := os.MkdirTemp("", "egressaudit-isolate-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	o := &outside{&world{dir: dir, dns: server4 + ":53", hold: make(chan struct{})}, space, filepath.Join(dir, "egressaudit")}
	require.NoError(t, os.Chmod(dir, 0o777))
	b, err := os.ReadFile(suite.Program(t))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(o.program, b, 0o755))
	o.authority = newAuthority(t, "Public", net.ParseIP(web4), net.ParseIP(web6))
	o.ca, o.catalog = o.write(t, "ca.pem", string(o.authority.pem)), o.write(t, "catalog.yaml", catalogText)
	o.open(t)
	return o
}

func onlyLetters(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
		return r
	}
	return -1
}

// listen listens in the namespace.
func (o *outside) listen(t *testing.T, address string) net.Listener {
	t.Helper()
	var l net.Listener
	require.NoError(t, o.space.Do(func() (err error) { l, err = net.Listen("tcp", address); return err }))
	return l
}

// open starts the servers: pages over TLS, one that speaks first, DNS, and an API
// on the host's loopback.
func (o *outside) open(t *testing.T) {
	page := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { fmt.Fprintf(rw, "here is %s\n", r.Host) })
	conf := &tls.Config{Certificates: []tls.Certificate{o.authority.leaf}}
	for _, a := range []string{web4 + ":443", "[" + web6 + "]:443", "127.0.0.1:6443"} {
		o.serve(t, tls.NewListener(o.listen(t, a), conf), page)
	}
	banner := o.listen(t, "198.18.0.22:2222")
	t.Cleanup(func() { banner.Close() })
	go func() {
		for {
			c, err := banner.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "SSH-2.0-here\r\n")
			c.Close()
		}
	}()
	var packets net.PacketConn
	require.NoError(t, o.space.Do(func() (err error) { packets, err = net.ListenPacket("udp", server4+":53"); return err }))
	for _, s := range []*dns.Server{{PacketConn: packets}, {Listener: o.listen(t, server4+":53")}} {
		s.Handler = dns.HandlerFunc(answerOutside)
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		go s.ActivateAndServe()
		<-ready
		t.Cleanup(func() { s.Shutdown() })
	}
}

func answerOutside(rw dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	name, kind := q.Question[0].Name, q.Question[0].Qtype
	header := dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: 60}
	switch {
	case hosts[strings.TrimSuffix(name, ".")] == 0:
		m.Rcode = dns.RcodeNameError
	case kind == dns.TypeA:
		m.Answer = []dns.RR{&dns.A{Hdr: header, A: net.ParseIP(web4)}}
	case kind == dns.TypeAAAA:
		m.Answer = []dns.RR{&dns.AAAA{Hdr: header, AAAA: net.ParseIP(web6)}}
	}
	rw.WriteMsg(m)
}

// isolated is a trial with --isolate on that host.
func (o *outside) isolated(t *testing.T, user string, env, flags []string, command ...string) *trial {
	t.Helper()
	x := o.prepare(t, env, append([]string{"--isolate"}, flags...), command...)
	wrap := []string{"/usr/sbin/ip", "netns", "exec", o.space.Name}
	if user != "root" {
		wrap = append(wrap, "/usr/bin/setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups")
	}
	wrap = append(wrap, "/usr/bin/prlimit", "--nofile=1111:2222")
	x.cmd.Args[0] = o.program
	x.cmd.Path, x.cmd.Args = wrap[0], append(wrap, x.cmd.Args...)
	return x
}

// asEach runs a test as root and as nobody, where the kernel lets nobody have a
// namespace; if not, it says so.
func asEach(t *testing.T, f func(t *testing.T, user string)) {
	t.Run("root", func(t *testing.T) { f(t, "root") })
	t.Run("nobody", func(t *testing.T) {
		if out, err := exec.Command("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "unshare", "--user", "--net", "true").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "SKIPPED %s: this kernel gives users no namespaces: %s\n", t.Name(), out)
			t.Skipf("this kernel gives users no namespaces: %s", out)
		}
		f(t, "nobody")
	})
}

var isolatePrograms = []string{"curl", "bash", "dig", "ip", "setpriv", "unshare", "prlimit"}

// TestIsolated is an install that goes every way there is. All of it is recorded.
func TestIsolated(t *testing.T) {
	suite.Need(t, isolatePrograms...)
	asEach(t, func(t *testing.T, user string) {
		o := newOutside(t)
		engine := filepath.Join(o.dir, "docker.sock")
		require.NoError(t, o.space.Do(func() error {
			l, err := net.Listen("unix", engine)
			if err == nil {
				t.Cleanup(func() { l.Close() })
				err = os.Chmod(engine, 0o777)
			}
			return err
		}))
		x := o.isolated(t, user, nil, []string{"--isolate-allow", "127.0.0.1:6443"}, "bash", "-c", `
			curl -sS -4 --cacert "$0" https://web.egress.test/
			HTTPS_PROXY=http://127.0.0.1:1 curl -sS -6 --noproxy '*' --cacert "$0" https://other.egress.test/
			curl -sSk https://198.18.0.10/ -H 'Host: bare'
			curl -sSk https://127.0.0.1:6443/
			exec 3<>/dev/tcp/198.18.0.22/2222; head -n 1 <&3
			dig +short @8.8.8.8 git.egress.test; dig +short +tcp @2001:db8::1 AAAA git.egress.test; dig +short @127.0.0.53 gone.egress.test
			curl -sS --connect-timeout 5 http://198.18.0.99:81/
			echo x >/dev/udp/198.18.0.9/123; echo x >/dev/udp/2001:db8::9/443
			id -u; id -g; pwd; umask; ulimit -Sn; ulimit -Hn; tty; ps -o ppid= -p $$ | tr -d ' '`, o.ca)
		x.start()
		require.Equal(t, 1, x.wait(), x.said()) // what nobody answers is a gap
		want := map[string]string{"root": "0\n0", "nobody": "65534\n65534"}[user]
		require.Regexp(t, `(?s)^here is web.egress.test\nhere is other.egress.test\nhere is bare\nhere is 127.0.0.1:6443\nSSH-2.0-here\r\n198.18.0.10\n2001:db8::10\n`+
			want+"\n"+o.dir+"\n00\\d+\n1111\n2222\nnot a tty\n"+fmt.Sprint(x.cmd.Process.Pid)+"\n$", x.stdout.String())

		records := x.records(t)
		find := func(what string, fits func(*policy.Record) bool) *policy.Record {
			i := slices.IndexFunc(records, func(r *policy.Record) bool { return r.Observation != nil && !r.Open && fits(r) })
			require.GreaterOrEqual(t, i, 0, "%s is not in the ledger", what)
			return records[i]
		}
		to := func(address, name string, outcome policy.Outcome) *policy.Record {
			return find(address, func(r *policy.Record) bool {
				return r.Kind == policy.KindConnection && r.Address == netip.MustParseAddrPort(address) && r.Name == name && r.Outcome == outcome
			})
		}
		require.Equal(t, policy.FromSNI, to(web4+":443", "web.egress.test", policy.OK).NameFrom)
		to("["+web6+"]:443", "other.egress.test", policy.OK)
		to(web4+":443", "web.egress.test", policy.OK)
		to("127.0.0.1:6443", "127.0.0.1", policy.OK)
		to("198.18.0.22:2222", "198.18.0.22", policy.OK)
		require.Equal(t, policy.ConnectionRefused, to("198.18.0.99:81", "198.18.0.99", policy.Failed).Error)
		require.EqualValues(t, 1, to("198.18.0.9:123", "198.18.0.9", policy.Denied).Detail["packets"])
		to("[2001:db8::9]:443", "2001:db8::9", policy.Denied)
		for name, transport := range map[string]string{"git.egress.test": "udp", "gone.egress.test": "udp", "web.egress.test": "udp"} {
			find(name, func(r *policy.Record) bool {
				return r.Kind == policy.KindQuery && r.Name == name && r.Transport == transport
			})
		}
		find("DNS over TCP", func(r *policy.Record) bool {
			return r.Kind == policy.KindQuery && r.Name == "git.egress.test" && r.Transport == "tcp" && r.Type == "AAAA"
		})
		r := x.judged(t)
		require.EqualValues(t, "used", endpoint(t, r, "web").Status)
		require.EqualValues(t, "used", endpoint(t, r, "other").Status)
		require.Contains(t, r.BlindSpots, "behind unix sockets others could connect for the command: "+engine)
		for _, blind := range r.BlindSpots {
			require.NotRegexp(t, "UDP was not|ignores them|not in our hands|canary|IPv6", blind)
		}
	})
}

// TestIsolatedParent has a proxy of the caller's that is down: clients that use it
// meet that, others go out as they would without us.
func TestIsolatedParent(t *testing.T) {
	suite.Need(t, isolatePrograms...)
	asEach(t, func(t *testing.T, user string) {
		o := newOutside(t)
		x := o.isolated(t, user, []string{"HTTPS_PROXY=http://198.18.0.77:3128"}, nil, "sh", "-c", `
			curl -sS --cacert "$0" https://other.egress.test/
			curl -sS --noproxy '*' --cacert "$0" https://web.egress.test/`, o.ca)
		x.start()
		require.Equal(t, 1, x.wait(), x.said())
		require.Equal(t, "here is web.egress.test\n", x.stdout.String())
		r := x.judged(t)
		require.EqualValues(t, "used", endpoint(t, r, "web").Status)
		other := endpoint(t, r, "other")
		require.EqualValues(t, "blocked", other.Status)
		require.Equal(t, policy.StageParent, other.Cause.Stage)
	})
}

// TestIsolatedForbidden is a user to whom the kernel gives no namespace: one line
// that says what to do, and no file.
func TestIsolatedForbidden(t *testing.T) {
	suite.Need(t, isolatePrograms...)
	o := newOutside(t)
	x := o.command(t, nil, "unshare", "--user", "--map-root-user", "sh", "-c", `echo 0 >/proc/sys/user/max_user_namespaces
		exec setpriv --bounding-set=-all --inh-caps=-all "$0" run --isolate --ledger t.jsonl -- true`, o.program)
	x.start()
	require.Equal(t, 2, x.wait(), x.stderr.String())
	require.Regexp(t, `^egressaudit: --isolate: the kernel gives this user no network namespace of its own: .* \(run egressaudit as root, or allow unprivileged user namespaces: sysctl user.max_user_namespaces=10000\)\n$`, x.stderr.String())
	require.NoFileExists(t, filepath.Join(o.dir, "t.jsonl"))
}

// TestIsolatedEscapes tries the ways out that an install could take by accident.
func TestIsolatedEscapes(t *testing.T) {
	suite.Need(t, append(isolatePrograms, "nft", "nsenter", "iptables")...)
	asEach(t, func(t *testing.T, user string) {
		o := newOutside(t)
		x := o.isolated(t, user, nil, nil, "bash", "-c", `
			for way in "nft flush ruleset" "iptables -F" "nsenter -t 1 -n true" "nsenter -t $PPID -n true" "ip netns exec `+o.space.Name+` true" "ip link set lo down" "ip route flush table main" "unshare --net true"; do
				$way && echo "THIS WORKED: $way"
			done 2>/dev/null
			curl -sS --cacert "$0" https://web.egress.test/`, o.ca)
		x.start()
		require.Zero(t, x.wait(), x.said())
		require.Equal(t, "here is web.egress.test\n", x.stdout.String())
	})
}

// TestIsolatedCtrlC presses the key on a terminal: the command gets it, once.
func TestIsolatedCtrlC(t *testing.T) {
	suite.Need(t, isolatePrograms...)
	asEach(t, func(t *testing.T, user string) {
		o := newOutside(t)
		keyboard, tty := openTerminal(t)
		x := o.isolated(t, user, nil, nil, "sh", "-c", `trap 'n=$((n+1)); echo "interrupts: $n"' INT
			curl -sS --cacert "$0" https://web.egress.test/ && tty && echo fetched
			while [ -z "$n" ]; do sleep 0.05; done; sleep 0.3; echo "in all: $n"; trap - INT; kill -INT $$`, o.ca)
		x.cmd.Stdin = tty
		x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0, Pdeathsig: syscall.SIGKILL}
		x.start()
		x.says(&x.stdout, "fetched")
		_, err := keyboard.Write([]byte{3})
		require.NoError(t, err)
		require.Equal(t, 130, x.wait(), x.said())
		require.Contains(t, x.stdout.String(), tty.Name()+"\n")
		require.Contains(t, x.stdout.String(), "in all: 1")
		x.interrupted(t, 130)
	})
}

// TestIsolatedKilled kills the program: no process of the command is left, no
// namespace, and no mount.
func TestIsolatedKilled(t *testing.T) {
	suite.Need(t, isolatePrograms...)
	asEach(t, func(t *testing.T, user string) {
		o := newOutside(t)
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		require.NoError(t, err)
		x := o.isolated(t, user, nil, nil, "sh", "-c", `setsid sleep 1000 & readlink /proc/self/ns/net; echo ready; sleep 1000; true`)
		x.start()
		x.says(&x.stdout, "ready")
		space, _, _ := strings.Cut(x.stdout.String(), "\n")
		require.GreaterOrEqual(t, len(living(t, space)), 2, "sh and what it started")
		require.NoError(t, x.cmd.Process.Kill())
		eventually(t, "the end of all in "+space, func() bool { return len(living(t, space)) == 0 })
		after, err := os.ReadFile("/proc/self/mountinfo")
		require.NoError(t, err)
		require.Equal(t, string(mounts), string(after))
	})
}

// living are the processes in a network namespace, told by its link.
func living(t *testing.T, space string) (pids []string) {
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	require.NoError(t, err)
	for _, l := range links {
		if at, err := os.Readlink(l); err == nil && at == space {
			pids = append(pids, strings.Split(l, "/")[2])
		}
	}
	return pids
}
