package live

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"sync"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// quay is what the trials of the tests require.
var quay = &policy.Catalog{Name: "own", Title: "own", Requirements: []*policy.Requirement{
	{ID: "images", Scope: "extension", Hosts: []policy.Pattern{pattern("quay.io")}, Port: 443, Protocol: "https", Purpose: "images"},
}}

func pattern(s string) policy.Pattern {
	p, err := policy.ParsePattern(s)
	if err != nil {
		panic(err)
	}
	return p
}

// feed is a recording that grows.
type feed struct {
	mu    sync.Mutex
	list  []*policy.Record
	wrong map[int]error // behind so many records
	end   bool
	grown chan struct{} // closed with the next change
}

func newFeed() *feed {
	f := &feed{grown: make(chan struct{})}
	f.add(&policy.Record{Kind: policy.KindStart, Session: &policy.Session{Ledger: "book-1", Listeners: []string{"connect 127.0.0.1:3128"}}})
	return f
}

// add appends records, each a second behind the one before.
func (f *feed) add(list ...*policy.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range list {
		r.Seq, r.Vantage = uint64(len(f.list)+1), "pod"
		r.Time = time.Date(2026, 3, 4, 9, 0, 0, 0, time.UTC).Add(time.Duration(r.Seq) * time.Second)
		f.list = append(f.list, r)
	}
	f.wake()
}

func (f *feed) wake() {
	close(f.grown)
	f.grown = make(chan struct{})
}

// break ends it with an error, or without.
func (f *feed) breakOff(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end = true
	if err != nil {
		f.wrong = map[int]error{len(f.list): err}
	}
	f.wake()
}

var errBad = errors.New("ledger \"t.jsonl\": line 3: not a record")

func (f *feed) follow(ctx context.Context, idle func()) iter.Seq2[*policy.Record, error] {
	return func(yield func(*policy.Record, error) bool) {
		for n := 0; ; {
			f.mu.Lock()
			fresh, wrong, end, grown := f.list[n:], f.wrong[len(f.list)], f.end, f.grown
			f.mu.Unlock()
			for _, r := range fresh {
				if n++; !yield(r, nil) {
					return
				}
			}
			if wrong != nil {
				yield(nil, wrong)
			}
			if end {
				return
			}
			idle()
			select {
			case <-ctx.Done():
				return
			case <-grown:
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
}

// went is a connection by a client.
func went(name string, v policy.Verdict) *policy.Record {
	return &policy.Record{Kind: policy.KindConnection, Observation: &policy.Observation{
		Kind: policy.KindConnection, Origin: policy.OriginClient, Client: netip.MustParseAddrPort("10.1.0.7:40112"), Name: name, Port: 443, Verdict: v,
	}}
}

var (
	fine  = policy.Verdict{Outcome: policy.OK, Stage: policy.StageData}
	reset = policy.Verdict{Outcome: policy.Failed, Stage: policy.StageHello, Error: policy.ConnectionTerminated, By: policy.ByNetwork, Confidence: policy.Likely}
)

func phase(text string) *policy.Record {
	return &policy.Record{Kind: policy.KindMark, Phase: text, Text: text}
}
