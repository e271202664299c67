//go:build linux

// Command capture measures egressaudit's redirect listener beside haproxy, in TCP
// mode with inspection of the server name, and beside plain forwarding, in one
// run: a client, a gateway that sends all it forwards to the one that is measured,
// and an origin, in network namespaces. run.sh starts it; ../README.md says what
// is measured.
//
// It owns the network and the gateways. The traffic comes from the generator of
// the bench beside it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/egressaudit/egressaudit/test/lab/netns"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
}

// The origin's name, which both default catalogs list, and its address.
const (
	originName = "mcr.microsoft.com"
	originAddr = "198.18.0.1"
)

// bench is the network, and where the programs are.
type bench struct {
	dir                  string
	rounds               int
	scale                float64
	net                  *netns.Net
	client, gate, origin *netns.Space
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	b := &bench{net: netns.New("eabench", "capture")}
	f := flag.NewFlagSet("capture", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&b.dir, "dir", "", "existing `DIR` with egressaudit and proxybench, and room for ledgers")
	f.IntVar(&b.rounds, "rounds", 5, "`N` rounds of all measures and gateways")
	f.Float64Var(&b.scale, "scale", 1, "`FACTOR` on the work in each measure; for a quick look, 0.1")
	output := f.String("o", "", "write the table into `FILE`, between its marks, too")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 || b.dir == "" || b.rounds < 1 || b.scale <= 0 {
		return errors.New("-dir is needed, -rounds and -scale are above 0, and there are no arguments")
	}
	defer func() { err = errors.Join(err, b.net.Close()) }()
	if err := errors.Join(netns.Sweep("eabench"), b.cables()); err != nil {
		return err
	}
	begun := machine()
	s, err := b.compare(ctx, stderr)
	if err != nil {
		return err
	}
	page := fmt.Sprintf("Made by `sh test/bench/capture/run.sh %s`\n%s (load at the end: %s).\n\n%s", strings.Join(args[2:], " "), begun, load(), s.render())
	fmt.Fprint(stdout, page)
	if *output != "" {
		err = splice(*output, page)
	}
	return err
}

// cables joins the client and the origin through the gateway.
func (b *bench) cables() (err error) {
	for _, s := range []struct {
		to   **netns.Space
		name string
	}{{&b.client, "client"}, {&b.gate, "gate"}, {&b.origin, "origin"}} {
		if *s.to, err = b.net.Add(s.name); err != nil {
			return err
		}
	}
	hosts := filepath.Join(b.dir, "hosts")
	return errors.Join(
		b.net.Link(b.client, "10.8.1.2/24", b.gate, "10.8.1.1/24"), b.net.Link(b.gate, "10.8.2.2/24", b.origin, "10.8.2.1/24 "+originAddr+"/32"),
		b.client.Route("default", "10.8.1.1"), b.gate.Route(originAddr, "10.8.2.1"), b.origin.Route("10.8.1.0/24", "10.8.2.2"),
		b.gate.Router(), os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"+originAddr+" "+originName+"\n"), 0o644),
	)
}

// gateway is what is measured.
type gateway struct {
	name string
	args []string
	log  string         // of its records
	soft syscall.Signal // ends it when its connections have ended
}

// gateways are egressaudit and haproxy, neighbours in time, the least that a Go
// program can do, and nothing at all: the kernel forwards.
func (b *bench) gateways() []gateway {
	return []gateway{
		{name: forwarding},
		{bare, []string{"./relay", "0.0.0.0:3129"}, "", syscall.SIGTERM},
		{"haproxy", []string{"haproxy", "-f", "haproxy.cfg"}, "haproxy.out", syscall.SIGUSR1},
		{"egressaudit", []string{
			"./egressaudit", "serve", "--redirect", "0.0.0.0:3129", "--clients", "10.8.0.0/16", "--resolver", "10.8.2.1", "--max-tunnels", "4096",
			"--max-client-tunnels", "4096", "--drain", "5s", "--ledger", "ledger.jsonl",
		}, "ledger.jsonl", syscall.SIGTERM},
	}
}

const (
	forwarding = "forwarding"
	bare       = "relay" // ../relay: what any Go program costs
)

// haproxyConfig is TCP mode with inspection: the server name of a ClientHello is
// waited for, and logged, and what is none goes on at once.
const haproxyConfig = `global
  log stdout format raw local0
  maxconn 4096
defaults
  mode tcp
  log global
  timeout connect 10s
  timeout client 15m
  timeout server 15m
  option splice-request
  option splice-response
frontend captured
  bind 0.0.0.0:3129
  tcp-request inspect-delay 5s
  tcp-request content capture req.ssl_sni len 64
  tcp-request content accept if { req.ssl_hello_type 1 }
  tcp-request content accept if { req.len ge 1 } !{ req.payload(0,1) -m bin 16 }
  log-format "%ci:%cp %[capture.req.hdr(0)] %Tw/%Tc/%Tt %U %B %ts"
  default_backend origin
backend origin
  option transparent
`

// measure is one run of the generator.
type measure struct {
	args    []string
	conns   int
	figures []figure
}

// figure is one number of it; bound is the target over haproxy's, 0 for none.
type figure struct {
	name  string
	of    func(cpu time.Duration, told map[string]float64) float64
	bound float64
	own   bool // the gateway's process: nothing that forwarding has
}

func (b *bench) measures() []measure {
	work := func(n int) int { return max(1, int(float64(n)*b.scale)) }
	told := func(name, key string) figure {
		return figure{name: name, of: func(_ time.Duration, told map[string]float64) float64 { return told[key] }}
	}
	conn := func(parallel, n int) measure {
		return measure{
			[]string{"conn", "-target", originName + ":443", "-c", strconv.Itoa(parallel), "-n", strconv.Itoa(n)}, n,
			[]figure{
				{fmt.Sprintf("processor time for a new connection, %d at once (µs)", parallel),
					func(cpu time.Duration, _ map[string]float64) float64 { return float64(cpu.Microseconds()) / float64(n) }, 1.4, true},
				told(fmt.Sprintf("new connections, %d at once (/s)", parallel), "per_s"),
			},
		}
	}
	octets := work(16) << 29
	return []measure{
		conn(1, work(8000)), conn(32, work(12000)),
		{[]string{"bulk", "-target", originName + ":8444", "-c", "1", "-bytes", strconv.Itoa(octets)}, 1, []figure{
			{"processor time for a GB of download (ms)",
				func(cpu time.Duration, told map[string]float64) float64 { return cpu.Seconds() * 1e12 / told["got"] }, 1, true},
			told("download through one connection (MB/s)", "MB_per_s"),
		}},
	}
}

// compare runs every measure through every gateway, b.rounds times; every other
// round runs backwards.
func (b *bench) compare(ctx context.Context, stderr io.Writer) (samples, error) {
	if err := os.WriteFile(filepath.Join(b.dir, "haproxy.cfg"), []byte(haproxyConfig), 0o644); err != nil {
		return samples{}, err
	}
	origin := b.command(ctx, "origin.out", "./proxybench", "origin", "-listen", originAddr+":443", "-raw", originAddr+":8444")
	if err := b.origin.Start(origin); err != nil {
		return samples{}, err
	}
	defer end(origin, syscall.SIGTERM)
	if err := b.listens(ctx, b.origin, originAddr+":8444"); err != nil {
		return samples{}, err
	}
	s := samples{measures: b.measures(), seen: map[string]map[string][]float64{}}
	for round := range b.rounds {
		for _, m := range s.measures {
			for _, g := range inTurn(b.gateways(), round) {
				fmt.Fprintf(stderr, "round %d of %d: %s: %s\n", round+1, b.rounds, m.args[0], g.name)
				if err := b.try(ctx, s, m, g); err != nil {
					return s, fmt.Errorf("%s through %s: %w", strings.Join(m.args, " "), g.name, err)
				}
			}
		}
	}
	return s, nil
}
