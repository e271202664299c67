package lab_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/lab"
)

// How long a client here waits: for what never comes, and for what must come,
// on however slow a machine.
const (
	shortly  = 200 * time.Millisecond
	patience = 30 * time.Second
)

func start(t *testing.T, rules map[string]lab.Behaviour) *lab.World {
	t.Helper()
	w, err := lab.Start(lab.Script{Rules: rules})
	require.NoError(t, err)
	t.Cleanup(w.Close)
	return w
}

// way is a way from a client to a site.
type way struct {
	name string
	open func(w *lab.World, host string, port uint16, wait time.Duration) (net.Conn, error)
}

func (by way) dial(w *lab.World, host string, port uint16) (net.Conn, error) {
	return by.open(w, host, port, patience)
}

var direct = way{"direct", func(w *lab.World, host string, port uint16, wait time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", w.Address(host, port).String(), wait)
}}

var tunnel = way{"tunnel", func(w *lab.World, host string, port uint16, wait time.Duration) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", w.Parent().Host, wait)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(wait))
	fmt.Fprintf(c, "CONNECT %s:%d HTTP/1.1\r\nHost: %[1]s:%[2]d\r\n\r\n", host, port)
	r := bufio.NewReader(c)
	head := ""
	for !strings.HasSuffix(head, "\r\n\r\n") { // http.ReadResponse would lose the errno
		b, err := r.ReadByte()
		if err != nil {
			c.Close()
			return nil, err
		}
		head += string(b)
	}
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(head)), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		c.Close()
		return nil, fmt.Errorf("status %d %s", res.StatusCode, res.Header.Get("X-Squid-Error"))
	}
	return readsFrom{c, r}, nil
}}

type readsFrom struct {
	net.Conn
	r io.Reader
}

func (c readsFrom) Read(p []byte) (int, error) { return c.r.Read(p) }

// what names an error as a client's kernel or TLS library tells it.
func what(err error) string {
	var late net.Error
	var notTLS tls.RecordHeaderError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	switch {
	case err == nil:
		return "works"
	case strings.Contains(err.Error(), "remote error: tls: "): // crypto/tls exports no type for it
		_, alert, _ := strings.Cut(err.Error(), "remote error: tls: ")
		return alert
	case errors.As(err, &notTLS):
		return "not TLS"
	case errors.As(err, &authority):
		return "unknown authority"
	case errors.As(err, &invalid):
		return "invalid certificate"
	case errors.As(err, &host):
		return "other host"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "ECONNREFUSED"
	case errors.Is(err, syscall.ECONNRESET):
		return "ECONNRESET"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "EOF"
	case errors.As(err, &late) && late.Timeout():
		return "timeout"
	}
	return err.Error()
}

// fetch asks for a path over TLS (port 443) or in clear, and reads the answer.
func fetch(w *lab.World, by way, host string, port uint16, path string) (*http.Response, string, error) {
	return fetchTill(w, by, host, port, path, "")
}

// fetchTill is fetch from a site of which silence is expected in one step:
// "dial", "handshake", "answer" or "body".
func fetchTill(w *lab.World, by way, host string, port uint16, path, silent string) (*http.Response, string, error) {
	wait := func(step string) time.Duration {
		if step == silent {
			return shortly
		}
		return patience
	}
	c, err := by.open(w, host, port, wait("dial"))
	if err != nil {
		return nil, "", fmt.Errorf("dial: %w", err)
	}
	defer c.Close()
	raw := c
	raw.SetDeadline(time.Now().Add(wait("handshake")))
	if port == 443 {
		t := tls.Client(c, &tls.Config{ServerName: host, RootCAs: w.Roots()})
		if err := t.Handshake(); err != nil {
			return nil, "", fmt.Errorf("handshake: %w", err)
		}
		c = t
	}
	req, err := http.NewRequest(http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		return nil, "", err
	}
	raw.SetDeadline(time.Now().Add(wait("answer")))
	if err := req.Write(c); err != nil {
		return nil, "", fmt.Errorf("request: %w", err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		return nil, "", fmt.Errorf("answer: %w", err)
	}
	defer res.Body.Close()
	raw.SetDeadline(time.Now().Add(wait("body")))
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return res, string(body), fmt.Errorf("body: %w", err)
	}
	return res, string(body), nil
}

// step is where an attempt stopped: the word before the first colon.
func step(err error) string {
	if err == nil {
		return ""
	}
	s, _, _ := strings.Cut(err.Error(), ":")
	return s
}
