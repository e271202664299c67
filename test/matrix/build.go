package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/test/lab/netns"
)

// built is a world that stands.
type built struct {
	*world
	net                            *netns.Net
	client, proxy, wall, dmz, inet *netns.Space
	dir                            string   // for files of its own, readable by all
	inspectors                     string   // where squid-openssl was unpacked
	again                          []string // flags that give a program of ours the same plan
}

func (b *built) path(name string) string { return filepath.Join(b.dir, name) }

// build makes the namespaces, rules and devices of a world, and waits until all
// of them listen.
func (b *built) build(ctx context.Context) error {
	b.net = netns.New(prefix, b.name)
	if err := errors.Join(b.cables(), b.files()); err != nil {
		return err
	}
	devices, err := b.devices()
	if err != nil {
		return err
	}
	for _, d := range devices {
		if err := b.start(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// cables makes the namespaces and the ways between them.
func (b *built) cables() (err error) {
	for _, s := range []struct {
		to   **netns.Space
		name string
	}{{&b.client, "client"}, {&b.proxy, "proxy"}, {&b.wall, "wall"}, {&b.dmz, "dmz"}, {&b.inet, "inet"}} {
		if *s.to, err = b.net.Add(s.name); err != nil {
			return err
		}
	}
	link := b.net.Link
	if err := errors.Join(
		b.wall.Router(),
		link(b.client, "10.9.1.2/24 fd09:1::2/64", b.proxy, b.gateway()+" fd09:1::1/64"),
		link(b.proxy, "10.9.2.2/24 fd09:2::2/64", b.wall, "10.9.2.1/24 fd09:2::1/64"),
		link(b.wall, "10.9.3.1/24 fd09:3::1/64", b.dmz, dmzAddrs+" fd09:3::2/64"),
		link(b.wall, "192.0.2.1/24 fd09:4::1/64", b.inet, "192.0.2.53/24 fd09:4::2/64"),
	); err != nil {
		return err
	}
	dialer := b.proxy
	if b.way == "squid" || b.way == "tinyproxy" {
		dialer = b.dmz
	}
	if b.captured() {
		if err := b.capture(); err != nil {
			return err
		}
	}
	return errors.Join(
		b.proxy.Route("default", "10.9.2.1"), b.proxy.Route("default", "fd09:2::1"),
		b.dmz.Route("default", "10.9.3.1"), b.dmz.Route("default", "fd09:3::1"),
		b.wall.Route("default", rootAddr), b.wall.Route("default", "fd09:4::2"), b.wall.Route("10.9.1.0/24", "10.9.2.2"),
		b.inet.Route("10.9.0.0/16", "192.0.2.1"), b.inet.Route("fd09::/16", "fd09:4::1"),
		b.inet.Own("198.18.0.0/15"), b.inet.Own("10.66.0.0/16"), b.inet.Own("100.65.0.0/16"), b.inet.Own("2001:db8:1::/64"), b.inet.Own("fd66::/64"),
		b.wall.Nft(b.nftables()), b.inet.Nft(b.closedRules()),
		b.wall.Iptables(4, b.iptables()), b.wall.Iptables(6, b.iptables()),
		dialer.Batch(b.routes()),
	)
}

// files writes what several devices read.
func (b *built) files() error {
	var denied, filter strings.Builder
	for _, c := range b.cells {
		if c.denied {
			fmt.Fprintln(&denied, c.host)
			fmt.Fprintf(&filter, "^%s$\n", strings.ReplaceAll(c.host, ".", `\.`))
		}
	}
	password, err := exec.Command("openssl", "passwd", "-apr1", "s3cret").Output()
	if err != nil {
		return fmt.Errorf("openssl passwd: %w", err)
	}
	ca := exec.Command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", b.path("inspection.key"), "-out", b.path("inspection.crt"),
		"-subj", "/O=Example Corp/CN=Example Corp TLS Inspection CA", "-addext", "keyUsage=critical,keyCertSign")
	if out, err := ca.CombinedOutput(); err != nil {
		return fmt.Errorf("openssl req: %w: %s", err, out)
	}
	var pair []byte
	for _, part := range []string{"inspection.key", "inspection.crt"} {
		text, err := os.ReadFile(b.path(part))
		if err != nil {
			return err
		}
		pair = append(pair, text...)
	}
	for _, side := range append([]string{""}, b.sides...) {
		if err := b.write("resolv.conf-"+side, "nameserver "+b.nameServer(side)+"\noptions timeout:6 attempts:1\n"); err != nil {
			return err
		}
	}
	return errors.Join(b.write("denied", denied.String()+"unused.example.org\n"), b.write("denied.filter", filter.String()),
		b.write("users", "alice:"+string(password)), b.write("inspection.pem", string(pair)))
}

func (b *built) write(name, text string) error {
	return os.WriteFile(b.path(name), []byte(text), 0o644)
}

// start starts a device and waits until it is ready.
func (b *built) start(ctx context.Context, d device) error {
	for name, text := range d.files {
		if err := b.write(name, text); err != nil {
			return err
		}
	}
	c := exec.Command(d.args[0], d.args[1:]...)
	out, err := os.OpenFile(b.path(filepath.Base(d.args[0])+".out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	c.Stdout, c.Stderr, c.Dir = out, out, b.dir
	if err := d.in.Start(c); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	begun := time.Now()
	for !d.listens() {
		select {
		case err := <-ended:
			text, _ := os.ReadFile(out.Name())
			return fmt.Errorf("device %q ended: %w: %s", strings.Join(d.args, " "), err, tail(text))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Since(begun) > 30*time.Second {
			return fmt.Errorf("device %q: not ready (%s) after %s", strings.Join(d.args, " "), d.ready, time.Since(begun))
		}
	}
	return nil
}

// question asks for the addresses of ready.example.com.
var question = []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05ready\x07example\x03com\x00\x00\x01\x00\x01")

// listens says whether the device is there: accepts, or answers a question.
func (d device) listens() bool {
	network, address, ok := strings.Cut(d.ready, " ")
	if !ok {
		_, err := os.Stat(d.ready)
		return err == nil
	}
	return d.in.Do(func() error {
		c, err := net.DialTimeout(network, address, time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		if network == "tcp" {
			return nil
		}
		c.SetDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := c.Write(question); err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 512))
		return err
	}) == nil
}

func tail(text []byte) []byte {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-6):], []byte("\n"))
}

// number tells the egressaudits of a world apart: 0 is that of its way, whose
// name is "".
func (w *world) number(side string) int { return 1 + slices.Index(w.sides, side) }

// listener is where the egressaudit of a side listens as a proxy.
func (w *world) listener(side string) string {
	return fmt.Sprintf("10.9.1.1:%d", 3128+w.number(side))
}

// capturePort is where it takes captured traffic.
func (w *world) capturePort(side string) int { return 4128 + w.number(side) }

// nameServer is where it answers DNS: resolv.conf knows no ports.
func (w *world) nameServer(side string) string { return fmt.Sprintf("10.9.1.%d", 10+w.number(side)) }

// gateway are the addresses of the proxy's namespace on the clients' side.
func (w *world) gateway() string {
	addrs := "10.9.1.1/24"
	for _, side := range append([]string{""}, w.sides...) {
		addrs += " " + w.nameServer(side) + "/24"
	}
	return addrs
}

// capture makes the proxy's namespace the clients' only way out, and has their
// traffic taken there. It forwards nothing.
func (b *built) capture() error {
	const local = "rule add fwmark 1 lookup 100\nroute add local default dev lo table 100\n"
	return errors.Join(
		b.client.Route("default", "10.9.1.1"), b.client.Route("default", "fd09:1::1"),
		b.proxy.Nft(b.captureRules()),
		b.proxy.Batch(local), b.proxy.Run("ip", "-6", "rule", "add", "fwmark", "1", "lookup", "100"),
		b.proxy.Run("ip", "-6", "route", "add", "local", "default", "dev", "lo", "table", "100"),
	)
}
