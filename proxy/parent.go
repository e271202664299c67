package proxy

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// maxReplyHeader bounds what a parent may answer to CONNECT.
const maxReplyHeader = 64 << 10

// tunnelThrough asks the parent that way leads to for a tunnel to target, and
// notes in way what was read for that. The zero Verdict: there is one.
func (p *Proxy) tunnelThrough(way *route, target string, via []string) (policy.Verdict, detail) {
	c := way.conn
	c.SetDeadline(time.Now().Add(p.limits.ParentTimeout))
	stop := context.AfterFunc(p.life, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if stop() {
			c.SetDeadline(time.Time{})
		}
	}()
	req := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\nVia: " + strings.Join(append(slices.Clone(via), p.via()), ", ") + "\r\n"
	if auth := basicAuth(way.parent); auth != "" {
		req += "Proxy-Authorization: " + auth + "\r\n"
	}
	if _, err := c.Write([]byte(req + "\r\n")); err != nil {
		return replyVerdict(err), detail{"close": ending(err)}
	}
	in := &limited{Conn: c, n: maxReplyHeader}
	r := bufio.NewReaderSize(in, 4096)
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		if in.err != nil {
			err = in.err // what ended the stream, not what the half reply looks like
		}
		return replyVerdict(err), detail{"close": ending(err)}
	}
	if resp.StatusCode/100 == 2 {
		way.pending, _ = r.Peek(r.Buffered())
		way.read = int64(maxReplyHeader - in.n)
		return policy.Verdict{}, nil
	}
	return parentVerdict(resp)
}

// replyVerdict judges a parent that gave no answer one can read.
func replyVerdict(err error) policy.Verdict {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return failed(policy.StageParent, policy.ConnectionReadTimeout, policy.ByParent, policy.Certain)
	case ending(err) == "error":
		return failed(policy.StageParent, policy.HTTPProtocolError, policy.ByParent, policy.Certain)
	}
	return failed(policy.StageParent, policy.ConnectionTerminated, policy.ByParent, policy.Certain)
}

// parentVerdict judges an answer other than 2xx by its status, and by what its
// headers say of the way beyond the parent.
func parentVerdict(resp *http.Response) (policy.Verdict, detail) {
	d := detail{"status": resp.StatusCode}
	for key, field := range map[string]string{"via": "Via", "server": "Server", "proxy_status": "Proxy-Status", "x_squid_error": "X-Squid-Error"} {
		if v := printable(resp.Header.Get(field)); v != "" {
			d[key] = v
		}
	}
	say := func(e policy.Error, by policy.By) policy.Verdict {
		return failed(policy.StageParent, e, by, policy.Certain)
	}
	switch code := resp.StatusCode; {
	case strings.Contains(resp.Header.Get("Proxy-Status"), "error="+string(policy.ProxyLoopDetected)):
		return say(policy.ProxyLoopDetected, policy.BySelf), d
	case code == http.StatusProxyAuthRequired:
		d["schemes"] = schemes(resp.Header.Values("Proxy-Authenticate"))
		return say(policy.ParentAuthRequired, policy.ByParent), d
	case code/100 == 4:
		return say(policy.ParentDenied, policy.ByParent), d
	case code/100 == 5:
		if beyond, by := beyond(resp.Header); beyond != "" {
			d["beyond"] = string(beyond)
			return say(policy.ParentError, by), d
		}
	}
	return say(policy.ParentError, policy.ByParent), d
}

// beyond reads what a parent says of its own failure: squid's X-Squid-Error
// ("ERR_CONNECT_FAIL 111", the number an errno of Linux) or RFC 9209's
// Proxy-Status.
func beyond(h http.Header) (policy.Error, policy.By) {
	page, number, _ := strings.Cut(h.Get("X-Squid-Error"), " ")
	switch page {
	case "ERR_DNS_FAIL":
		return policy.DNSError, policy.ByResolver
	case "ERR_CONNECT_FAIL", "ERR_CANNOT_FORWARD":
		switch number {
		case "110":
			return policy.ConnectionTimeout, policy.ByNetwork
		case "101", "113":
			return policy.DestinationUnroutable, policy.ByNetwork
		case "111":
			return policy.ConnectionRefused, policy.ByNetwork
		case "0": // squid 5 says so when it found no address, too: nobody knows
			return "", ""
		}
		return policy.ConnectionTerminated, policy.ByNetwork
	case "ERR_READ_TIMEOUT":
		return policy.ConnectionTimeout, policy.ByNetwork
	}
	_, param, ok := strings.Cut(h.Get("Proxy-Status"), "error=")
	if !ok {
		return "", ""
	}
	switch e := policy.Error(param[:tokenEnd(param)]); e {
	case policy.DNSError, policy.DNSTimeout:
		return e, policy.ByResolver
	case policy.ConnectionRefused, policy.ConnectionTimeout, policy.ConnectionTerminated, policy.DestinationUnroutable:
		return e, policy.ByNetwork
	}
	return "", ""
}

func tokenEnd(s string) int {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < 'a' || c > 'z') && c != '_' {
			return i
		}
	}
	return len(s)
}

// schemes lists the authentication schemes that a parent offers.
func schemes(challenges []string) []string {
	var out []string
	for _, c := range challenges {
		scheme, _, _ := strings.Cut(strings.TrimSpace(c), " ")
		if s := printable(scheme); s != "" && len(out) < 8 {
			out = append(out, s)
		}
	}
	return out
}

// printable bounds and cleans a header value that goes into the ledger.
func printable(s string) string {
	const limit = 200
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return clean[:min(len(clean), limit)]
}

// basicAuth is the Proxy-Authorization field for the credentials in a parent's
// URL, "" where it has none.
func basicAuth(u *url.URL) string {
	if u.User == nil {
		return ""
	}
	password, _ := u.User.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
}

// parentPort is the port of a parent's URL; an http proxy without one is at 80,
// as for curl and Go.
func parentPort(u *url.URL) uint16 {
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || n == 0 {
		return 80
	}
	return uint16(n)
}

var errTooLong = errors.New("header too long")

// limited reads at most n octets, and remembers how the stream ended.
type limited struct {
	net.Conn
	n   int
	err error
}

func (l *limited) Read(b []byte) (int, error) {
	if l.n <= 0 {
		return 0, errTooLong
	}
	n, err := l.Conn.Read(b[:min(len(b), l.n)])
	l.n -= n
	if l.err == nil {
		l.err = err // after a reset the next read says EOF
	}
	return n, err
}
