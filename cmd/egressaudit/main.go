// Command egressaudit records what an install needs of the network, and reports
// the gaps between that and what its publisher requires.
//
// This package owns flags, files, signals, exit statuses, the wiring of the
// other packages, and all wording to people. It decides nothing about
// connections: proxy does, and policy/report judges.
package main

import (
	"context"
	"os"

	"github.com/egressaudit/egressaudit/proxy/capture/isolate"
)

func main() {
	isolate.Main(os.Args) // where run --isolate started us again
	os.Exit(run(context.Background(), os.Args[1:], environ{os.Environ(), os.Stdin, os.Stdout, os.Stderr}))
}
