package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func observed(o policy.Observation) *policy.Record {
	o.Kind = policy.KindConnection
	return &policy.Record{Time: noon, Kind: o.Kind, Observation: &o}
}

// TestSelection is which records a filter takes.
func TestSelection(t *testing.T) {
	quay := observed(policy.Observation{Client: netip.MustParseAddrPort("10.1.0.7:1"), Asked: "192.0.2.7", SNI: "CDN.quay.io", Name: "192.0.2.7",
		Address: netip.MustParseAddrPort("192.0.2.7:443"), Verdict: policy.Verdict{Outcome: policy.Failed}})
	odd := observed(policy.Observation{Client: netip.MustParseAddrPort("[::ffff:10.1.0.7]:1"), Name: "not a name", Verdict: policy.Verdict{Outcome: policy.OK}})
	mark := &policy.Record{Time: noon, Kind: policy.KindMark, Text: "quay.io"}
	for _, row := range []struct {
		why  string
		f    filter
		want []*policy.Record
	}{
		{"no filter", filter{}, []*policy.Record{quay, odd, mark}},
		{"kind", filter{kinds: []string{"mark"}}, []*policy.Record{mark}},
		{"the name that was said, in normal form", filter{names: []string{"*.quay.io"}}, []*policy.Record{quay}},
		{"a literal name", filter{names: []string{"cdn.quay.io"}}, []*policy.Record{quay}},
		{"an apex is not its wildcard", filter{names: []string{"quay.io"}}, nil},
		{"one of two", filter{names: []string{"example.org", "*.quay.io"}}, []*policy.Record{quay}},
		{"an address", filter{names: []string{"192.0.2.7"}}, []*policy.Record{quay}},
		{"outcome", filter{outcomes: []string{"ok", "denied"}}, []*policy.Record{odd}},
		{"client, mapped into IPv6 too", filter{clients: []string{"10.1.0.0/16"}}, []*policy.Record{quay, odd}},
		{"another client", filter{clients: []string{"10.1.0.8"}}, nil},
		{"all of several", filter{clients: []string{"10.1.0.7"}, outcomes: []string{"failed"}, kinds: []string{"connection"}}, []*policy.Record{quay}},
		{"since is met", filter{since: "2026-03-01T13:00:00+01:00"}, []*policy.Record{quay, odd, mark}},
		{"until is not", filter{until: "2026-03-01T12:00:00Z"}, nil},
		{"a while back", filter{since: "10m", until: "4m"}, []*policy.Record{quay, odd, mark}},
		{"not so far back", filter{since: "4m"}, nil},
	} {
		s, err := row.f.selection(noon.Add(5 * time.Minute))
		require.NoError(t, err, row.why)
		var got []*policy.Record
		for _, r := range []*policy.Record{quay, odd, mark} {
			if s.match(r) {
				got = append(got, r)
			}
		}
		require.Equal(t, row.want, got, row.why)
	}
}

// TestRowsFit holds what is usual to the width of a terminal.
func TestRowsFit(t *testing.T) {
	for _, o := range []policy.Observation{
		{Asked: "mcr.microsoft.com", Port: 443, Verdict: policy.Verdict{Outcome: policy.OK}},
		{Asked: "eastus.obo.arc.azure.com", Port: 8084, Verdict: policy.Verdict{Outcome: policy.OK}},
		{Asked: "cdn03.quay.io", Port: 443, Verdict: policy.Verdict{Outcome: policy.Failed}},
	} {
		o.Client = netip.MustParseAddrPort("10.244.100.100:40112")
		row := appendRow(nil, observed(o), false)
		require.LessOrEqual(t, len(row), 80+1, "%s", row)
		require.Equal(t, byte('\n'), row[len(row)-1])
	}
}

// sgr are the colours that we write ourselves.
var sgr = regexp.MustCompile("\x1b\\[[0-9]*m")

// FuzzRow demands that no text makes more of a row than one line of printable
// characters, or one without end.
func FuzzRow(f *testing.F) {
	f.Add("\x1b[2J", "a b", "\u202e", int64(3))
	f.Add(strings.Repeat("\u0301", 5000), "\xff\x9b", "\n", int64(-1))
	f.Fuzz(func(t *testing.T, a, b, c string, n int64) {
		o := &policy.Observation{Name: a, Type: c, Method: b, Port: uint16(n), Status: int(n), RCode: c, Answers: []string{b, c},
			Origin: policy.Origin(c), Detail: map[string]any{"why": a, "errno": n, "issuer": []any{b}},
			Verdict: policy.Verdict{Outcome: policy.Outcome(b), Stage: policy.Stage(c), Error: policy.Error(a)}}
		for _, r := range []*policy.Record{
			{Kind: policy.Kind(a), Text: b, Why: c, Count: int(n)}, {Kind: policy.KindQuery, Observation: o},
			{Kind: policy.KindStop, Session: &policy.Session{Version: a, Mode: b, Parent: c, Catalogs: []policy.CatalogRef{{Name: a}}}},
		} {
			row := sgr.ReplaceAllString(string(appendRow(nil, r, true)), "")
			require.True(t, strings.HasSuffix(row, "\n") && strings.Count(row, "\n") == 1, "%q", row)
			require.Less(t, len(row), 40*253)
			require.True(t, utf8.ValidString(row))
			for _, c := range strings.TrimSuffix(row, "\n") {
				require.True(t, unicode.IsPrint(c), "%q", row)
			}
		}
	})
}

// TestShowDoesNotHoldBack is a ledger that comes through a pipe: what is there
// is shown before more comes.
func TestShowDoesNotHoldBack(t *testing.T) {
	in, more := io.Pipe()
	shown, out := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run(t.Context(), []string{"ledger", "show", "-"}, environ{stdin: in, stdout: out, stderr: io.Discard})
		out.Close()
	}()
	rows := bufio.NewReader(shown)
	for n := 1; n < 4; n++ {
		fmt.Fprintf(more, `{"schema":1,"seq":%d,"time":"2026-03-01T12:00:00Z","kind":"mark","text":"m%d"}`+"\n", n, n)
		row, err := rows.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("2026-03-01T12:00:00Z mark       m%d\n", n), row)
	}
	more.Close()
	rest, err := io.ReadAll(rows)
	require.NoError(t, err)
	require.Empty(t, rest)
	require.Equal(t, exitOK, <-done)
}

// TestMuchDamage is told up to a number of places, and then as a number.
func TestMuchDamage(t *testing.T) {
	const bad = maxDamages + 7
	var stdout, stderr bytes.Buffer
	in := `{"schema":1,"seq":1,"kind":"mark"}` + "\n" + strings.Repeat("?\n", bad)
	status := run(t.Context(), []string{"ledger", "show", "--format", "json", "-"}, environ{stdin: strings.NewReader(in), stdout: &stdout, stderr: &stderr})
	require.Equal(t, exitDoubt, status)
	require.Equal(t, `{"schema":1,"seq":1,"kind":"mark"}`+"\n", stdout.String())
	require.Equal(t, maxDamages+1, strings.Count(stderr.String(), "\n"))
	require.True(t, strings.HasSuffix(stderr.String(), "egressaudit: and 7 more places of damage\n"), stderr.String())
}
