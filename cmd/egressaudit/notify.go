package main

import (
	"fmt"
	"io"
	"net"
)

// notify tells the service manager what state serve is in, as sd_notify(3) has it:
// "READY=1" when every listener is open, "STOPPING=1" when it ends. Where nobody
// asked, by NOTIFY_SOCKET, it does nothing.
func notify(env environ, state string) error {
	at := env.lookup("NOTIFY_SOCKET")
	if at == "" {
		return nil
	}
	c, err := net.Dial("unixgram", at)
	if err != nil {
		return fmt.Errorf("tell %s to NOTIFY_SOCKET %q: %w", state, at, err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, state); err != nil {
		return fmt.Errorf("tell %s to NOTIFY_SOCKET %q: %w", state, at, err)
	}
	return nil
}
