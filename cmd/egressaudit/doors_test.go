package main

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/proxy/capture"
)

// TestRefusedListener: a listener that cannot be had says what to do about it, and
// nothing that would not help.
func TestRefusedListener(t *testing.T) {
	for _, c := range []struct {
		door door
		at   string
		err  error
		want string
	}{
		{dnsDoor, "127.0.0.1:53", syscall.EACCES, `--dns "127.0.0.1:53": permission denied (take a port above 1023, such as 5353, or grant CAP_NET_BIND_SERVICE)`},
		{proxyDoor, "127.0.0.1:3128", syscall.EADDRINUSE, `--proxy "127.0.0.1:3128": address already in use (take another port, or 0 for any free one)`},
		{tproxyDoor, "127.0.0.1:0", fmt.Errorf("listen: %w: %w", capture.ErrPrivilege, syscall.EPERM), `--tproxy "127.0.0.1:0": ` + capture.ErrPrivilege.Error()},
	} {
		require.Equal(t, c.want, oneLine(c.door.refused(c.at, c.err)))
	}
}
