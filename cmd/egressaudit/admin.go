package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/policy/live"
	"github.com/egressaudit/egressaudit/policy/report"
)

// adminFlags are the flags of the admin address.
type adminFlags struct {
	listen    string
	tokenFile string
}

func (a *adminFlags) register(c *cobra.Command) {
	group(c, "The admin address", func(f *pflag.FlagSet) {
		f.StringVar(&a.listen, "admin", "", "`ADDRESS:PORT` for the live page, health, metrics and marks, such as "+adminDoor.example+" (default none)")
		f.StringVar(&a.tokenFile, "admin-token-file", "", "`FILE` with the token that page and marks need; demanded beyond loopback (default none)")
	})
}

// minToken is how many characters a token has at least.
const minToken = 16

// token reads --admin-token-file.
func (a *adminFlags) token() (string, error) {
	if a.tokenFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(a.tokenFile)
	if err != nil {
		return "", fmt.Errorf("--admin-token-file %q: %w", a.tokenFile, cause(err))
	}
	token := string(bytes.TrimSpace(b))
	if len(token) < minToken || strings.ContainsFunc(token, func(r rune) bool { return r > unicode.MaxASCII || unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return "", hinted(fmt.Errorf("--admin-token-file %q: a token has %d printable characters or more, without blanks", a.tokenFile, minToken),
			"make one: openssl rand -hex 32 > %s", a.tokenFile)
	}
	return token, nil
}

// admin is the admin address in use; the zero one is none.
type admin struct {
	token    string
	listener net.Listener
	server   atomic.Pointer[live.Server]
	stopping atomic.Bool
}

// open binds the address.
func (f *adminFlags) open() (*admin, error) {
	a := &admin{}
	var err error
	if a.token, err = f.token(); err != nil {
		return nil, err
	}
	if f.listen == "" {
		if a.token != "" {
			return nil, adminDoor.missing("--admin-token-file")
		}
		return a, nil
	}
	at, err := adminDoor.address(f.listen)
	if err != nil {
		return nil, err
	}
	if !at.Addr().IsLoopback() && a.token == "" {
		return nil, hinted(fmt.Errorf("--admin %q: others than this host could %s", f.listen, adminDoor.use), "name a token: --admin-token-file FILE")
	}
	a.listener, err = adminDoor.tcp(f.listen)
	return a, err
}

func (a *admin) address() []netip.AddrPort {
	if a.listener == nil {
		return nil
	}
	return []netip.AddrPort{bound(a.listener.Addr())}
}

// page is the live page's address, "" without one.
func (a *admin) page() string {
	if a.listener == nil {
		return ""
	}
	return "http://" + a.listener.Addr().String() + "/"
}

// observe counts what the trial sees.
func (a *admin) observe(o *policy.Observation) {
	if s := a.server.Load(); s != nil {
		s.Observe(o)
	}
}

// serve answers for t.
func (a *admin) serve(t *trial) {
	if a.listener == nil {
		return
	}
	s := live.New(live.Config{
		Token: a.token, Mark: t.ledger.Mark, Written: t.ledger.Sync, Lost: t.ledger.Lost, Metrics: t.metrics(), Against: t.against(),
		Records: func(ctx context.Context, idle func()) iter.Seq2[*policy.Record, error] {
			return ledger.Watch(ctx, t.path, idle)
		},
		Ready: func() error {
			if a.stopping.Load() {
				return errors.New("stopping")
			}
			return t.ledger.Err()
		},
	})
	a.server.Store(s)
	go s.Serve(a.listener)
}

// hold holds the page against what is required now.
func (a *admin) hold(t *trial) {
	if s := a.server.Load(); s != nil {
		s.Hold(t.against())
	}
}

// against is what the trial is held against, of its page and in the end.
func (t *trial) against() report.Options {
	return report.Options{
		Catalogs: t.catalogs, Index: t.index.Load(), Scopes: t.session.Scopes, BypassWindow: windowOf(&t.session),
		Files: []string{t.path}, Version: version(),
	}
}

// shut ends the answering.
func (a *admin) shut() {
	if s := a.server.Load(); s != nil {
		now, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		s.Shutdown(now)
	} else if a.listener != nil {
		a.listener.Close()
	}
}

// metrics are the figures beside the observations.
func (t *trial) metrics() []live.Metric {
	out := []live.Metric{
		{Name: "tunnels", Help: "Connections open now.", Value: func() float64 { return float64(t.proxy.Open()) }},
		{Name: "ledger_lag_seconds", Help: "Age of the oldest record that is not on the disk yet; 0 where all are.", Value: func() float64 { return t.ledger.Lag().Seconds() }},
		{Name: "ledger_lost_total", Help: "Records that could not be written. Above 0 no report of this ledger is an all-clear, though /readyz stays green for the traffic.", Grows: true, Value: func() float64 { return float64(t.ledger.Lost()) }},
	}
	out = append(out, t.cluster.metrics()...)
	if t.names.forwarder == nil {
		return out
	}
	for _, m := range []struct {
		name, help string
		of         func(dnsStats) uint64
	}{
		{"questions", "Questions read from clients.", func(s dnsStats) uint64 { return s.Questions }},
		{"malformed", "Packets answered with FORMERR.", func(s dnsStats) uint64 { return s.Malformed }},
		{"dropped", "Packets without an answer: answers themselves, or no DNS.", func(s dnsStats) uint64 { return s.Dropped }},
		{"strangers", "Packets and connections of nobody's clients.", func(s dnsStats) uint64 { return s.Strangers }},
		{"denied", "Questions that were refused: zone transfers, rate, limit.", func(s dnsStats) uint64 { return s.Denied }},
		{"ignored", "Packets of upstreams that answered no question: late or forged.", func(s dnsStats) uint64 { return s.Ignored }},
		{"unrecorded", "Questions whose record the ledger did not take.", func(s dnsStats) uint64 { return s.Unrecorded }},
	} {
		out = append(out, live.Metric{Name: "dns_" + m.name + "_total", Help: m.help, Grows: true, Value: func() float64 {
			return float64(m.of(t.names.forwarder.Stats()))
		}})
	}
	return out
}

// markTime is how long a mark may take.
const markTime = 10 * time.Second

func newMark() *cobra.Command {
	var a adminFlags
	c := &cobra.Command{
		Use:   "mark [flags] TEXT",
		Short: "Name a phase of the trial that serve is recording",
		Long: `mark tells a running serve, at its --admin address, that a phase of the trial
begins: what is recorded from now on belongs to it, and the report groups by it.

Exit status: 0 marked, 2 trouble.`,
		Example: `  egressaudit mark 'install the extension'`,
		Args:    wants(1, "the name of a phase"),
		RunE: func(c *cobra.Command, args []string) error {
			if strings.TrimSpace(args[0]) == "" {
				return hinted(errors.New("mark wants the name of a phase, and that is empty"), "write %s", c.UseLine())
			}
			return a.mark(c.Context(), args[0])
		},
	}
	group(c, "The daemon", func(f *pflag.FlagSet) {
		f.StringVar(&a.listen, "admin", adminDoor.example, "`ADDRESS:PORT` of its --admin")
		f.StringVar(&a.tokenFile, "admin-token-file", "", "`FILE` with its token (default none)")
	})
	return c
}

// mark asks a daemon to name a phase.
func (a *adminFlags) mark(ctx context.Context, text string) error {
	token, err := a.token()
	if err != nil {
		return err
	}
	if _, err := adminDoor.address(a.listen); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, markTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+a.listen+"/api/mark", strings.NewReader(text))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "text/plain; charset=utf-8")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	direct := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy: it would be ours
	resp, err := direct.Do(r)
	if err != nil {
		return hinted(fmt.Errorf("mark: nothing answers at %s: %w", a.listen, why(err)), "start serve with --admin %s, or name its address with --admin", adminDoor.example)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // what it says is for people
	return fmt.Errorf("mark: %s says %s: %s", a.listen, resp.Status, report.Escape(strings.TrimSpace(string(b))))
}

// why is what the system said of a call, without the call.
func why(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}
