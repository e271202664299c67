//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
)

// pace is the time between two records.
const pace = 36 * time.Millisecond

// world makes observations: of most kinds, at endpoints of both default catalogs
// and at destinations of no list, over as many clients and workloads as a big
// cluster has.
type world struct {
	*rand.Rand
	clock atomic.Int64 // Unix nanoseconds
	n     int
}

func (w *world) now() time.Time { return time.Unix(0, w.clock.Load()) }

var hosts = []string{
	"mcr.microsoft.com", "eastus.data.mcr.microsoft.com", "westus2.data.mcr.microsoft.com", "quay.io", "cdn01.quay.io", "cdn02.quay.io",
	"cdn03.quay.io", "gcr.io", "storage.googleapis.com", "registry-1.docker.io", "auth.docker.io", "production.cloudflare.docker.com",
	"login.microsoftonline.com", "management.azure.com", "eastus.dp.kubernetesconfiguration.azure.com", "gbl.his.arc.azure.com",
	"azgnrelay-eastus-l1.servicebus.windows.net", "ingest-x.kusto.windows.net", "pypi.org", "files.pythonhosted.org", "graph.microsoft.com",
}

// next is an observation, a moment after the one before.
func (w *world) next() *policy.Observation {
	w.n++
	at := w.clock.Add(int64(pace))
	host := hosts[w.IntN(len(hosts))]
	if w.IntN(20) == 0 {
		host = fmt.Sprintf("node%d.telemetry%d.example.net", w.IntN(40), w.IntN(50))
	}
	if w.IntN(8) == 0 {
		return &policy.Observation{Kind: policy.KindQuery, Begun: time.Unix(0, at), Client: w.client(), Workload: w.workload(), Name: host, Type: "A",
			Transport: "udp", RCode: "NOERROR", Answers: []string{w.address().Addr().String()}, Upstream: "10.96.0.10:53",
			Verdict: policy.Verdict{Outcome: policy.OK}, DurationMS: w.Int64N(30)}
	}
	o := &policy.Observation{
		Kind: policy.KindConnection, Begun: time.Unix(0, at), ID: fmt.Sprintf("5f3a-%d", w.n), Origin: policy.OriginClient, Listener: "connect",
		Client: w.client(), Workload: w.workload(), Asked: host, SNI: host, SNIState: policy.SNIPresent, Name: host, NameFrom: policy.FromAsked,
		Port: 443, Address: w.address(), Protocol: "tls", ALPN: []string{"h2", "http/1.1"}, TLSVersion: "1.3", Decision: policy.Allow,
		Matches: []policy.Match{{Catalog: "aml-extension", Requirement: "some-requirement", Endpoint: host + ":443"}},
		Verdict: policy.Verdict{Outcome: policy.OK, Stage: policy.StageData, Confidence: policy.Certain},
		BytesUp: 500 + w.Int64N(5000), BytesDown: 4000 + w.Int64N(1e6), ResolveMS: w.Int64N(20), ConnectMS: w.Int64N(80), FirstByteMS: w.Int64N(150),
		DurationMS: w.Int64N(3000), Detail: map[string]any{"hello_bytes": 1500 + w.IntN(400)},
	}
	if w.IntN(25) == 0 {
		o.Verdict = policy.Verdict{Outcome: policy.Failed, Stage: policy.StageHello, Error: policy.ConnectionTerminated, By: policy.ByNetwork, Confidence: policy.Certain}
		o.Detail["close"] = "rst"
	}
	return o
}

func (w *world) client() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(w.IntN(16)), byte(w.IntN(250))}), uint16(32768+w.IntN(28000)))
}

func (w *world) address() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(w.IntN(250))}), 443)
}

func (w *world) workload() string { return fmt.Sprintf("azureml/worker-%d", w.IntN(400)) }

// generate writes n records as parts, ledgers of their own, and the whole: the
// same records in one file, as if each part went on with it after a restart.
func generate(ctx context.Context, dir string, n int) error {
	w := &world{Rand: rand.New(rand.NewPCG(1, 2))}
	w.clock.Store(time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC).UnixNano())
	whole, pieces := names(dir)
	out, err := os.Create(whole)
	if err != nil {
		return err
	}
	defer out.Close()
	all := renumber{out: bufio.NewWriterSize(out, 1<<20)}
	for _, path := range pieces {
		if err := errors.Join(w.part(ctx, path, n/parts), all.add(path)); err != nil {
			return err
		}
	}
	return all.out.Flush()
}

// names are the files that generate makes.
func names(dir string) (whole string, pieces []string) {
	for i := range parts {
		pieces = append(pieces, filepath.Join(dir, fmt.Sprintf("part%d.jsonl", i+1)))
	}
	return filepath.Join(dir, "whole.jsonl"), pieces
}

func (w *world) part(ctx context.Context, path string, n int) error {
	l, err := ledger.Open(path, ledger.Options{Trial: "huge", Vantage: "node", Now: w.now})
	if err != nil {
		return err
	}
	if err := l.Start(&policy.Session{Version: "bench", Listeners: []string{"connect 10.0.0.5:3128", "dns 10.0.0.5:53"}}); err != nil {
		return err
	}
	for i := 0; i < n-2; i++ {
		if err := l.Append(w.next()); err != nil {
			return err
		}
		if i%30_000 == 0 { // or else the disk would be too slow for us
			if err := l.Sync(ctx); err != nil {
				return err
			}
		}
	}
	return l.Stop(&policy.Session{Version: "bench"})
}

// renumber writes the lines of ledgers behind each other, and numbers them anew.
type renumber struct {
	out *bufio.Writer
	seq int
}

func (r *renumber) add(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(make([]byte, 1<<16), 1<<20)
	for s.Scan() {
		_, rest, found := bytes.Cut(s.Bytes(), []byte(`,"time":`))
		if !found {
			return fmt.Errorf("read %q: a line without a time: %.80q", path, s.Bytes())
		}
		r.seq++
		fmt.Fprintf(r.out, `{"schema":1,"seq":%d,"time":`, r.seq) // Flush returns what goes wrong
		r.out.Write(rest)
		r.out.WriteByte('\n')
	}
	return s.Err()
}
