// Rolling is the load of a rolling restart: tunnels that are held open through a
// proxy, and new connections at a rate, each of which has to work. It says in JSON
// what it did and what failed; whether that may be is for its caller to judge, who
// knows when what was restarted. It knows nothing of egressaudit.
//
//	rolling -echo ADDRESS:PORT
//	rolling -proxy ADDRESS:PORT -target HOST:PORT [-rate N] [-tunnels N] [-duration TIME]
//
// The first form is the destination: it sends each line back, and ends the connection
// behind the line "once". The second is the load; -target is that destination as the
// proxy reaches it. SIGTERM and SIGINT end it before its time, with its JSON. The exit
// status is 0 whatever failed, and 2 for what could not be begun.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("rolling", flag.ContinueOnError)
	f.SetOutput(stderr)
	var l load
	at := f.String("echo", "", "be the destination, at `ADDRESS:PORT`")
	f.StringVar(&l.Proxy, "proxy", "", "`ADDRESS:PORT` of the proxy")
	f.StringVar(&l.Target, "target", "", "`HOST:PORT` of the destination, as the proxy reaches it")
	f.Float64Var(&l.Rate, "rate", 500, "`NUMBER` of new connections a second")
	f.IntVar(&l.Tunnels, "tunnels", 200, "`NUMBER` of tunnels held open")
	f.DurationVar(&l.Patience, "patience", 10*time.Second, "`TIME` after which an answer that has not come counts as failed")
	duration := f.Duration("duration", time.Minute, "`TIME` that it lasts")
	if err := f.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := l.check(*at); err != nil {
		fmt.Fprintln(stderr, "rolling:", err)
		return 2
	}
	if *at != "" {
		listener, err := net.Listen("tcp", *at)
		if err != nil {
			fmt.Fprintln(stderr, "rolling:", err)
			return 2
		}
		context.AfterFunc(ctx, func() { listener.Close() })
		echo(listener)
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, *duration)
	defer cancel()
	out := json.NewEncoder(stdout)
	out.SetIndent("", "  ")
	if err := out.Encode(l.run(ctx, func() {})); err != nil {
		fmt.Fprintln(stderr, "rolling:", err)
		return 2
	}
	return 0
}

func (l *load) check(echo string) error {
	switch {
	case echo != "":
	case l.Proxy == "" || l.Target == "":
		return fmt.Errorf("name the proxy and the destination: -proxy ADDRESS:PORT -target HOST:PORT")
	case !(l.Rate > 0 && l.Rate < 1e6) || l.Tunnels < 0 || l.Patience <= 0:
		return fmt.Errorf("-rate %v -tunnels %d -patience %v: write numbers above zero", l.Rate, l.Tunnels, l.Patience)
	}
	return nil
}
