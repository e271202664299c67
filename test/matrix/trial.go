package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// trial is one egressaudit of a world: that of its way, or one of its sides.
type trial struct {
	*built
	side  string
	cells []*cell
	serve *exec.Cmd
}

// trials are a world's, each with its cells.
func (b *built) trials() []*trial {
	at := map[string]*trial{}
	var out []*trial
	for _, c := range b.cells {
		t := at[c.through]
		if t == nil {
			t = &trial{built: b, side: c.through}
			at[c.through] = t
			out = append(out, t)
		}
		t.cells = append(t.cells, c)
	}
	return out
}

func (t *trial) file(suffix string) string { return t.path("trial-" + t.side + suffix) }

// begin starts egressaudit and waits until it listens.
func (t *trial) begin(ctx context.Context, program string) error {
	if err := os.WriteFile(t.file(".yaml"), []byte(t.catalog()), 0o644); err != nil {
		return err
	}
	args := []string{"serve", "--proxy", t.listener(t.side), "--clients", "10.9.0.0/16", "--clients", "fd09::/16", "--catalog", t.file(".yaml"), "--resolver", resolverAddr,
		"--trust", t.path("ca.pem"), "--ledger", t.file(".jsonl"), "--answer-timeout", "1s", "--connect-timeout", "2s", "--dns-timeout", "2s",
		"--block-page", knownPortalAddr, "--drain", "3s", "--trial", t.name, "--vantage", "matrix"}
	s := sides[t.side]
	if user := s.user; s.address != "" {
		if user != "" {
			user += "@"
		}
		args = append(args, "--parent", "http://"+user+s.address)
	}
	if t.captured() {
		args = append(args, "--"+t.way, fmt.Sprintf("[::]:%d", t.capturePort(t.side)), "--dns", t.nameServer(t.side)+":53")
	}
	args = append(args, s.flags...)
	log, err := os.Create(t.file(".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	t.serve = exec.Command(program, args...)
	t.serve.Stdout, t.serve.Stderr = log, log
	if err := t.proxy.Start(t.serve); err != nil {
		return err
	}
	for begun := time.Now(); !bytes.Contains(t.log(), []byte("listening")); {
		if ctx.Err() != nil || time.Since(begun) > 20*time.Second {
			return fmt.Errorf("egressaudit %s: does not listen: %w: %s", strings.Join(args, " "), ctx.Err(), tail(t.log()))
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// log is what egressaudit has said so far.
func (t *trial) log() []byte {
	text, _ := os.ReadFile(t.file(".log"))
	return text
}

// catalog lists each cell's host as an endpoint.
func (t *trial) catalog() string {
	var b strings.Builder
	b.WriteString("schema: egressaudit/catalog/1\nname: matrix\ntitle: the cells of the matrix\nrevision: \"1\"\nsource: {title: matrix, url: \"https://example.com/matrix\"}\nrequirements:\n")
	for _, c := range t.cells {
		if c.unlisted {
			continue
		}
		protocol := "https"
		if c.get {
			protocol = "http"
		}
		hosts := fmt.Sprintf("%q", c.host)
		if c.beside {
			hosts += fmt.Sprintf(", %q", c.companion())
		}
		fmt.Fprintf(&b, "  - {id: cell-%d, scope: extension, hosts: [%s], port: %d, protocol: %s, purpose: %q", c.n, hosts, c.port, protocol, c.cause)
		if c.needs != "" {
			fmt.Fprintf(&b, ", needs: [%s]", c.needs)
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// end stops egressaudit and makes the report of its ledger.
func (t *trial) end(program string) (*report, error) {
	t.serve.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(20*time.Second, func() { t.serve.Process.Kill() })
	defer late.Stop()
	if err := t.serve.Wait(); err != nil {
		return nil, fmt.Errorf("egressaudit serve of %q: %w: %s", t.side, err, tail(t.log()))
	}
	var out, said bytes.Buffer
	c := exec.Command(program, "report", "--format", "json", "--catalog", t.file(".yaml"), t.file(".jsonl"))
	c.Stdout, c.Stderr = &out, &said
	err := c.Run()
	var status *exec.ExitError
	if err != nil && (!errors.As(err, &status) || status.ExitCode() == 2) {
		return nil, fmt.Errorf("egressaudit report of %q: %w: %s", t.side, err, said.String())
	}
	os.WriteFile(t.file(".json"), out.Bytes(), 0o644)
	return readReport(out.Bytes())
}

// play tries all cells of a world, some at once, and judges them.
func (b *built) play(ctx context.Context, program, self string, slots chan struct{}) ([]result, error) {
	all := b.trials()
	for _, t := range all {
		if err := t.begin(ctx, program); err != nil {
			return nil, err
		}
	}
	met := map[*cell]error{}
	var mu sync.Mutex
	var running sync.WaitGroup
	for _, c := range b.cells {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			err := b.try(ctx, c, self)
			mu.Lock()
			met[c] = err
			mu.Unlock()
		})
	}
	running.Wait()
	var out []result
	var errs []error
	for _, t := range all {
		r, err := t.end(program)
		errs = append(errs, err)
		for _, c := range t.cells {
			out = append(out, judge(c, r, met[c]))
		}
		if err == nil {
			errs = append(errs, r.whole(t.cells))
		}
	}
	return out, errors.Join(errs...)
}
