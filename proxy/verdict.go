package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"

	"github.com/egressaudit/egressaudit/policy"
)

// detail is the evidence behind a verdict: what goes into Observation.Detail.
type detail map[string]any

// ok is the verdict of a destination that answered.
var okVerdict = policy.Verdict{Outcome: policy.OK, Stage: policy.StageData}

func failed(s policy.Stage, e policy.Error, by policy.By, c policy.Confidence) policy.Verdict {
	return policy.Verdict{Outcome: policy.Failed, Stage: s, Error: e, By: by, Confidence: c}
}

func denied(e policy.Error) policy.Verdict {
	return policy.Verdict{Outcome: policy.Denied, Stage: policy.StagePolicy, Error: e, By: policy.BySelf, Confidence: policy.Certain}
}

func abandoned(s policy.Stage) policy.Verdict {
	return policy.Verdict{Outcome: policy.Abandoned, Stage: s, By: policy.ByClient}
}

// resolveVerdict judges a look-up without a usable address.
func resolveVerdict(r policy.Resolution) (policy.Verdict, detail) {
	d := detail{}
	if r.Upstream != "" {
		d["resolver"] = r.Upstream
	}
	if r.Detail != "" {
		d["resolve"] = r.Detail
	}
	if r.Timeout {
		return failed(policy.StageResolve, policy.DNSTimeout, policy.ByResolver, policy.Certain), d
	}
	if r.RCode != "" {
		d["rcode"] = r.RCode
	}
	c := policy.Certain
	if r.RCode == "NXDOMAIN" {
		c = policy.Likely // the catalog's row may be stale
	}
	return failed(policy.StageResolve, policy.DNSError, policy.ByResolver, c), d
}

// connectVerdict judges a dial from its errno. The order of the cases is the
// order of weight among several addresses: a timeout before a refusal before no
// route.
func connectVerdict(stage policy.Stage, err error) (policy.Verdict, int) {
	switch errno := errnoOf(err); {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errno == syscall.ETIMEDOUT:
		return failed(stage, policy.ConnectionTimeout, policy.ByNetwork, policy.Certain), 3
	case errno == syscall.ECONNREFUSED:
		return failed(stage, policy.ConnectionRefused, policy.ByNetwork, policy.Certain), 2
	case errno == syscall.ECONNRESET:
		return failed(stage, policy.ConnectionTerminated, policy.ByNetwork, policy.Certain), 2
	case errno == syscall.EHOSTUNREACH, errno == syscall.ENETUNREACH, errno == syscall.EACCES, errno == syscall.EPERM,
		errno == syscall.EINVAL,                                                // a blackhole route
		errno == syscall.ENOPROTOOPT, errno == syscall.EPROTO, errno == enonet, // rare ICMP messages
		errno == syscall.EHOSTDOWN, errno == syscall.ENETDOWN, errno == syscall.EADDRNOTAVAIL, errno == syscall.EAFNOSUPPORT:
		return failed(stage, policy.DestinationUnroutable, policy.ByNetwork, policy.Certain), 1
	}
	return failed(stage, policy.ProxyInternalError, policy.BySelf, policy.Certain), 0
}

func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	errors.As(err, &errno)
	return errno
}

// errnoName is the symbol of err's errno, as man pages write it.
func errnoName(err error) string {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return "ETIMEDOUT"
	}
	if errno := errnoOf(err); errno != 0 {
		return errnoSymbol(errno)
	}
	return ""
}

// ending tells an end of a stream apart: "fin", "rst" or "" for one that we
// made ourselves.
func ending(err error) string {
	switch errno := errnoOf(err); {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errno == syscall.EPIPE: // a reset behind an end: Linux says ECONNRESET where none came before
		return closeFIN
	case errno == syscall.ECONNRESET:
		return closeRST
	case errors.Is(err, net.ErrClosed):
		return ""
	case errno == syscall.ETIMEDOUT, errno == syscall.EHOSTUNREACH, errno == syscall.ENETUNREACH:
		return "timeout" // data unacknowledged for too long
	}
	return "error"
}

const (
	closeFIN = "fin"
	closeRST = "rst"
)

// status is the response that tells a client about a verdict: RFC 9209 section
// 2.3 gives the codes. A parent's 407 becomes a 502, for the client has nothing
// to authenticate to.
func status(v policy.Verdict) int {
	switch v.Error {
	case policy.HTTPRequestError:
		return http.StatusBadRequest
	case policy.ConnectionLimitReached:
		return http.StatusServiceUnavailable
	case policy.DNSTimeout, policy.ConnectionTimeout, policy.ConnectionReadTimeout:
		return http.StatusGatewayTimeout
	case policy.ProxyLoopDetected:
		return http.StatusBadGateway
	}
	switch v.Outcome {
	case policy.Denied:
		return http.StatusForbidden
	case policy.Abandoned: // by us, who end
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}
