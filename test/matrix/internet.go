package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/egressaudit/egressaudit/test/lab"
)

// playInternet is the program of the internet's namespace: the lab's sites, each
// at the addresses of its cell. It runs until ctx ends.
func playInternet(ctx context.Context, w *world, dir string) error {
	rules := map[string]lab.Behaviour{"portal.corp.test": lab.BlockPage{Status: http.StatusFound, Location: "http://portal.corp.test/blocked"}}
	at := map[netip.Addr]string{netip.MustParseAddr(portalAddr): "portal.corp.test", netip.MustParseAddr(knownPortalAddr): "portal.corp.test"}
	for _, c := range w.cells {
		rules[c.host] = c.site
		if c.site == nil {
			rules[c.host] = lab.Site{}
		}
		for _, a := range c.addrs {
			if a := netip.MustParseAddr(a); a.IsGlobalUnicast() && a.String() != portalAddr && a.String() != knownPortalAddr {
				at[a] = c.host
			}
		}
		if c.beside {
			at[netip.MustParseAddr(w.beside(c))] = c.host
		}
	}
	l, err := lab.Start(lab.Script{Rules: rules})
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.WriteCA(filepath.Join(dir, "ca.pem")); err != nil {
		return err
	}
	for _, port := range []uint16{443, 80} {
		to := func(local netip.AddrPort) (string, error) {
			host, ok := at[local.Addr().Unmap()]
			if !ok {
				return "", fmt.Errorf("no site at %s", local)
			}
			return l.Address(host, port).String(), nil
		}
		if err := relay(ctx, fmt.Sprintf("[::]:%d", port), 0, to); err != nil {
			return err
		}
	}
	return ready(ctx, dir, "internet")
}

// playParents is the program of the dmz's namespace that plays the parents for
// which there is no real device.
func playParents(ctx context.Context, w *world, dir string) error {
	for _, name := range w.sides {
		p := sides[name]
		switch does, ok := scripted[name]; {
		case ok:
			l, err := lab.Start(lab.Script{Rules: map[string]lab.Behaviour{"*": does}})
			if err != nil {
				return err
			}
			defer l.Close()
			err = relay(ctx, p.address, 0, fixed(l.Parent().Host))
			if err != nil {
				return err
			}
		case name == "negotiate":
			if err := serve(ctx, p.address, func(c *net.TCPConn) { defer c.Close(); says(negotiate)(c) }); err != nil {
				return err
			}
		case name == "squid-slow":
			if err := relay(ctx, p.address, late, fixed(sides["squid"].address)); err != nil {
				return err
			}
		case name == "loop":
			if err := relay(ctx, p.address, 0, fixed(w.listener(name))); err != nil {
				return err
			}
		}
	}
	return ready(ctx, dir, "parents")
}

const negotiate = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

// late is how long the slow parent takes: longer than a destination may owe us
// an answer.
const late = 1500 * time.Millisecond

func fixed(to string) func(netip.AddrPort) (string, error) {
	return func(netip.AddrPort) (string, error) { return to, nil }
}

// ready says that all listens, and waits for the end.
func ready(ctx context.Context, dir, name string) error {
	if err := os.WriteFile(filepath.Join(dir, name+".ready"), nil, 0o644); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// serve accepts until ctx ends.
func serve(ctx context.Context, address string, handle func(*net.TCPConn)) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go handle(c.(*net.TCPConn))
		}
	}()
	return nil
}

// relay joins what comes to an address with another one, by the address that the
// client meant. Ends are passed on as they came: a FIN as a FIN, a reset as a
// reset.
func relay(ctx context.Context, address string, wait time.Duration, to func(netip.AddrPort) (string, error)) error {
	return serve(ctx, address, func(c *net.TCPConn) {
		defer c.Close()
		target, err := to(c.LocalAddr().(*net.TCPAddr).AddrPort())
		if err != nil {
			fmt.Fprintln(os.Stderr, "relay:", err)
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		up, err := net.Dial("tcp", target)
		if err != nil {
			c.SetLinger(0)
			return
		}
		defer up.Close()
		join(c, up.(*net.TCPConn))
	})
}

func join(a, b *net.TCPConn) {
	var both sync.WaitGroup
	both.Go(func() { pass(a, b) })
	both.Go(func() { pass(b, a) })
	both.Wait()
}

// pass copies one direction, and its end.
func pass(from, to *net.TCPConn) {
	_, err := io.Copy(to, from)
	if err == nil {
		to.CloseWrite()
		return
	}
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		from.SetLinger(0)
		to.SetLinger(0)
	}
	from.Close()
	to.Close()
}
