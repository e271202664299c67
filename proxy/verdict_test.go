package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// wrapped is an errno as the net package returns it.
func wrapped(e syscall.Errno) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", e)}
}

// TestConnectVerdict: what each errno of a dial means, and how much it weighs
// beside those of other addresses.
func TestConnectVerdict(t *testing.T) {
	for _, c := range []struct {
		err    error
		want   policy.Error
		weight int
	}{
		{context.DeadlineExceeded, policy.ConnectionTimeout, 3},
		{os.ErrDeadlineExceeded, policy.ConnectionTimeout, 3},
		{wrapped(syscall.ETIMEDOUT), policy.ConnectionTimeout, 3},
		{wrapped(syscall.ECONNREFUSED), policy.ConnectionRefused, 2},
		{wrapped(syscall.ECONNRESET), policy.ConnectionTerminated, 2},
		{wrapped(syscall.EHOSTUNREACH), policy.DestinationUnroutable, 1},
		{wrapped(syscall.ENETUNREACH), policy.DestinationUnroutable, 1},
		{wrapped(syscall.EACCES), policy.DestinationUnroutable, 1},
		{wrapped(syscall.EPERM), policy.DestinationUnroutable, 1},
		{wrapped(syscall.EINVAL), policy.DestinationUnroutable, 1},
		{wrapped(syscall.EADDRNOTAVAIL), policy.DestinationUnroutable, 1},
		{wrapped(syscall.EAFNOSUPPORT), policy.DestinationUnroutable, 1},
		{wrapped(syscall.EMFILE), policy.ProxyInternalError, 0},
		{wrapped(syscall.ENOBUFS), policy.ProxyInternalError, 0},
		{errGuard, policy.ProxyInternalError, 0},
		{errTest, policy.ProxyInternalError, 0},
	} {
		v, weight := connectVerdict(policy.StageConnect, c.err)
		require.Equal(t, c.want, v.Error, "%v", c.err)
		require.Equal(t, c.weight, weight, "%v", c.err)
		require.Equal(t, c.weight == 0, v.By == policy.BySelf, "%v", c.err)
		require.Equal(t, policy.StageConnect, v.Stage)
		require.Equal(t, policy.Failed, v.Outcome)
	}
}

// TestConnectVerdictOfRareICMP: these errnos, too, are what Linux makes of an ICMP
// "unreachable" (net/ipv4/icmp.c, icmp_err_convert).
func TestConnectVerdictOfRareICMP(t *testing.T) {
	for _, e := range []syscall.Errno{syscall.ENOPROTOOPT, syscall.EHOSTDOWN, syscall.ENETDOWN, syscall.EPROTO, 64 /* ENONET */} {
		v, _ := connectVerdict(policy.StageConnect, wrapped(e))
		require.Equal(t, policy.DestinationUnroutable, v.Error, "%v", e)
	}
}

func TestEnding(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, "fin"},
		{io.EOF, "fin"},
		{io.ErrUnexpectedEOF, "fin"},
		{fmt.Errorf("read: %w", io.EOF), "fin"},
		{wrapped(syscall.ECONNRESET), "rst"},
		{wrapped(syscall.EPIPE), "fin"},
		{net.ErrClosed, ""},
		{&net.OpError{Op: "read", Err: net.ErrClosed}, ""},
		{wrapped(syscall.ETIMEDOUT), "timeout"},
		{wrapped(syscall.EHOSTUNREACH), "timeout"},
		{wrapped(syscall.ENETUNREACH), "timeout"},
		{wrapped(syscall.EIO), "error"},
		{errTest, "error"},
	} {
		require.Equal(t, c.want, ending(c.err), "%v", c.err)
	}
}

func TestErrnoName(t *testing.T) {
	require.Equal(t, "ETIMEDOUT", errnoName(context.DeadlineExceeded))
	require.Equal(t, "ECONNREFUSED", errnoName(wrapped(syscall.ECONNREFUSED)))
	require.Empty(t, errnoName(errTest))
	require.Empty(t, errnoName(nil))
}

// TestDialVerdict: a timeout before a refusal before no route, and all of them
// are told.
func TestDialVerdict(t *testing.T) {
	timeout, refused, noRoute := wrapped(syscall.ETIMEDOUT), wrapped(syscall.ECONNREFUSED), wrapped(syscall.ENETUNREACH)
	for _, c := range []struct {
		lost []error
		want policy.Error
		at   int
	}{
		{[]error{noRoute, timeout, refused}, policy.ConnectionTimeout, 1},
		{[]error{noRoute, refused}, policy.ConnectionRefused, 1},
		{[]error{refused, noRoute}, policy.ConnectionRefused, 0},
		{[]error{noRoute, noRoute}, policy.DestinationUnroutable, 0},
		{[]error{errGuard, noRoute}, policy.DestinationUnroutable, 1},
		{[]error{timeout}, policy.ConnectionTimeout, 0},
	} {
		var lost []attempt
		for i, err := range c.lost {
			lost = append(lost, attempt{to: at(i), err: err})
		}
		v, of, d := dialVerdict(policy.StageConnect, lost)
		require.Equal(t, c.want, v.Error)
		require.Equal(t, at(c.at), of.to)
		require.Equal(t, errnoName(c.lost[c.at]), d["errno"])
		if len(lost) == 1 {
			require.NotContains(t, d, "attempts")
		} else {
			require.Len(t, d["attempts"], len(lost))
		}
	}
}

func TestResolveVerdict(t *testing.T) {
	for _, c := range []struct {
		res  policy.Resolution
		want policy.Error
		sure policy.Confidence
	}{
		{policy.Resolution{Timeout: true}, policy.DNSTimeout, policy.Certain},
		{policy.Resolution{RCode: "NXDOMAIN"}, policy.DNSError, policy.Likely},
		{policy.Resolution{RCode: "SERVFAIL"}, policy.DNSError, policy.Certain},
		{policy.Resolution{RCode: "REFUSED"}, policy.DNSError, policy.Certain},
		{policy.Resolution{RCode: "NODATA"}, policy.DNSError, policy.Certain},
		{policy.Resolution{}, policy.DNSError, policy.Certain},
	} {
		v, d := resolveVerdict(c.res)
		require.Equal(t, policy.Verdict{Outcome: policy.Failed, Stage: policy.StageResolve, Error: c.want, By: policy.ByResolver, Confidence: c.sure}, v)
		require.Equal(t, c.res.RCode != "", d["rcode"] != nil)
	}
}

// TestStatus: what a client is told (contract section 3): never 407.
func TestStatus(t *testing.T) {
	for _, c := range []struct {
		v    policy.Verdict
		want int
	}{
		{denied(policy.HTTPRequestDenied), 403},
		{denied(policy.DestinationProhibited), 403},
		{denied(policy.HTTPRequestError), 400},
		{denied(policy.ConnectionLimitReached), 503},
		{failed(policy.StageResolve, policy.DNSError, policy.ByResolver, policy.Certain), 502},
		{failed(policy.StageResolve, policy.DNSTimeout, policy.ByResolver, policy.Certain), 504},
		{failed(policy.StageResolve, policy.DNSSinkhole, policy.ByResolver, policy.Certain), 502},
		{failed(policy.StageConnect, policy.ConnectionRefused, policy.ByNetwork, policy.Certain), 502},
		{failed(policy.StageConnect, policy.ConnectionTimeout, policy.ByNetwork, policy.Certain), 504},
		{failed(policy.StageHello, policy.ConnectionReadTimeout, policy.ByNetwork, policy.Certain), 504},
		{failed(policy.StageParent, policy.ParentAuthRequired, policy.ByParent, policy.Certain), 502},
		{failed(policy.StageParent, policy.ParentDenied, policy.ByParent, policy.Certain), 502},
		{failed(policy.StageParent, policy.ProxyLoopDetected, policy.BySelf, policy.Certain), 502},
		{failed(policy.StageConnect, policy.ProxyInternalError, policy.BySelf, policy.Certain), 502},
	} {
		require.Equal(t, c.want, status(c.v), "%s", c.v.Error)
	}
}

// sfItem is RFC 9209's field as RFC 8941 allows it: tokens, and a string of
// printable ASCII in which only the quote and the backslash are escaped.
var sfItem = regexp.MustCompile(`^egressaudit(; error=[a-z][a-z_]*)?(; details="([ !#-\[\]-~]|\\["\\])*")?$`)

// TestProxyStatus: no text of anybody else's breaks the syntax of the field.
func TestProxyStatus(t *testing.T) {
	for _, evidence := range []detail{
		nil,
		{"rcode": "NXDOMAIN"},
		{"status": 403},
		{"errno": "ECONNREFUSED"},
		{"why": printable("quote \" backslash \\ line\r\nSet-Cookie: x\x00\x7fé\u202e")},
	} {
		o := policy.Observation{Verdict: denied(policy.HTTPRequestDenied), Detail: evidence}
		require.Regexp(t, sfItem, proxyStatus(&o))
	}
}

func TestPrintable(t *testing.T) {
	require.Equal(t, "plain text", printable("plain text"))
	require.Equal(t, "ab", printable("a\r\n\x00\x1b\x7f\u202e\xffé"+"b"))
	require.Len(t, printable(strings.Repeat("x", 1000)), 200)
	require.Empty(t, printable(""))
}

func TestCause(t *testing.T) {
	_, _, err := policy.ParseTarget("127.1:80")
	require.NotContains(t, cause(err), "127.1", "the target stands in the record already")
	require.NotEmpty(t, cause(err))
	require.Equal(t, "something else", cause(errTest))
	require.NotContains(t, cause(errors.New("a\r\nb")), "\n")
}

// TestResponseSplitting: a target is no way into the header of our answer.
func TestResponseSplitting(t *testing.T) {
	r := newRig(t, nil)
	for _, target := range []string{"a%0d%0aSet-Cookie:x:443", "a\"; x=\":443", "\xc3\xa9\xff:443", "a\tb:443", strings.Repeat("a", 5000) + ":443"} {
		c := r.dial()
		io.WriteString(c, "CONNECT "+target+" HTTP/1.1\r\nHost: x\r\n\r\n")
		b, err := io.ReadAll(c)
		require.NoError(t, err)
		head, _, ok := strings.Cut(string(b), "\r\n\r\n")
		require.True(t, ok)
		require.Regexp(t, `^HTTP/1.1 4\d\d `, head)
		require.NotContains(t, head, "Set-Cookie:x\r\n")
		for line := range strings.SplitSeq(head, "\r\n") {
			require.Regexp(t, `^[ -~]*$`, line)
		}
	}
}
