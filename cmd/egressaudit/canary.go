package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/egressaudit/egressaudit/dnsaudit"
	"github.com/egressaudit/egressaudit/policy"
)

// singTime is how long one canary may take.
const singTime = 5 * time.Second

// sing asks each listener for the canary's name, which is refused, and waits until
// that is recorded: the report demands to find it in the ledger.
func (t *trial) sing() error {
	for len(t.canaries) > 0 {
		<-t.canaries // of the last time
	}
	if err := t.singProxy(); err != nil {
		return fmt.Errorf("canary through %s: %w", t.listener.Addr(), err)
	}
	for _, d := range t.names.doors() {
		if err := t.singName(d); err != nil {
			return fmt.Errorf("canary through %s: %w", d, err)
		}
	}
	for _, d := range t.captures.doors() {
		if err := t.singCaptured(d); err != nil {
			return fmt.Errorf("canary through %s: %w", d.at, err)
		}
	}
	return nil
}

// dialable is where this host reaches a listener of its own.
func dialable(a netip.AddrPort) netip.AddrPort {
	switch {
	case !a.Addr().IsUnspecified():
		return a
	case a.Addr().Is6():
		return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
}

// heard waits until a canary that came that way is recorded.
func (t *trial) heard(how string) error {
	late := time.NewTimer(singTime)
	defer late.Stop()
	for {
		select {
		case h := <-t.canaries:
			if h == how {
				return nil
			}
		case <-late.C:
			return errors.New("not recorded")
		}
	}
}

func (t *trial) singProxy() error {
	c, err := net.DialTimeout("tcp", t.listener.Addr().String(), singTime)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(singTime))
	target := t.session.Canary + ":443"
	if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target); err != nil {
		return err
	}
	if _, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodConnect}); err != nil {
		return err
	}
	return t.heard("connect")
}

func (t *trial) singName(d dnsaudit.Upstream) error {
	d.Addr = dialable(d.Addr)
	r, err := dnsaudit.New(dnsaudit.Config{Servers: []dnsaudit.Upstream{d}, Timeout: singTime})
	if err != nil {
		return err
	}
	n, err := policy.ParseName(t.session.Canary)
	if err != nil {
		return err
	}
	if res := r.Resolve(context.Background(), n); res.RCode != "REFUSED" {
		return fmt.Errorf("answered %q, not REFUSED (%s)", res.RCode, res.Detail)
	}
	return t.heard(d.Transport)
}

func randomLabel() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
