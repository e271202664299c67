// Command goproxy is the peer that egressaudit is measured beside: goproxy as it
// comes, without a line of audit.
//
//	goproxy ADDRESS:PORT
package main

import (
	"log"
	"net/http"
	"os"

	"github.com/elazarl/goproxy"
)

func main() {
	g := goproxy.NewProxyHttpServer()
	g.Logger = log.New(os.Stderr, "", 0)
	log.Fatal(http.ListenAndServe(os.Args[1], g))
}
