package ledger_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
)

// The lines of the package comment.
func Example() {
	dir, _ := os.MkdirTemp("", "ledger")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "trial.jsonl")

	now := time.Date(2026, 3, 1, 11, 59, 59, 0, time.UTC)
	clock := func() time.Time { now = now.Add(time.Second); return now }
	w, err := ledger.Open(path, ledger.Options{Trial: "demo", Vantage: "pod", Now: clock})
	if err != nil {
		fmt.Println(err)
		return
	}
	session := &policy.Session{Version: "1.0", Mode: "observe"}
	_ = w.Start(session)
	_ = w.Mark("deploy")
	_ = w.Append(&policy.Observation{
		Kind: policy.KindConnection, ID: "c1", Client: netip.MustParseAddrPort("10.1.0.7:40112"), Asked: "mcr.microsoft.com", Port: 443,
		Verdict: policy.Verdict{Outcome: policy.Failed, Stage: policy.StageConnect, Error: policy.ConnectionTimeout,
			By: policy.ByNetwork, Confidence: policy.Certain},
		Detail: map[string]any{"errno": "ETIMEDOUT"}, ConnectMS: 10000,
	})
	if err := w.Stop(session); err != nil {
		fmt.Println(err)
	}

	text, _ := os.ReadFile(path)
	fmt.Print(strings.ReplaceAll(string(text), session.Ledger, "3f6b2f0c-8f1e-4c5e-9d57-0a4a1c2b7e11"))
	// Output:
	// {"schema":1,"seq":1,"time":"2026-03-01T12:00:00.000000000Z","kind":"start","trial":"demo","vantage":"pod","version":"1.0","mode":"observe","ledger":"3f6b2f0c-8f1e-4c5e-9d57-0a4a1c2b7e11"}
	// {"schema":1,"seq":2,"time":"2026-03-01T12:00:01.000000000Z","kind":"mark","trial":"demo","vantage":"pod","phase":"deploy","text":"deploy"}
	// {"schema":1,"seq":3,"time":"2026-03-01T12:00:02.000000000Z","kind":"connection","trial":"demo","vantage":"pod","phase":"deploy","id":"c1","client":"10.1.0.7:40112","asked":"mcr.microsoft.com","port":443,"outcome":"failed","stage":"connect","error":"connection_timeout","by":"network","confidence":"certain","detail":{"errno":"ETIMEDOUT"},"connect_ms":10000}
	// {"schema":1,"seq":4,"time":"2026-03-01T12:00:03.000000000Z","kind":"stop","trial":"demo","vantage":"pod","phase":"deploy","version":"1.0","mode":"observe","ledger":"3f6b2f0c-8f1e-4c5e-9d57-0a4a1c2b7e11"}
}

func ExampleRead() {
	for r, err := range ledger.Read("none.jsonl") {
		var damage *ledger.Damage
		switch {
		case errors.As(err, &damage):
			fmt.Println("cannot prove that nothing is missing:", damage)
		case err != nil:
			fmt.Println(err)
		default:
			fmt.Println(r.Seq, r.Kind)
		}
	}
	// Output: read ledger "none.jsonl": no such file or directory
}
