// Command goproxy is the peer that egressaudit is measured beside: goproxy as it
// comes, without a line of audit.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/elazarl/goproxy"
)

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Addr())
	g := goproxy.NewProxyHttpServer()
	g.Logger = log.New(os.Stderr, "", 0)
	log.Fatal(http.Serve(l, g))
}
