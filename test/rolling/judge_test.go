package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// world is a restart that went well: two replicas, each with a connection and a
// tunnel that it cut when its drain was over, and what the load saw of that.
type world struct {
	result  Result
	records [2][]policy.Record
	spared  [2]time.Time
}

func goodWorld() *world {
	begun := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w := &world{result: Result{Rate: Rate{Asked: 500, Held: 450}, Connections: Count{Begun: 2, OK: 2}, Tunnels: Count{Begun: 2, OK: 2}}}
	for n := range w.records {
		w.spared[n] = begun.Add(time.Duration(n+1) * time.Minute)
		cut := w.spared[n].Add(time.Millisecond)
		w.result.Cuts = append(w.result.Cuts, Cut{Opened: begun, Cut: cut})
		w.records[n] = []policy.Record{
			{Kind: policy.KindStart, Time: begun, Session: &policy.Session{}},
			closed(begun, policy.OriginClient, nil), closed(cut, policy.OriginClient, map[string]any{"why": "drain"}),
			closed(cut, policy.OriginCanary, nil),
			{Kind: policy.KindStop, Time: cut, Session: &policy.Session{}},
		}
	}
	return w
}

func closed(at time.Time, origin policy.Origin, detail map[string]any) policy.Record {
	return policy.Record{Kind: policy.KindConnection, Time: at,
		Observation: &policy.Observation{Kind: policy.KindConnection, Origin: origin, Verdict: policy.Verdict{Outcome: policy.OK}, Detail: detail}}
}

// remove takes the n-th record of the first replica away.
func (w *world) remove(n int) { w.records[0] = append(w.records[0][:n:n], w.records[0][n+1:]...) }

// judged is what the command says of a world: its exit status, and stderr.
func (w *world) judged(t *testing.T) (int, string) {
	dir := t.TempDir()
	args := []string{"-judge", filepath.Join(dir, "load.json"), "-floor", "400"}
	text, err := json.Marshal(w.result)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(args[1], text, 0o600))
	for n, records := range w.records {
		path := filepath.Join(dir, fmt.Sprintf("%d.jsonl", n))
		var b bytes.Buffer
		for i, r := range records {
			r.Schema, r.Seq = policy.SchemaVersion, uint64(i+1)
			require.NoError(t, json.NewEncoder(&b).Encode(r))
		}
		require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
		args = append(args, path+"="+w.spared[n].Format(time.RFC3339Nano))
	}
	var stdout, stderr bytes.Buffer
	return run(args, &stdout, &stderr), stderr.String()
}

// TestJudge: a good restart passes, and whatever is wrong in one is named.
func TestJudge(t *testing.T) {
	status, said := goodWorld().judged(t)
	require.Zero(t, status, said)

	for _, c := range []struct {
		what  string
		spoil func(*world)
		names string
	}{
		{"the rate was not held", func(w *world) { w.result.Rate.Held = 399 }, "fewer than 400"},
		{"a connection failed", func(w *world) {
			w.result.Connections.Failed, w.result.Failures = 1, []Failure{{Step: "dial", Error: "refused"}}
		}, "1 failed, first"},
		{"a tunnel failed", func(w *world) { w.result.Tunnels.Failed, w.result.Failures = 1, []Failure{{Step: "connect"}} }, "1 failed, first"},
		{"nothing was restarted", func(w *world) {
			w.result.Cuts = nil
			for n := range w.records {
				w.records[n][2].Detail = nil
			}
		}, "no restart under load"},
		{"a connection has no record", func(w *world) { w.remove(1) }, "4 connections and tunnels, 3 records"},
		{"a record too many", func(w *world) { w.records[0][3].Origin = policy.OriginClient }, "4 connections and tunnels, 5 records"},
		{"a record stays open", func(w *world) { w.records[0][1].Open = true }, "3 records"},
		{"a connection that was not ok", func(w *world) { w.records[0][1].Outcome = policy.Failed }, "1 connections were not ok, first record 2: failed"},
		{"no stop", func(w *world) { w.remove(4) }, "no stop"},
		{"a stop is missing in between", func(w *world) { w.records[0][3] = w.records[0][0] }, "record 4: another start"},
		{"records lost", func(w *world) { w.records[0][3] = policy.Record{Kind: policy.KindLost, Count: 7, Why: "disk full"} }, "7 records lost"},
		{"the client saw a cut too early", func(w *world) { w.result.Cuts[1].Cut = w.spared[1].Add(-time.Second) }, "a tunnel was cut at 2026-01-01T00:01:59Z"},
		{"the replica cut too early", func(w *world) { w.records[1][2].Time = w.spared[1].Add(-time.Second) }, "1.jsonl: a tunnel was cut at 2026-01-01T00:01:59Z"},
		{"a cut that no replica knows", func(w *world) { w.records[0][2].Detail = nil }, "2 tunnels were cut, the ledgers tell of 1"},
	} {
		w := goodWorld()
		c.spoil(w)
		status, said := w.judged(t)
		require.Equal(t, 1, status, c.what)
		require.Contains(t, said, c.names, c.what)
	}
}

// TestJudgeUsage: what it is not told right is trouble, not a verdict.
func TestJudgeUsage(t *testing.T) {
	for _, args := range [][]string{{"-judge", "no-such.json", "a=2026-01-01T00:00:00Z"}, {"-judge", "x"}, {"-judge", "x", "a"}, {"-judge", "x", "a=now"}} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, 2, run(args, &stdout, &stderr), "%v", args)
		require.NotEmpty(t, stderr.String())
	}
}
