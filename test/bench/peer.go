//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// descriptors is what each peer may open.
const descriptors = 16384

// peer is a proxy or name server that is measured. Each writes what passed through it to a
// file, but the bare goproxy, which has nothing to write.
type peer struct {
	name string
	// args is the command line: it listens on listen, and lets CONNECT to the
	// origin's ports pass. file(name, text) writes a file and returns its path.
	args func(listen string, at origin, file func(name, text string) string) []string
	log  string // the file of its records, in the folder of the run
	line string // what stands in each record, and in nothing else there; "": unknown
}

func peers() []peer {
	return []peer{
		{"squid", squid, "squid.log", ""},
		{"goproxy", goproxy, "", ""},
		{"egressaudit", egressaudit, "ledger.jsonl", ""},
		{"tinyproxy", tinyproxy, "tinyproxy.log", ""},
	}
}

func goproxy(listen string, _ origin, _ func(string, string) string) []string {
	return []string{"./goproxy", listen}
}

func egressaudit(listen string, _ origin, _ func(string, string) string) []string {
	return []string{"./egressaudit", "serve", "--proxy", listen, "--allow-address", "127.0.0.0/8", "--catalog", "azure-arc",
		"--catalog", "aml-extension", "--max-tunnels", "8192", "--max-client-tunnels", "8192", "--drain", "5s",
		"--ledger", "ledger.jsonl"}
}

func tinyproxy(listen string, at origin, file func(string, string) string) []string {
	host, port, _ := net.SplitHostPort(listen)
	return []string{"tinyproxy", "-d", "-c", file("tinyproxy.conf", fmt.Sprintf(`Listen %s
Port %s
Timeout 600
MaxClients 8192
Allow 127.0.0.1
ConnectPort %s
ConnectPort %s
LogLevel Connect
LogFile %q
`, host, port, at.tlsPort(), at.rawPort(), file("tinyproxy.log", "")))}
}

// squid runs as one process (-N) that writes its log itself (stdio), so that
// its processor time is all in one place.
func squid(listen string, at origin, file func(string, string) string) []string {
	return []string{"squid", "-N", "-f", file("squid.conf", fmt.Sprintf(`http_port %s
acl origin port %s %s
http_access allow CONNECT origin
http_access deny all
cache deny all
max_filedescriptors %d
access_log stdio:%s
cache_log %s
pid_filename none
pinger_enable off
netdb_filename none
shutdown_lifetime 0 seconds
`, listen, at.tlsPort(), at.rawPort(), descriptors, file("squid.log", ""), file("squid-cache.log", "")))}
}

// running is a process that was started here.
type running struct {
	*exec.Cmd
	addr string
	said bytes.Buffer
	done chan struct{}
}

// launch starts a program in o.dir and waits until addr accepts.
func (o options) launch(ctx context.Context, addr string, args ...string) (*running, error) {
	r := &running{Cmd: exec.CommandContext(ctx, args[0], args[1:]...), addr: addr, done: make(chan struct{})}
	r.Dir, r.Stdout, r.Stderr = o.dir, &r.said, &r.said
	r.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + o.dir} // no proxy variables
	if err := r.Start(); err != nil {
		return nil, err
	}
	go func() {
		r.Wait()
		close(r.done)
	}()
	for range 1000 {
		if c, err := net.Dial("tcp", addr); err == nil {
			return r, c.Close()
		}
		select {
		case <-r.done:
			return nil, fmt.Errorf("start %q: %s\n%s", strings.Join(args, " "), r.ProcessState, r.said.Bytes())
		case <-time.After(10 * time.Millisecond):
		}
	}
	r.stop()
	return nil, fmt.Errorf("start %q: does not listen on %q after 10 seconds", strings.Join(args, " "), addr)
}

// stop ends the process, and kills it where it does not end.
func (r *running) stop() error {
	r.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.done:
		return nil
	case <-time.After(15 * time.Second):
		r.Process.Kill()
		<-r.done
		return errors.New("had to be killed after SIGTERM")
	}
}

// file writes an empty or configuration file that any user may write, for squid
// and tinyproxy give up root.
func (o options) file(name, text string) string {
	os.WriteFile(o.in(name), []byte(text), 0o666)
	os.Chmod(o.in(name), 0o666) // whatever the umask; a peer that cannot read it does not start
	return o.in(name)
}

// free returns n loopback addresses where nobody listens.
func free(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out, nil
}
