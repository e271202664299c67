package main

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/egressaudit/egressaudit/dnsaudit"
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
			return fmt.Errorf("canary through %s: %w", d, err)
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
	c, err := t.dial("tcp", bound(t.listener.Addr()))
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
	c, err := t.dial(d.Transport, d.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(singTime))
	code, err := ask(c, d.Transport == "tcp", t.session.Canary)
	if err != nil {
		return err
	}
	if code != dnsmessage.RCodeRefused {
		return fmt.Errorf("answered %v, not REFUSED", code)
	}
	return t.heard(d.Transport)
}

// ask asks for the IPv4 addresses of a name, and says the response code.
func ask(c net.Conn, stream bool, name string) (dnsmessage.RCode, error) {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return 0, err
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 1, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	question, err := m.Pack()
	if err != nil {
		return 0, err
	}
	if stream { // RFC 1035 section 4.2.2
		question = append([]byte{0, byte(len(question))}, question...)
	}
	if _, err := c.Write(question); err != nil {
		return 0, err
	}
	if stream {
		if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
			return 0, err
		}
	}
	var answer [512]byte
	size, err := c.Read(answer[:])
	if err != nil {
		return 0, err
	}
	var parser dnsmessage.Parser
	head, err := parser.Start(answer[:size])
	return head.RCode, err
}

// dial connects to a listener of ours, where its clients are.
func (t *trial) dial(network string, to netip.AddrPort) (net.Conn, error) {
	if t.isolated != nil {
		return t.isolated.space.Dial(network, to.Port())
	}
	return net.DialTimeout(network, dialable(to).String(), singTime)
}

func randomLabel() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
