package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// TestCredentialsInTarget: what stands before an @ is no part of a record or of
// our answer.
func TestCredentialsInTarget(t *testing.T) {
	for _, line := range []string{"CONNECT alice:s3cret@site.example.com:443 HTTP/1.1\r\nHost: x", "GET http://alice:s3cret@site.example.com/ HTTP/1.1\r\nHost: x"} {
		r := newRig(t, nil)
		c := r.dial()
		io.WriteString(c, line+"\r\nConnection: close\r\n\r\n")
		b, err := io.ReadAll(c)
		if !errors.Is(err, net.ErrClosed) {
			require.NoError(t, err)
		}
		require.Contains(t, string(b), "HTTP/1.1 400 ")
		require.NotContains(t, string(b), "s3cret")
		o := r.one()
		require.Equal(t, policy.HTTPRequestError, o.Error)
		require.NotContains(t, fmt.Sprintf("%+v", o), "s3cret")
	}
}

// TestPresentable: what of a CONNECT target that is none stands in records.
func TestPresentable(t *testing.T) {
	for target, want := range map[string]string{
		"site.example.com":                          "site.example.com",
		"alice:s3cret@site.example.com:443":         "site.example.com:443",
		"site.example.com/s3cret?s3cret":            "site.example.com",
		"site.example.com?s3cret#s3cret":            "site.example.com",
		"https://alice:s3cret@site.example.com/?x":  "site.example.com",
		"https://site.example.com?u=https://s3cret": "site.example.com",
		"site.example.com?u=https://s3cret":         "site.example.com",
		"site.example.com:443/?user=s3cret@s3cret":  "",
		"alice:s3/cret@site.example.com:443":        "",
		"alice:s3://cret@site.example.com:443":      "site.example.com:443",
		"/s3cret":                                   "",
		"@":                                         "",
		"":                                          "",
	} {
		require.Equal(t, want, presentable(target), "%q", target)
	}
}

// TestPathInTarget: neither path nor query is any part of a record or of our answer.
func TestPathInTarget(t *testing.T) {
	for _, target := range []string{"http://site.example.com/s3cret?s3cret", "site.example.com:443/s3cret", "site.example.com/?s3cret@s3cret"} {
		r := newRig(t, nil)
		c := r.dial()
		io.WriteString(c, "CONNECT "+target+" HTTP/1.1\r\nHost: x\r\n\r\n")
		b, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Contains(t, string(b), "HTTP/1.1 400 ")
		require.NotContains(t, string(b), "s3cret")
		require.NotContains(t, fmt.Sprintf("%+v", r.one()), "s3cret")
	}
}
