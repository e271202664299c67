//go:build linux

package dns

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// big are the addresses of a 12 kB answer.
func big() []string {
	var all []string
	for i := range 750 {
		all = append(all, fmt.Sprintf("198.51.%d.%d", i/250, i%250))
	}
	return all
}

// TestLargeAnswer has the resolver cut 12 kB off over UDP: the client hears so,
// and gets it all over TCP.
func TestLargeAnswer(t *testing.T) {
	need(t)
	for _, client := range []string{"dig @ +nocookie big.lab.example", "kdig @ +edns big.lab.example"} {
		l := between(t, network(t).resolver, "", nil)
		said := ask(t, l.front.at, client)
		require.Equal(t, 750, strings.Count(said, "\t198.51."), said)
		records := l.queries(t)
		l.faithful(t)
		_, told := l.front.packets()
		require.Greater(t, len(told[1]), 12000)
		holds(t, l.back.at, records,
			want{name: "big.lab.example", kind: "A", via: "udp", rcode: "NOERROR", detail: map[string]any{"truncated": true}},
			want{name: "big.lab.example", kind: "A", via: "tcp", rcode: "NOERROR", answers: big()})
	}
}

// TestAnswersFit has an upstream that is asked over TCP, and so never cuts
// anything off: no answer over UDP is larger than its client takes.
func TestAnswersFit(t *testing.T) {
	need(t)
	for _, row := range []struct {
		args  string
		whole bool
		atMost,
		addresses int
	}{
		{"dig @ +ignore +noedns mid.lab.example", false, 512, 50},
		{"dig @ +ignore +nocookie +bufsize=512 mid.lab.example", false, 512, 50},
		{"dig @ +ignore +nocookie +bufsize=0 mid.lab.example", false, 512, 50},
		{"dig @ +ignore +nocookie +bufsize=1232 mid.lab.example", true, 1232, 50},
		{"dig @ +ignore +nocookie +bufsize=1232 big.lab.example", false, 1232, 750},
		{"dig @ +ignore +nocookie +bufsize=4096 big.lab.example", false, 4096, 750},
		{"dig @ +ignore +nocookie +bufsize=16384 big.lab.example", true, 16384, 750},
		{"dig @ +tcp +nocookie +bufsize=512 big.lab.example", true, 65535, 750},
	} {
		t.Run(row.args, func(t *testing.T) {
			l := between(t, network(t).resolver, "tcp://", nil)
			said := ask(t, l.front.at, row.args)
			_, told := l.front.packets()
			require.Len(t, told, 1)
			require.LessOrEqual(t, len(told[0])+2, row.atMost)
			_, heard := l.back.packets()
			if row.whole {
				same(t, heard, told)
				require.NotContains(t, said, " tc")
			} else {
				require.Contains(t, said, "flags: qr tc")
				require.Less(t, len(told[0]), 100, "no more than the question: nobody is made to amplify")
			}
			records := l.queries(t)
			require.Len(t, records, 1)
			require.Equal(t, "tcp://"+l.back.at, records[0].Upstream)
			require.Len(t, records[0].Answers, row.addresses, "the ledger has them all the same")
		})
	}
}
