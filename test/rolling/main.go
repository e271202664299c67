// Rolling is the load of a rolling restart: tunnels that are held open through a
// proxy, and new connections at a rate, each of which has to work. It says in JSON
// what it did and what failed, and holds that against egressaudit's ledgers.
//
//	rolling -echo ADDRESS:PORT
//	rolling -proxy ADDRESS:PORT -target HOST:PORT [-rate N] [-tunnels N] [-duration TIME]
//	rolling -judge RESULT.json [-floor N] LEDGER=TIME...
//
// The first form is the destination: it sends each line back, and ends the connection
// behind the line "once". The second is the load; -target is that destination as the
// proxy reaches it. It says on stderr when all tunnels are open. SIGTERM and SIGINT end
// it before its time, with its JSON; the exit status is 0 whatever failed. The third
// says what does not fit: the status is 1 if anything failed, a tunnel was cut before
// the TIME at which its replica's drain was over, a ledger is not whole, a connection
// has no record, or the rate was below the floor. 2 is trouble.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
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
	judged := f.String("judge", "", "hold a load's JSON, a `FILE`, against the ledgers that follow")
	floor := f.Float64("floor", 0, "`NUMBER` of new connections a second that prove something")
	duration := f.Duration("duration", time.Minute, "`TIME` that it lasts")
	if err := f.Parse(args); err != nil {
		return 2
	}
	if *judged != "" {
		return verdict(*judged, *floor, f.Args(), stdout, stderr)
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
	if err := out.Encode(l.run(ctx, func() { fmt.Fprintln(stderr, "rolling: all tunnels are open") })); err != nil {
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

// verdict is the third form.
func verdict(result string, floor float64, args []string, stdout, stderr io.Writer) int {
	r, err := readResult(result)
	replicas, bad := readReplicas(args)
	if err := errors.Join(err, bad); err != nil {
		fmt.Fprintln(stderr, "rolling:", err)
		return 2
	}
	wrong := judge(r, replicas, floor)
	for _, w := range wrong {
		fmt.Fprintln(stderr, "rolling:", w)
	}
	fmt.Fprintf(stdout, "rolling: %.0f new connections a second of %.0f asked (least %d), %d in all, %d took a second or more, the slowest %d ms (%.0f s after the beginning); %d tunnels begun, %d cut by a drain; %d ledgers; %d wrong\n",
		r.Rate.Held, r.Rate.Asked, r.Rate.Least, r.Connections.Begun, r.Connections.Slow, r.Connections.SlowestMS,
		r.Connections.SlowestAt.Sub(r.Begun).Seconds(), r.Tunnels.Begun, len(r.Cuts), len(replicas), len(wrong))
	return min(len(wrong), 1)
}

// readReplicas reads LEDGER=TIME of each.
func readReplicas(args []string) (replicas []Replica, err error) {
	for _, arg := range args {
		path, text, _ := strings.Cut(arg, "=")
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return nil, fmt.Errorf("%q: write LEDGER=TIME, the time as in RFC 3339: %w", arg, err)
		}
		replicas = append(replicas, Replica{path, at})
	}
	if len(replicas) == 0 {
		return nil, errors.New("name the ledgers, each with the end of its replica's drain: LEDGER=TIME")
	}
	return replicas, nil
}
