// Command relay is the least that a Go program can do for captured connections:
// accept, dial the original destination, copy both ways. It looks at nothing and
// records nothing; what it costs is the runtime's and the kernel's.
//
//	relay ADDRESS:PORT
package main

import (
	"io"
	"log"
	"net"
	"os"

	"github.com/egressaudit/egressaudit/proxy/capture"
)

func main() {
	l, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go carry(c.(*net.TCPConn))
	}
}

// carry copies both ways until both have ended.
func carry(client *net.TCPConn) {
	defer client.Close()
	to, err := capture.OriginalDestination(client)
	if err != nil {
		return
	}
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		return
	}
	server := c.(*net.TCPConn)
	defer server.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(client, server)
		client.CloseWrite()
	}()
	io.Copy(server, client)
	server.CloseWrite()
	<-done
}
