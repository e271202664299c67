package report

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// dice makes records of bytes.
type dice struct{ b *bytes.Reader }

func (d dice) roll(n int) int {
	c, err := d.b.ReadByte()
	if err != nil {
		return 0
	}
	return int(c) % n
}

func pick[T any](d dice, list ...T) T { return list[d.roll(len(list))] }

// record is any record, most often a plausible one.
func (d dice) record(seq int, now time.Time) *policy.Record {
	r := &policy.Record{Schema: 1, Seq: uint64(seq), Time: now, Vantage: pick(d, "pod", "pod", "admin", "\x1b[2J"),
		Phase: pick(d, "", "a", "\u202e"), Kind: pick(d, policy.KindConnection, policy.KindConnection, policy.KindConnection, policy.KindQuery,
			policy.KindRequest, policy.KindStart, policy.KindStop, policy.KindMark, policy.KindLost, policy.KindEvent, "odd")}
	switch r.Kind {
	case policy.KindStart, policy.KindStop:
		if d.roll(8) > 0 {
			r.Session = &policy.Session{Canary: pick(d, canaryName, "", "\x00"), NoProxy: pick(d, nil, []string{".example.org"}, []string{"*"}),
				Listeners: pick(d, []string{"connect 127.0.0.1:1", "dns 127.0.0.1:53"}, nil, []string{"tproxy [::]:1", "dns x", ""})}
		}
	case policy.KindMark:
		r.Text = pick(d, "phase", "\x00")
	case policy.KindLost:
		r.Count = pick(d, 1, 0, -1)
	case policy.KindEvent:
		r.Reason, r.Count = pick(d, "Failed", "\x1b[2J"), pick(d, 1, 0, -1, 1<<60)
		r.Text = pick(d, pull("quay.io/a", "https://cdn1.quay.io:443/x"), "lookup jobs.example.org on 10.0.0.1:53: no such host", "https://[", `image "`, "\u202e")
		if d.roll(8) > 0 {
			r.Observation = &policy.Observation{Workload: pick(d, "ns/pod", "")}
		}
	default:
		if d.roll(16) > 0 {
			r.Observation = d.observation()
		}
	}
	return r
}

func (d dice) observation() *policy.Observation {
	names := []string{"quay.io", "quay.io", "cdn1.quay.io", "cdn2.quay.io", "jobs.example.org", "eastus.r.example.org", "westus.r.example.org",
		"old.example.org", "other.example", "10.0.0.1", "x.svc", "", "\x1b]0;x\x07", canaryName, "169.254.169.254", "::1", "..", "xn--",
		"quay.io.corp.example.com", "other.example.corp.example.com", "quay.io.ns.svc.cluster.local", "203.0.113.1"}
	return &policy.Observation{
		ID: pick(d, "", "1", "2"), Open: d.roll(3) == 0, Origin: pick(d, policy.OriginClient, policy.OriginClient, "", policy.OriginProbe, policy.OriginCanary, policy.OriginCheck),
		Listener: pick(d, "connect", "http", "redirect", "tproxy", "odd"), Name: pick(d, names...), Asked: pick(d, names...), SNI: pick(d, names...),
		SNIState: pick(d, policy.SNIPresent, policy.SNIECH, policy.SNIAbsent, policy.SNIUnparsed), Port: pick[uint16](d, 443, 443, 443, 80, 0),
		Type: pick(d, "A", "A", "AAAA", "HTTPS", ""), Client: pick(d, netip.AddrPort{}, netip.MustParseAddrPort("10.1.0.1:1"), netip.MustParseAddrPort("10.1.0.2:1"), netip.MustParseAddrPort("[fe80::1%x]:0")), ResolveMS: pick[int64](d, 0, 0, 3, -1, 1<<62), RCode: pick(d, "", "NOERROR", "NXDOMAIN"), Answers: pick(d, nil, []string{"203.0.113.1"}, []string{"203.0.113.1", "::ffff:203.0.113.2", "1 . ipv4hint=\"203.0.113.3\"", "..:."}),
		Workload: pick(d, "", "ns/pod", "\u2066"), DurationMS: pick[int64](d, 0, 5, 1500, -1, 1<<62), BytesUp: pick[int64](d, 0, 1<<62, -1),
		Address: pick(d, netip.AddrPort{}, netip.MustParseAddrPort("203.0.113.1:443"), netip.MustParseAddrPort("[::ffff:203.0.113.1]:443"), netip.MustParseAddrPort("[fe80::1%x]:0")),
		Detail: pick(d, nil, map[string]any{"alpn": pick[any](d, []any{"h3", 7}, "h3", nil), "ech": d.roll(2) == 0, "ech_stripped": pick[any](d, true, false, "x")}, map[string]any{"issuer": "CN=\x1b[0m"}, map[string]any{"rcode": []any{"x", nil}, "status": 403.0},
			map[string]any{"hello_bytes": pick[any](d, 1517.0, 1800, "x"), "direct": d.roll(2) == 0}, map[string]any{"close": pick(d, "rst", "fin", "\x00"), "idle_ms": pick[any](d, 60000.0, 61000, int64(-1), 1e300, nil)},
			map[string]any{"addresses": pick[any](d, []string{"0.0.0.0", "x"}, []any{"0.0.0.0", 7}, "0.0.0.0")}),
		Verdict: policy.Verdict{
			Outcome: pick(d, policy.OK, policy.OK, policy.Failed, policy.Failed, policy.Denied, policy.Abandoned, "", "odd"),
			Stage:   pick(d, policy.StageResolve, policy.StageConnect, policy.StageHello, policy.StageHandshake, policy.StageData, policy.StageParent, policy.StagePolicy, ""),
			Error: pick(d, policy.DNSError, policy.ConnectionTimeout, policy.ConnectionTerminated, policy.TLSIntercepted, policy.ParentError, policy.ConnectionReadTimeout, policy.DNSSinkhole, policy.NotTLSReply,
				policy.DestinationProhibited, policy.HTTPRequestDenied, "", "odd"),
			By: pick(d, policy.ByNetwork, policy.ByResolver, ""), Confidence: pick(d, policy.Certain, policy.Likely, policy.Guess, "", "odd"),
		},
	}
}

// FuzzRecords adds random records with snapshots in between. It never panics,
// everything can be written, and clear is never said of a trial of which a
// naive reading says that it had a fault.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x00\x05\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add(bytes.Repeat([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, 60))
	c := cat("c", "a x quay.io,*.quay.io need=no-tls-inspection any_of=g", "b x jobs.example.org", "c x <region>.r.example.org any_of=g",
		"d y jobs.example.org port=80 optional", "e x old.example.org until=2025-01-01")
	rng := rand.NewChaCha8([32]byte{7})
	for range 400 { // plausible trials: mutation alone rarely makes a long one
		b := make([]byte, rng.Uint64()%1200)
		rng.Read(b)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		d := dice{bytes.NewReader(in)}
		e := New(Options{Catalogs: []*policy.Catalog{c}, Scopes: pick(d, nil, []string{"x"}, []string{"y"})})
		var records []*policy.Record
		now := epoch
		for i := 1; d.b.Len() > 0 && i < 200; i++ {
			now = now.Add(time.Duration(d.roll(200)) * 100 * time.Millisecond)
			r := d.record(i, now)
			records = append(records, r)
			e.Add(r)
			if i%16 == 0 {
				e.Report()
			}
		}
		r := e.Report()
		require.NoError(t, r.WriteJSON(io.Discard))
		var b bytes.Buffer
		format := Formats[len(in)%len(Formats)] // one a run, for all would leave no time for the records
		require.NoError(t, r.Write(&b, format, TextOptions{}))
		if format == "html" {
			requirePage(t, b.Bytes())
		}
		require.NoError(t, r.WriteText(io.Discard, TextOptions{Width: 40 + d.roll(100), Color: true}))
		requireShape(t, r)
		for _, p := range told(r) {
			require.GreaterOrEqual(t, len(p.Evidence), minSample, p.Text)
			require.Regexp(t, "; confidence: (likely|guess)$", p.Text)
		}
		requireNobodyInnocent(t, r, records)
		fail, err := ParseFailOn("blocked,partial,reached,resolved,unlisted")
		require.NoError(t, err)
		require.Equal(t, r.Verdict == Clear, r.ExitStatus(fail) == 0)
		if r.Verdict == Clear {
			requireNaivelyClear(t, r, records)
		}
	})
}

// requireNobodyInnocent: whoever is accused of a bypass with certainty looked up
// what the evidence says, and has no connection that was recorded after it and
// lasted over it, or began within the window.
func requireNobodyInnocent(t *testing.T, r *Report, records []*policy.Record) {
	t.Helper()
	for _, f := range only(r, Bypass) {
		for _, seq := range f.Evidence {
			q := records[seq-1]
			require.Equal(t, policy.KindQuery, q.Kind)
			require.Equal(t, policy.OK, q.Outcome)
			for _, c := range records {
				if c.Observation == nil || c.Kind == policy.KindQuery || c.Origin == policy.OriginProbe || c.Origin == policy.OriginCanary || c.ID != "" {
					continue
				}
				near := q.Time.Sub(c.Time).Abs() <= DefaultBypassWindow
				same := machine(c.Client.Addr()) == machine(q.Client.Addr())
				require.False(t, near && same && c.Name == q.Name && c.Outcome == policy.OK, "record %d explains %d: %s", c.Seq, seq, f.Text)
			}
		}
	}
}

// requireNaivelyClear reads the records as simply as can be: none was lost, no
// required literal host has failures alone, none has a failure behind its last
// success, nothing unlisted was let through.
func requireNaivelyClear(t *testing.T, r *Report, records []*policy.Record) {
	t.Helper()
	worked, failedOnly := map[string]bool{}, map[string]bool{}
	for _, rec := range records {
		require.NotEqual(t, policy.KindLost, rec.Kind)
		o := rec.Observation
		if o == nil || rec.Kind == policy.KindQuery || rec.Kind == policy.KindStart || o.Origin == policy.OriginProbe || o.Origin == policy.OriginCanary || o.ID != "" {
			continue
		}
		switch {
		case o.Outcome == policy.OK:
			worked[o.Name] = worked[o.Name] || o.Port == 443
			require.NotContains(t, []string{"other.example", "old.example.org"}, o.Name, "unlisted, and let through")
		case o.Outcome == policy.Failed && o.Port == 443:
			failedOnly[o.Name] = true
		}
	}
	some := false
	for _, e := range r.Endpoints {
		some = some || e.Required && e.Status == Used
		if n, err := policy.ParseName(e.Host); err == nil && e.Required && e.Port == 443 && failedOnly[n.String()] {
			require.True(t, worked[n.String()] || anyOpen(records), "%s failed and never worked", n)
		}
	}
	require.True(t, some, "clear without a required endpoint that was used")
}

// anyOpen says whether records have ids, which the naive reading leaves out.
func anyOpen(records []*policy.Record) bool {
	for _, r := range records {
		if r.Observation != nil && r.ID != "" {
			return true
		}
	}
	return false
}
