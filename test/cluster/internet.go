package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/egressaudit/egressaudit/test/lab/netns"
)

// nameServer answers for all the internet.
const nameServer = "192.0.2.53"

// stored is where the one docker-registry behind all registries listens.
const stored = "127.0.0.1:5000"

// internet is what lies beyond the firewall: a web site at an address of its own
// for every host of the plan, some of which are registries, and a name server.
type internet struct {
	space *netns.Space
	ca    *authority
	sites map[netip.Addr]site
	names map[string]netip.Addr
	lies  map[string]fault // names that the name server does not tell
}

// open starts all of it.
func (i *internet) open(ctx context.Context, dir string) error {
	if err := i.registry(ctx, dir); err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(i.serve), ErrorLog: log.New(io.Discard, "", 0), ConnContext: withLocal}
	certificate := func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return i.ca.site(strings.ToLower(h.ServerName))
	}
	for _, port := range []string{":443", ":8084", ":80"} {
		l, err := i.listen(port)
		if err != nil {
			return err
		}
		if port != ":80" {
			l = tls.NewListener(l, &tls.Config{GetCertificate: certificate, NextProtos: []string{"http/1.1"}})
		}
		go server.Serve(l)
	}
	context.AfterFunc(ctx, func() { server.Close() })
	return i.nameServer(ctx)
}

func (i *internet) listen(addr string) (l net.Listener, err error) {
	err = i.space.Do(func() (err error) { l, err = net.Listen("tcp4", addr); return err })
	return l, err
}

type localKey struct{}

func withLocal(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, localKey{}, c.LocalAddr().(*net.TCPAddr).AddrPort().Addr())
}

// serve answers as the site whose address the client came to.
func (i *internet) serve(w http.ResponseWriter, r *http.Request) {
	s := i.sites[r.Context().Value(localKey{}).(netip.Addr)]
	switch {
	case s.registry != nil:
		s.registry.serve(w, r)
	case r.Header.Get("Upgrade") == "websocket":
		echoSocket(w)
	default:
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s: %s %s, %d bytes received\n", s.host, r.Method, r.URL.Path, n)
	}
}

// echoSocket switches to a WebSocket of fixed key that sends back short frames.
func echoSocket(w http.ResponseWriter) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	for {
		frame, err := shortFrame(rw.Reader)
		if err != nil {
			return
		}
		if _, err := c.Write(frame); err != nil {
			return
		}
	}
}

// shortFrame reads a client's frame of less than 126 bytes with a mask of zeros,
// and returns it as a server's.
func shortFrame(r *bufio.Reader) ([]byte, error) {
	head := make([]byte, 6)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := head[1] & 0x7f
	if n > 125 {
		return nil, errors.New("a long frame")
	}
	text := make([]byte, n)
	_, err := io.ReadFull(r, text)
	return append([]byte{head[0], n}, text...), err
}

// front is a registry as the public ones are: manifests here, blobs at another
// host. A front without blob hosts is such a blob host.
type front struct {
	blobs map[string]string // by repository
}

var storage = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: stored})

func (f *front) serve(w http.ResponseWriter, r *http.Request) {
	repository, _, blob := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
	if to := f.blobs[repository]; blob && to != "" {
		http.Redirect(w, r, "https://"+to+r.URL.RequestURI(), http.StatusTemporaryRedirect)
		return
	}
	storage.ServeHTTP(w, r)
}

// registry starts docker-registry, which all fronts share.
func (i *internet) registry(ctx context.Context, dir string) error {
	settings := filepath.Join(dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", filepath.Join(dir, "registry"), stored)
	if err := os.WriteFile(settings, []byte(text), 0o644); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, "logs/registry.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	c := exec.Command("docker-registry", "serve", settings)
	c.Stdout, c.Stderr = log, log
	if err := i.space.Start(c); err != nil {
		return err
	}
	storage.Transport = &http.Transport{DialContext: func(context.Context, string, string) (c net.Conn, err error) {
		err = i.space.Do(func() (err error) { c, err = net.Dial("tcp4", stored); return err })
		return c, err
	}}
	return until(ctx, "docker-registry", 20*time.Second, func() error {
		return i.space.Do(func() error {
			c, err := net.Dial("tcp4", stored)
			if err == nil {
				c.Close()
			}
			return err
		})
	})
}

// push puts an image archive into the registries' storage.
func (i *internet) push(archive, repository string) error {
	return i.space.Run("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "docker-archive:"+archive, "docker://"+stored+"/"+repository)
}

// nameServer answers on port 53.
func (i *internet) nameServer(ctx context.Context) error {
	var pc net.PacketConn
	err := i.space.Do(func() (err error) { pc, err = net.ListenPacket("udp4", nameServer+":53"); return err })
	if err != nil {
		return err
	}
	l, err := i.listen(nameServer + ":53")
	if err != nil {
		return err
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: i}, {Listener: l, Handler: i}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe()
		<-started
		context.AfterFunc(ctx, func() { s.Shutdown() })
	}
	return nil
}

// ServeDNS answers one question.
func (i *internet) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	if len(q.Question) == 1 {
		name := strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))
		addr, known := i.names[name]
		switch lie := i.lies[name]; {
		case lie == serverFailure:
			m.Rcode = dns.RcodeServerFailure
		case !known || lie == noName:
			m.Rcode = dns.RcodeNameError
		case q.Question[0].Qtype == dns.TypeA:
			if lie == sinkhole {
				addr = netip.IPv4Unspecified()
			}
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: addr.AsSlice()}}
		}
	}
	w.WriteMsg(m)
}
