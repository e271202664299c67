package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Without a service manager nothing is told, and one that is not there is no reason
// to stop. What one hears is in deploy/systemd.
func TestNotify(t *testing.T) {
	require.NoError(t, notify(environ{}, "READY=1"))
	require.NoError(t, notify(environ{vars: []string{"NOTIFY_SOCKET="}}, "READY=1"))
	err := notify(environ{vars: []string{"NOTIFY_SOCKET=/nowhere/socket"}}, "READY=1")
	require.ErrorContains(t, err, `tell READY=1 to NOTIFY_SOCKET "/nowhere/socket": `)
}
