//go:build linux

package dns

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/test/suite"
)

// forwarder is egressaudit serve with --dns.
type forwarder struct {
	*daemon
	at     string // of its DNS door
	ledger string
	ended  bool
}

// serve starts it in front of a resolver.
func serve(t *testing.T, resolver string, flags ...string) *forwarder {
	t.Helper()
	host := address()
	f := &forwarder{at: host + ":53", ledger: filepath.Join(t.TempDir(), "ledger.jsonl")}
	args := append([]string{suite.Program(t), "serve", "--proxy", host + ":3128", "--dns", f.at, "--resolver", resolver, "--ledger", f.ledger}, flags...)
	var err error
	f.daemon, err = spawn(args...)
	require.NoError(t, err)
	t.Cleanup(func() { f.stop(syscall.SIGKILL) })
	f.awaits(t)
	return f
}

// awaits waits until the door is open. NOTIFY is nobody's question, and so makes
// no observation; who may not ask is let in and shown out.
func (f *forwarder) awaits(t *testing.T) {
	t.Helper()
	client := dns.Client{Net: "tcp", Timeout: patience}
	knock := new(dns.Msg).SetNotify("lab.example.")
	require.Eventually(t, func() bool {
		select {
		case <-f.done:
			return true
		default:
		}
		m, _, err := client.Exchange(knock, f.at)
		return err == nil && m.Rcode == dns.RcodeNotImplemented || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
	}, patience, tick, "the forwarder answers")
	select {
	case <-f.done:
		require.FailNow(t, "serve ended", "%s", f.said.Bytes())
	default:
	}
}

// queries ends the forwarder and reads its ledger: the questions in the order of
// their end.
func (f *forwarder) queries(t *testing.T) []*policy.Record {
	t.Helper()
	if !f.ended {
		f.ended = true
		require.Zero(t, f.stop(syscall.SIGTERM), "%s", f.said.String())
	}
	var all []*policy.Record
	for r, err := range ledger.Read(f.ledger) {
		require.NoError(t, err)
		if r.Kind == policy.KindQuery && r.Origin != policy.OriginCanary {
			all = append(all, r)
		}
		require.NotEqual(t, policy.KindLost, r.Kind)
	}
	return all
}

// line is a forwarder between two taps.
type line struct {
	*forwarder
	front, back *tap
}

// between sets a line up in front of a name server; scheme stands before the
// address of the upstream, for it to be asked over TCP alone.
func between(t *testing.T, server, scheme string, pass func([]byte, func([]byte)), flags ...string) *line {
	t.Helper()
	back := listen(t, server, pass)
	f := serve(t, scheme+back.at, flags...)
	return &line{f, listen(t, f.at, nil), back}
}

// faithful holds that every question went on as it came, and every answer came
// back as it was: but for the ID, no octet is another.
func (l *line) faithful(t *testing.T) {
	t.Helper()
	asked, told := l.front.packets()
	passed, heard := l.back.packets()
	require.NotEmpty(t, asked)
	same(t, asked, passed)
	same(t, heard, told)
}

// same compares packets, and shows of those that differ no more than a screen.
func same(t *testing.T, want, got [][]byte) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		if !bytes.Equal(want[i], got[i]) {
			require.FailNow(t, "packets differ", "%d octets: %.200x\n%d octets: %.200x", len(want[i]), want[i], len(got[i]), got[i])
		}
	}
}

// ask runs dig, kdig or another client against ADDRESS:PORT, and returns what it
// prints.
func ask(t *testing.T, at, args string, more ...string) string {
	t.Helper()
	words := append(strings.Fields(strings.Replace(args, "@", "@"+hostOf(at), 1)), more...)
	c := exec.Command("/usr/bin/"+words[0], words[1:]...)
	c.Env = []string{"HOME=" + t.TempDir(), "LANG=C.UTF-8"}
	out, err := c.CombinedOutput()
	if _, ended := err.(*exec.ExitError); !ended {
		require.NoError(t, err)
	}
	return string(out)
}

// feed runs a program that reads its work from standard input.
func feed(t *testing.T, input string, args ...string) string {
	t.Helper()
	c := exec.Command(args[0], args[1:]...)
	c.Stdin = strings.NewReader(input)
	out, err := c.CombinedOutput()
	if _, ended := err.(*exec.ExitError); !ended {
		require.NoError(t, err)
	}
	return string(out)
}

func hostOf(at string) string {
	host, _, _ := strings.Cut(at, ":")
	return host
}

// want is what a ledger record of a question says. An empty Detail is none.
type want struct {
	name, kind, via, rcode string
	answers, cnames        []string
	outcome                policy.Outcome // "": ok
	err                    policy.Error
	detail                 map[string]any
}

// holds compares the records of all questions, and their upstream.
func holds(t *testing.T, upstream string, records []*policy.Record, all ...want) {
	t.Helper()
	require.Len(t, records, len(all))
	for i, w := range all {
		r := records[i]
		if w.outcome == "" {
			w.outcome = policy.OK
		}
		got := want{r.Name, r.Type, r.Transport, r.RCode, sorted(r.Answers), r.CNAMEs, r.Outcome, r.Error, r.Detail}
		w.answers = sorted(w.answers)
		require.Equal(t, w, got)
		require.Equal(t, upstream, r.Upstream)
		require.True(t, r.Client.Addr().IsLoopback(), "who asked: %v", r.Client)
	}
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }
