package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"
)

// How long a client waits: patient ones longer than all limits, so that they
// hear the end; the others as long as a silence must last to be one.
const (
	patience   = 20 * time.Second
	impatience = 2500 * time.Millisecond
)

// program is the client's program of a cell: behind the proxy, or with no idea
// of one.
func (b *built) program(c *cell, self string) *exec.Cmd {
	proxy, wait := b.listener(c.through), patience
	if c.direct {
		proxy = ""
	}
	if c.wait > 0 {
		wait = c.wait
	}
	switch c.client {
	case "curl":
		return b.curl(c, proxy, wait)
	case "python":
		return exec.Command("/usr/bin/python3", "-I", "-c", python, proxy, b.path("ca.pem"), c.tls, fmt.Sprint(c.insecure), fmt.Sprint(wait.Seconds()), c.url())
	case "openssl":
		return b.openssl(c, proxy)
	}
	if c.raw {
		args := []string{"-role", "listen", "-proxy", proxy, "-wait", wait.String(), "-holds", c.holds.String(), "-url", c.host + ":443"}
		if c.beside {
			args = append(args, "-beside", c.companion()+":443")
		}
		return exec.Command(self, args...)
	}
	return exec.Command(self, "-role", "fetch", "-proxy", proxy, "-ca", b.path("ca.pem"), "-tls", c.tls, "-insecure="+fmt.Sprint(c.insecure), "-wait", wait.String(), "-url", c.url())
}

func (b *built) curl(c *cell, proxy string, wait time.Duration) *exec.Cmd {
	args := []string{"-q", "-sS", "-o", "/dev/null", "--max-time", fmt.Sprint(wait.Seconds()), "--cacert", b.path("ca.pem")}
	if proxy != "" {
		args = append(args, "--noproxy", "", "-x", "http://"+proxy)
	}
	if !c.get {
		args = append(args, "--tlsv"+c.tls, "--tls-max", c.tls)
	}
	if c.insecure {
		args = append(args, "-k")
	}
	if c.inTunnel {
		args = append(args, "--proxytunnel")
	}
	if c.sni != "" {
		return exec.Command("curl", append(args, "--connect-to", c.sni+":443:"+c.host+":443", "https://"+c.sni)...)
	}
	return exec.Command("curl", append(args, c.url())...)
}

func (b *built) openssl(c *cell, proxy string) *exec.Cmd {
	args := []string{"s_client", "-connect", c.host + ":443", "-servername", c.host, "-CAfile", b.path("ca.pem"), "-ign_eof", "-quiet"}
	if proxy != "" {
		args = append(args, "-proxy", proxy)
	}
	if !c.insecure {
		args = append(args, "-verify_return_error", "-verify_hostname", c.host)
	}
	x := exec.Command("openssl", append(args, "-tls"+strings.ReplaceAll(c.tls, ".", "_"))...)
	x.Stdin = strings.NewReader("GET " + c.pathOf() + " HTTP/1.1\r\nHost: " + c.host + "\r\nConnection: close\r\n\r\n")
	return x
}

const python = `
import ssl, sys, urllib.error, urllib.request
proxy, ca, version, insecure, wait, url = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if version:
    context.minimum_version = context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
if insecure == "true":
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args): return None
opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": "http://" + proxy, "https": "http://" + proxy} if proxy else {}),
    urllib.request.HTTPSHandler(context=context), Stay)
try:
    opener.open(url, timeout=float(wait)).read()
except urllib.error.HTTPError as e:
    e.read()
`

// try runs the client of a cell; what it met is the error, with what it said.
func (b *built) try(ctx context.Context, c *cell, self string) error {
	x := b.program(c, self)
	if c.direct {
		b.unaware(x, c.through)
	}
	var said strings.Builder
	x.Stdout, x.Stderr = &said, &said
	if err := b.client.Start(x); err != nil {
		return fmt.Errorf("%w: %w", errNotRun, err)
	}
	limit, endless := 2*patience, c.client == "openssl" && c.wait > 0 // which knows no limit of its own
	if endless {
		limit = 2 * c.wait
	}
	kill := func() { x.Process.Kill() }
	late := time.AfterFunc(limit, kill)
	stop := context.AfterFunc(ctx, kill)
	err := x.Wait()
	stop()
	if !late.Stop() && !endless || ctx.Err() != nil {
		return fmt.Errorf("%w: client still ran after %s", errNotRun, limit)
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

// unaware has a program ask the name server of a side, and know of no proxy.
func (b *built) unaware(x *exec.Cmd, side string) {
	const own = `mount --bind "$0" /etc/resolv.conf && exec "$@"`
	x.Args = append([]string{"unshare", "-m", "sh", "-c", own, b.path("resolv.conf-" + side), x.Path}, x.Args[1:]...)
	x.Path, x.Err = "/usr/bin/unshare", nil
	x.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}
}

var errNotRun = errors.New("cell did not run")

// fetch is the Go client: net/http, through a proxy unless that is "".
func fetch(proxy, ca, version, target string, insecure bool, wait time.Duration) error {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	conf := &tls.Config{RootCAs: x509.NewCertPool(), InsecureSkipVerify: insecure}
	conf.RootCAs.AppendCertsFromPEM(pem)
	if v := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[version]; v != 0 {
		conf.MinVersion, conf.MaxVersion = v, v
	}
	via := &http.Transport{TLSClientConfig: conf, DialContext: (&net.Dialer{}).DialContext}
	if proxy != "" {
		via.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: proxy})
	}
	client := http.Client{Transport: via, Timeout: wait, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(target)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// listen is a client that opens a tunnel and waits for the other side to speak;
// it ends after the first line, or when it has stayed for holds, or the tunnel is
// closed. beside is a tunnel to have before; "" is none.
func listen(proxy, beside, target string, wait, holds time.Duration) error {
	if beside != "" {
		c, _, err := tunnel(proxy, beside, wait)
		if err != nil {
			return err
		}
		defer c.Close()
	}
	c, line, err := tunnel(proxy, target, wait)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Print(line)
	if holds > 0 {
		c.SetDeadline(time.Now().Add(holds))
		_, err = io.Copy(io.Discard, c)
	}
	return err
}

// tunnel opens a tunnel, or without a proxy a connection, and reads a line that
// comes by itself.
func tunnel(proxy, target string, wait time.Duration) (net.Conn, string, error) {
	at := proxy
	if proxy == "" {
		at = target
	}
	c, err := net.DialTimeout("tcp", at, wait)
	if err != nil {
		return nil, "", err
	}
	c.SetDeadline(time.Now().Add(wait))
	r := bufio.NewReader(c)
	if proxy != "" {
		err = connect(c, r, target)
	}
	line := ""
	if err == nil {
		line, err = r.ReadString('\n')
	}
	if err != nil {
		c.Close()
		return nil, "", fmt.Errorf("tunnel to %q: %w", target, err)
	}
	return c, line, nil
}

// connect asks a proxy for a tunnel.
func connect(c net.Conn, r *bufio.Reader, target string) error {
	fmt.Fprintf(c, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", target)
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return err
}
