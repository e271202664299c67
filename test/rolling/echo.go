package main

import (
	"bufio"
	"net"
)

// once is the line behind which the destination ends a connection: so it is neither
// client nor proxy that keeps its port for a minute (TIME-WAIT).
const once = "once\n"

// echo serves the destination until l is closed.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			lines := bufio.NewReaderSize(c, 256)
			for {
				line, err := lines.ReadSlice('\n')
				if err != nil {
					return
				}
				if _, err := c.Write(line); err != nil || string(line) == once {
					return
				}
			}
		}()
	}
}
