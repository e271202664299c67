package dnsaudit

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// act is what a server of TestWalk does with each question.
type act struct {
	after time.Duration // 0: never answers
	answer
	err error
}

var (
	ok   = answer{rcode: noError, addrs: addrs("192.0.2.1")}
	fail = answer{rcode: servFail}
)

// TestWalk is the time table of a look-up with 6 s, by the bubble's clock.
func TestWalk(t *testing.T) {
	s := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("192.0.2.2:53"), netip.MustParseAddrPort("192.0.2.3:53")}
	const second = time.Second
	tests := []struct {
		name  string
		acts  []act
		asked []string // server and second
		took  time.Duration
		best  word
		said  []word
	}{
		{"an answer ends it", []act{{second / 2, ok, nil}, {}},
			[]string{"0 at 0s"}, second / 2, word{s[0], ok, nil}, []word{{s[0], ok, nil}, {}}},
		{"silence: each in its turn, twice, to the end", []act{{}, {}},
			[]string{"0 at 0s", "1 at 1s", "0 at 2s plain", "1 at 3s plain"}, 6 * second, word{server: s[0], err: errSilent},
			[]word{{server: s[0], err: errSilent}, {server: s[1], err: errSilent}}},
		{"one server alone: three tries", []act{{}},
			[]string{"0 at 0s", "0 at 1s plain", "0 at 2s plain"}, 6 * second, word{server: s[0], err: errSilent}, []word{{server: s[0], err: errSilent}}},
		{"a failure: the next at once, and never that one again", []act{{second / 4, fail, nil}, {}},
			[]string{"0 at 0s", "1 at 250ms", "1 at 1.25s plain"}, 6 * second, word{s[0], fail, nil}, []word{{s[0], fail, nil}, {server: s[1], err: errSilent}}},
		{"all fail: no waiting", []act{{second / 4, answer{}, errors.ErrUnsupported}, {second / 4, fail, nil}},
			[]string{"0 at 0s", "1 at 250ms"}, second / 2, word{s[1], fail, nil}, []word{{s[0], answer{}, errors.ErrUnsupported}, {s[1], fail, nil}}},
		{"slow: the second is asked, the first answers", []act{{second * 5 / 4, ok, nil}, {}},
			[]string{"0 at 0s", "1 at 1s"}, second * 5 / 4, word{s[0], ok, nil}, []word{{s[0], ok, nil}, {}}},
		{"slower than every turn", []act{{second * 5, ok, nil}, {}},
			[]string{"0 at 0s", "1 at 1s", "0 at 2s plain", "1 at 3s plain"}, 5 * second, word{s[0], ok, nil}, []word{{s[0], ok, nil}, {server: s[1], err: errSilent}}},
		{"down first: a second is lost, no more", []act{{}, {second / 4, ok, nil}, {}},
			[]string{"0 at 0s", "1 at 1s"}, second * 5 / 4, word{s[1], ok, nil}, []word{{server: s[0], err: errSilent}, {s[1], ok, nil}, {}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 6*second)
				defer cancel()
				began := time.Now()
				asked := make(chan string, 16)
				w := walk{servers: s[:len(tt.acts)], rounds: 2, patience: second}
				if len(tt.acts) == 1 {
					w.rounds = 3
				}
				w.ask = func(ctx context.Context, server netip.AddrPort, edns bool) (answer, error) {
					i := server.Addr().As4()[3] - 1
					line := string('0'+i) + " at " + time.Since(began).String()
					if !edns {
						line += " plain"
					}
					asked <- line
					return tt.acts[i].do(ctx)
				}
				got := w.run(ctx)
				close(asked)
				var lines []string
				for line := range asked {
					lines = append(lines, line)
				}
				require.Equal(t, tt.asked, lines)
				require.Equal(t, tt.took, time.Since(began))
				require.Equal(t, family{said: tt.said, best: tt.best}, got)
			})
		})
	}
}

func (a act) do(ctx context.Context) (answer, error) {
	var done <-chan time.Time
	if a.after > 0 {
		done = time.After(a.after)
	}
	select {
	case <-done:
		return a.answer, a.err
	case <-ctx.Done():
		return answer{}, errSilent
	}
}
