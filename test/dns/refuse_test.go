//go:build linux

package dns

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// TestRefused asks what is not passed on, of a server that would answer it all.
func TestRefused(t *testing.T) {
	need(t)
	n := network(t)
	transfer := map[string]any{"why": "zone transfers are not passed on"}
	for _, row := range []struct {
		name, args string
		says       string // where we are asked
		direct     string // where the server itself is
		wants      []want
	}{
		{"AXFR", "dig @ lab.example AXFR", "Transfer failed", "SOA\tns.lab.example.",
			[]want{{name: "lab.example", kind: "AXFR", via: "tcp", rcode: "REFUSED", outcome: policy.Denied, detail: transfer}}},
		{"IXFR", "dig @ lab.example IXFR=1", "Transfer failed", "SOA\tns.lab.example.",
			[]want{{name: "lab.example", kind: "IXFR", via: "tcp", rcode: "REFUSED", outcome: policy.Denied, detail: transfer}}},
		{"IXFR over UDP", "kdig @ lab.example IXFR=1 +notcp", "REFUSED", "SOA",
			[]want{{name: "lab.example", kind: "IXFR", via: "udp", rcode: "REFUSED", outcome: policy.Denied, detail: transfer}}},
		{"NOTIFY", "kdig @ -t NOTIFY lab.example", "NOTIMPL", "NOTIFY", nil},
		{"another opcode", "dig @ +opcode=STATUS lab.example", "NOTIMP", "status: ", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			require.Contains(t, ask(t, n.authority, row.args), row.direct)
			l := between(t, n.authority, "", nil)
			require.Contains(t, ask(t, l.front.at, row.args), row.says)
			holds(t, "", l.queries(t), row.wants...)
			passed, _ := l.back.packets()
			require.Empty(t, passed, "nothing reaches the server")
		})
	}
}

// TestUpdate has nsupdate send what the server would take.
func TestUpdate(t *testing.T) {
	need(t)
	l := between(t, network(t).authority, "", nil)
	said := feed(t, "server "+hostOf(l.front.at)+"\nzone lab.example\nupdate add new.lab.example 60 A 192.0.2.77\nsend\n", "/usr/bin/nsupdate")
	require.Contains(t, said, "NOTIMP")
	passed, _ := l.back.packets()
	for _, p := range passed {
		require.Zero(t, p[0]&0x78, "only questions are passed on: %x", p)
	}
	for _, r := range l.queries(t) {
		require.Equal(t, "SOA", r.Type, "nsupdate looks for the zone, nothing more")
	}
	require.Contains(t, ask(t, network(t).authority, "dig @ new.lab.example"), "status: NXDOMAIN")
}

// TestRate lets each client ask five questions a second.
func TestRate(t *testing.T) {
	need(t)
	l := between(t, network(t).authority, "", nil, "--dns-rate", "5")
	said := feed(t, strings.Repeat("www.lab.example A\n", 200), "/usr/bin/dnsperf", "-s", hostOf(l.front.at), "-n", "1", "-q", "50", "-c", "1")
	require.Regexp(t, `Queries lost: +0 `, said, "each one is answered")
	answered, denied := 0, 0
	for _, r := range l.queries(t) {
		switch r.Outcome {
		case policy.OK:
			answered++
		case policy.Denied:
			denied++
			require.Equal(t, policy.ConnectionLimitReached, r.Error)
			require.Equal(t, "REFUSED", r.RCode)
			require.Equal(t, policy.BySelf, r.By)
		}
	}
	require.Equal(t, 200, answered+denied)
	require.Regexp(t, fmt.Sprintf(`REFUSED %d `, denied), said)
	require.GreaterOrEqual(t, answered, 5)
	require.Less(t, answered, 100, "five a second, and dnsperf is done in less than one")
	passed, _ := l.back.packets()
	require.Len(t, passed, answered)
}

// TestClients lets one address ask, and nobody else: not even a word comes back.
func TestClients(t *testing.T) {
	need(t)
	friend, stranger := address(), address()
	f := serve(t, network(t).authority, "--clients", friend+"/32")
	for _, over := range []string{"+notcp", "+tcp"} {
		require.Contains(t, ask(t, f.at, "dig @ +tries=1 +time=1 +nocookie www.lab.example -b "+stranger, over), "no servers could be reached")
		require.Contains(t, ask(t, f.at, "dig @ +tries=1 +nocookie www.lab.example -b "+friend, over), "192.0.2.1")
	}
	records := f.queries(t)
	require.Len(t, records, 2)
	for _, r := range records {
		require.Equal(t, friend, r.Client.Addr().String())
	}
}
