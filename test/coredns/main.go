// Command coredns is CoreDNS with the few plugins that a cluster's DNS consists
// of here: it forwards, answers for cluster.local by template, and logs. Nothing
// of Kubernetes or the clouds comes with it, so it builds in a minute.
package main

import (
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/template"

	"github.com/coredns/coredns/coremain"
)

func main() { coremain.Run() }
