// Command lab plays a small internet on loopback: sites under a CA of its own,
// a DNS server, a corporate proxy, and a firewall that misbehaves on order. It
// is package lab behind three flags.
//
//	lab -script FILE [-ready FILE] [-ca FILE]
//
// It writes the CA's certificate to -ca, then prints what to connect to, one
// KEY=VALUE a line for a shell: PARENT (the proxy's URL), DNS (address and
// port), CA (the file), PORT_443 and the like (where sites listen directly at
// their loopback addresses). The same goes to -ready, a file that appears
// whole. It ends with SIGINT, SIGTERM, or when its standard input is a pipe and
// closes, so that it cannot outlive the script that started it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/egressaudit/egressaudit/test/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the command; its result is the exit status.
func run(ctx context.Context, args []string, stdin *os.File, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("lab", flag.ContinueOnError)
	flags.SetOutput(stderr)
	script := flags.String("script", "", "`FILE` with the script; without one every site works")
	ready := flags.String("ready", "", "`FILE` that gets the KEY=VALUE lines when all listens")
	ca := flags.String("ca", "", "`FILE` that gets the CA's certificate")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if err := play(leash(ctx, stdin), *script, *ready, *ca, stdout); err != nil {
		fmt.Fprintln(stderr, "lab:", err)
		return 2
	}
	return 0
}

// play runs the lab until ctx ends.
func play(ctx context.Context, script, ready, ca string, stdout io.Writer) error {
	s, err := read(script)
	if err != nil {
		return err
	}
	w, err := lab.Start(s)
	if err != nil {
		return err
	}
	defer w.Close()
	if ca != "" {
		if err := w.WriteCA(ca); err != nil {
			return err
		}
	}
	text := w.Shell(ca)
	if ready != "" {
		if err := os.WriteFile(ready+".part", []byte(text), 0o600); err != nil {
			return err
		}
		if err := os.Rename(ready+".part", ready); err != nil {
			return err
		}
	}
	if _, err := io.WriteString(stdout, text); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func read(script string) (lab.Script, error) {
	if script == "" {
		return lab.Parse("default", strings.NewReader("* site\n"))
	}
	f, err := os.Open(script)
	if err != nil {
		return lab.Script{}, err
	}
	defer f.Close()
	return lab.Parse(script, f)
}

// leash ends the context when stdin, if it is a pipe, closes. A terminal and
// /dev/null are no leash.
func leash(ctx context.Context, stdin *os.File) context.Context {
	if info, err := stdin.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return ctx
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		io.Copy(io.Discard, stdin)
	}()
	return ctx
}
