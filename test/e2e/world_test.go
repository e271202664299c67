//go:build linux

package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// hosts are the names of this internet and the last byte of their addresses.
// Only our own name server knows them, so a client that comes through did not
// resolve by itself. gone.egress.test is deliberately not among them.
var hosts = map[string]byte{
	"web.egress.test": 10, "other.egress.test": 10, "git.egress.test": 10, "pypi.egress.test": 10,
	"apt.egress.test": 10, "unlisted.egress.test": 10, "reg.egress.test": 14,
	"refused.egress.test":    20, // nothing listens there
	"reset.egress.test":      21, // RST after the client's first bytes
	"silent.egress.test":     22, // nothing after the client's first bytes
	"inspected.egress.test":  23, // a device's certificate
	"private.egress.test":    23, // the same, and its endpoint must not be inspected
	"a.misnamed.egress.test": 10, // the certificate is for *.egress.test
	"page.egress.test":       24, // a block page in clear text answers a ClientHello
}

// catalogText lists all of them but unlisted.egress.test.
const catalogText = `schema: egressaudit/catalog/1
name: e2e
title: What the end-to-end tests require
revision: "1"
source: {title: test/e2e, url: https://web.egress.test/}
requirements:
  - {id: web, scope: e2e, hosts: [web.egress.test], port: 443, protocol: https, purpose: pages}
  - {id: web-plain, scope: e2e, hosts: [web.egress.test], port: 80, protocol: http, purpose: pages}
  - {id: other, scope: e2e, hosts: [other.egress.test], port: 443, protocol: https, purpose: another name at the same address}
  - {id: git, scope: e2e, hosts: [git.egress.test], port: 443, protocol: https, purpose: sources}
  - {id: pypi, scope: e2e, hosts: [pypi.egress.test], port: 443, protocol: https, purpose: Python packages}
  - {id: apt, scope: e2e, hosts: [apt.egress.test], port: 443, protocol: https, purpose: Debian packages}
  - {id: apt-plain, scope: e2e, hosts: [apt.egress.test], port: 80, protocol: http, purpose: Debian packages}
  - {id: registry, scope: e2e, hosts: [reg.egress.test], port: 5000, protocol: https, purpose: images}
  - {id: refused, scope: e2e, hosts: [refused.egress.test], port: 443, protocol: https, purpose: a closed port}
  - {id: refused-plain, scope: e2e, hosts: [refused.egress.test], port: 80, protocol: http, purpose: a closed port}
  - {id: reset, scope: e2e, hosts: [reset.egress.test], port: 443, protocol: https, purpose: a firewall that resets}
  - {id: silent, scope: e2e, hosts: [silent.egress.test], port: 443, protocol: https, purpose: a firewall that swallows}
  - {id: inspected, scope: e2e, hosts: [inspected.egress.test], port: 443, protocol: https, purpose: a device that opens TLS}
  - {id: private, scope: e2e, hosts: [private.egress.test], port: 443, protocol: https, purpose: a device that opens TLS, needs: [no-tls-inspection]}
  - {id: behind, scope: e2e, hosts: [behind.egress.test], port: 443, protocol: https, purpose: a name that only the corporate proxy knows}
  - {id: a.misnamed, scope: e2e, hosts: [a.misnamed.egress.test], port: 443, protocol: https, purpose: a certificate for another name}
  - {id: page, scope: e2e, hosts: [page.egress.test], port: 443, protocol: https, purpose: a device with a page}
  - {id: gone, scope: e2e, hosts: [gone.egress.test], port: 443, protocol: https, purpose: a name that does not exist}
`

// world is a small internet on loopback addresses of its own and the real ports.
type world struct {
	dir     string // for files of this test
	ca      string // PEM file of the authority that clients trust
	catalog string
	dns     string            // ADDRESS:PORT
	meters  map[string]*meter // by ADDRESS:PORT
	hold    chan struct{}     // closing it lets /held go on

	net       [2]byte
	authority *authority
}

// newWorld starts the name server, the web sites and the faults.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), meters: map[string]*meter{}, hold: make(chan struct{})}
	w.net = [2]byte{byte(64 + rand.N(180)), byte(rand.N(256))}
	w.authority = newAuthority(t, "Public", net.ParseIP(w.address("web.egress.test")), net.ParseIP(w.address("reg.egress.test")))
	w.ca = w.write(t, "ca.pem", string(w.authority.pem))
	w.catalog = w.write(t, "catalog.yaml", catalogText)
	w.startDNS(t)
	w.startSites(t, w.authority.leaf, w.address("web.egress.test"))
	w.startSites(t, newAuthority(t, "Inspector").leaf, w.address("inspected.egress.test"))
	w.fault(t, "reset.egress.test", func(c *net.TCPConn) { c.SetLinger(0) })
	w.fault(t, "silent.egress.test", func(c *net.TCPConn) { io.Copy(io.Discard, c) })
	w.fault(t, "page.egress.test", func(c *net.TCPConn) {
		io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nServer: FortiGate\r\nContent-Length: 8\r\nConnection: close\r\n\r\nBlocked\n")
		c.CloseWrite()
		io.Copy(io.Discard, c)
	})
	return w
}

// address is where a name resolves to.
func (w *world) address(name string) string {
	return fmt.Sprintf("127.%d.%d.%d", w.net[0], w.net[1], hosts[name])
}

// write makes a file of this test.
func (w *world) write(t *testing.T, name, text string) string {
	t.Helper()
	p := filepath.Join(w.dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
	require.NoError(t, os.WriteFile(p, []byte(text), 0o644))
	return p
}

func (w *world) startDNS(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(w.answer)}
	done := make(chan error, 1)
	ready := make(chan struct{})
	s.NotifyStartedFunc = func() { close(ready) }
	go func() { done <- s.ActivateAndServe() }()
	<-ready
	t.Cleanup(func() {
		s.Shutdown()
		<-done
	})
	w.dns = pc.LocalAddr().String()
}

func (w *world) answer(rw dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	name := q.Question[0].Name
	switch _, known := hosts[strings.ToLower(strings.TrimSuffix(name, "."))]; {
	case !known:
		m.Rcode = dns.RcodeNameError
	case q.Question[0].Qtype == dns.TypeA:
		host := strings.ToLower(strings.TrimSuffix(name, "."))
		m.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
			A:   net.ParseIP(w.address(host)),
		}}
	}
	rw.WriteMsg(m)
}

// startSites serves the same pages over TLS at :443 and plainly at :80.
func (w *world) startSites(t *testing.T, cert tls.Certificate, address string) {
	secure, plain := newMeter(t, address+":443"), newMeter(t, address+":80")
	w.meters[address+":443"], w.meters[address+":80"] = secure, plain
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true}
	w.serve(t, tls.NewListener(secure, conf), http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.page(rw, r) }))
	w.serve(t, plain, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		down := &counted{ResponseWriter: rw}
		up := w.page(down, r)
		plain.request(traffic{up, down.n})
	}))
}

func (w *world) serve(t *testing.T, l net.Listener, h http.Handler) {
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)} // clients refuse certificates here
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
}

// counted counts an answer's body.
type counted struct {
	http.ResponseWriter
	n int64
}

// Write is http.ResponseWriter's.
func (c *counted) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.n += int64(n)
	return n, err
}

// page reads the request's body, the length of which it returns, and answers
// with N bytes for /bytes/N, with half a line for /held and the rest when hold
// is closed, with a file of DIR/www/HOST where there is such a folder, and else
// with one line.
func (w *world) page(rw http.ResponseWriter, r *http.Request) (up int64) {
	up, _ = io.Copy(io.Discard, r.Body)
	w.reply(rw, r)
	return up
}

func (w *world) reply(rw http.ResponseWriter, r *http.Request) {
	host, _, _ := strings.Cut(r.Host, ":")
	if n, err := strconv.ParseInt(strings.TrimPrefix(r.URL.Path, "/bytes/"), 10, 64); err == nil {
		rw.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		io.CopyN(rw, zeros{}, n)
		return
	}
	if r.URL.Path == "/held" {
		rw.Header().Set("Content-Length", "10")
		io.WriteString(rw, "first")
		http.NewResponseController(rw).Flush()
		select {
		case <-w.hold:
			io.WriteString(rw, " half")
		case <-r.Context().Done():
		}
		return
	}
	root := filepath.Join(w.dir, "www", filepath.Base(host))
	if _, err := os.Stat(root); err == nil {
		http.FileServer(http.Dir(root)).ServeHTTP(rw, r)
		return
	}
	fmt.Fprintf(rw, "here is %s\n", host)
}

type zeros struct{}

// Read is io.Reader's.
func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// fault accepts at the name's :443, reads the client's first bytes, and plays.
func (w *world) fault(t *testing.T, name string, play func(*net.TCPConn)) {
	l, err := net.Listen("tcp", w.address(name)+":443")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				if _, err := c.Read(make([]byte, 64<<10)); err == nil {
					play(c.(*net.TCPConn))
				}
			}()
		}
	}()
}
