//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// forwarders are those of the table -dns, ours between the two that come nearest.
// Each forwards every question to
// the same server, keeps no answer, and writes a line a question.
func forwarders() []peer {
	return []peer{
		{"unbound", unbound, "unbound.log", " info: 127.0.0.1 "},
		{"egressaudit", forwarder, "ledger.jsonl", `"upstream":"`},
		{"CoreDNS", coredns, "coredns.log", "[INFO] 127.0.0.1:"},
		{"dnsmasq", dnsmasq, "dnsmasq.log", "query["},
	}
}

func forwarder(listen string, at origin, _ func(string, string) string) []string {
	return []string{"./egressaudit", "serve", "--proxy", "127.0.0.1:0", "--dns", listen, "--resolver", at.names, "--catalog", "azure-arc",
		"--catalog", "aml-extension", "--ledger", "ledger.jsonl"}
}

func unbound(listen string, at origin, file func(string, string) string) []string {
	host, port, _ := net.SplitHostPort(listen)
	return []string{"unbound", "-d", "-p", "-c", file("unbound.conf", fmt.Sprintf(`server:
    interface: %s@%s
    username: ""
    chroot: ""
    pidfile: ""
    use-syslog: no
    logfile: %q
    log-queries: yes
    num-threads: %d
    so-reuseport: yes
    outgoing-range: 8192
    num-queries-per-thread: 4096
    do-not-query-localhost: no
    module-config: "iterator"
    msg-cache-size: 0
    rrset-cache-size: 0
forward-zone:
    name: "."
    forward-addr: %s
    forward-no-cache: yes
remote-control:
    control-enable: no
`, host, port, file("unbound.log", ""), runtime.NumCPU(), strings.Replace(at.names, ":", "@", 1)))}
}

func dnsmasq(listen string, at origin, file func(string, string) string) []string {
	host, port, _ := net.SplitHostPort(listen)
	return []string{"dnsmasq", "-k", "-C", "/dev/null", "--user=root", "--pid-file=", "--no-resolv", "--no-hosts", "--bind-interfaces",
		"--listen-address=" + host, "--port=" + port, "--server=" + strings.Replace(at.names, ":", "#", 1), "--cache-size=0",
		"--dns-forward-max=8192", "--log-queries", "--log-facility=" + file("dnsmasq.log", "")}
}

// coredns writes its log to the standard output, which a shell puts into a file
// before CoreDNS takes its place.
func coredns(listen string, at origin, file func(string, string) string) []string {
	host, port, _ := net.SplitHostPort(listen)
	conf := file("Corefile", fmt.Sprintf(".:%s {\n\tbind %s\n\tforward . %s {\n\t\tmax_concurrent 8192\n\t}\n\tlog\n\terrors\n}\n", port, host, at.names))
	return []string{"sh", "-c", `exec ./coredns -conf "$1" >"$2"`, "sh", conf, file("coredns.log", "")}
}

// questions are asked with this many waiting at once, of so many sockets.
const (
	waiting = "100"
	sockets = "4"
)

// dnsContest measures the forwarders before one authority that knows every name.
func (o options) dnsContest(ctx context.Context) (contest, func() error, error) {
	none := contest{}
	lines, err := os.ReadFile(o.questions)
	if err != nil {
		return none, nil, fmt.Errorf("read the questions: %w (name their file with -questions FILE or EGRESSAUDIT_CORPORA)", err)
	}
	n := bytes.Count(lines, []byte("\n"))
	addrs, err := free(1)
	if err != nil {
		return none, nil, err
	}
	at := origin{names: addrs[0]}
	r, err := o.launch(ctx, at.names, "knotd", "-c", o.authority(at.names))
	if err != nil {
		return none, nil, err
	}
	times := max(1, int(3*o.scale))
	told := func(name, key string, t ...target) figure {
		return figure{name, func(r result) float64 { return r.told[key] }, t}
	}
	return contest{
		peers: forwarders(), columns: []string{"egressaudit", "unbound", "CoreDNS", "dnsmasq"}, mark: "dns", at: at, load: o.askAll,
		measures: []measure{{
			args: []string{"-n", strconv.Itoa(times)}, tunnels: n * times, warm: n,
			figures: []figure{
				told("questions answered (/s)", "Queries per second", target{best, 1, atLeast}, target{best, 1.5, atLeast}),
				{"processor time for a question (µs)", func(r result) float64 { return float64(r.cpu.Nanoseconds()) / 1e3 / r.told["Queries completed"] }, nil},
				told("questions lost", "Queries lost"),
				{"latency, mean (µs)", func(r result) float64 { return r.told["Average Latency (s)"] * 1e6 }, nil},
			},
		}},
	}, r.stop, nil
}

// authority writes the configuration of a server that has an answer to every
// name in each of the types that are asked for.
func (o options) authority(at string) string {
	o.file("root.zone", `$ORIGIN .
$TTL 300
@ SOA ns. admin. 1 3600 600 86400 60
@ NS ns.
ns. A 192.0.2.53
* A 192.0.2.1
* AAAA 2001:db8::1
* HTTPS 1 . alpn="h2"
`)
	return o.file("knot.conf", fmt.Sprintf(`server:
    rundir: %[1]q
    listen: %[2]s
    udp-workers: 1
    tcp-workers: 1
database:
    storage: %[1]q
log:
  - target: stderr
    any: warning
template:
  - id: default
    storage: %[1]q
zone:
  - domain: .
    file: root.zone
`, o.dir, strings.Replace(at, ":", "@", 1)))
}

// askAll warms a forwarder up with every question once, and then asks them all.
func (o options) askAll(ctx context.Context, r *running, m measure, _ origin) (result, error) {
	if _, err := o.dnsperf(ctx, r.addr, "-n", "1"); err != nil {
		return result{}, err
	}
	before, err := processorTime(r.Process.Pid)
	if err != nil {
		return result{}, err
	}
	told, err := o.dnsperf(ctx, r.addr, m.args...)
	if err != nil {
		return result{}, err
	}
	after, err := processorTime(r.Process.Pid)
	return result{cpu: after - before, told: told}, err
}

// summary is a line of dnsperf's statistics; rcode is its line of response codes.
var (
	summary = regexp.MustCompile(`(?m)^\s*([A-Z][^:\n]*): +([0-9.]+)`)
	rcode   = regexp.MustCompile(`(?m)^\s*Response codes: +NOERROR ([0-9]+) \(100\.00%\)$`)
)

// dnsperf asks all questions of the file, some times over; a single one that is
// lost or answered otherwise than NOERROR spoils the run.
func (o options) dnsperf(ctx context.Context, addr string, args ...string) (map[string]float64, error) {
	host, port, _ := net.SplitHostPort(addr)
	c := exec.CommandContext(ctx, "dnsperf", append([]string{"-s", host, "-p", port, "-d", o.questions, "-c", sockets, "-q", waiting}, args...)...)
	out, err := c.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("dnsperf: %w: %s", err, out)
	}
	return readStatistics(string(out))
}

func readStatistics(out string) (map[string]float64, error) {
	told := map[string]float64{}
	for _, m := range summary.FindAllStringSubmatch(out, -1) {
		told[m[1]], _ = strconv.ParseFloat(m[2], 64)
	}
	done, ok := told["Queries completed"]
	switch good := rcode.FindStringSubmatch(out); {
	case !ok || done == 0:
		return nil, fmt.Errorf("dnsperf: no statistics in %q", out)
	case told["Queries lost"] != 0, good == nil, good[1] != strconv.Itoa(int(done)):
		return nil, fmt.Errorf("dnsperf: not every question was answered: %s", out)
	}
	return told, nil
}

// buildDNS makes egressaudit and CoreDNS in o.dir.
func (o options) buildDNS(ctx context.Context) error {
	c := exec.CommandContext(ctx, "go", "build", "-o", o.in("egressaudit"), "./cmd/egressaudit")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build egressaudit: %w\n%s", err, out)
	}
	c = exec.CommandContext(ctx, "sh", filepath.Join("test", "coredns", "build.sh"))
	c.Stderr = os.Stderr
	path, err := c.Output()
	if err != nil {
		return fmt.Errorf("build CoreDNS: %w", err)
	}
	return os.Symlink(strings.TrimSpace(string(path)), o.in("coredns"))
}
