package report

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// Above the limit hosts are folded into one row, which looks no better than its
// worst member.
func TestFoldedHostsHideNone(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("page", "a ext *.wide.example")}}
	full := func() *tape {
		tape := started()
		for i := range maxHosts + 1 {
			tape.conn(fmt.Sprintf("h%d.wide.example", i), ok)
		}
		return tape
	}
	for why, c := range map[string]struct {
		do   func(*tape)
		says Verdict
	}{
		"all work":          {func(*tape) {}, Clear},
		"one was looked up": {func(p *tape) { p.query("bad.wide.example", answers("192.0.2.1")).conn("bad.wide.example", ok) }, Clear},
		"one failed":        {func(p *tape) { p.conn("bad.wide.example", dropped) }, Gaps},
		"we refused one":    {func(p *tape) { p.conn("bad.wide.example", denied(policy.ConnectionLimitReached)) }, Gaps},
		"one was silent":    {func(p *tape) { p.conn("bad.wide.example", left) }, CannotTell},
	} {
		before, behind := full(), started()
		c.do(before)
		for i := range maxHosts {
			behind.conn(fmt.Sprintf("h%d.wide.example", i), ok)
		}
		c.do(behind)
		behind.conn("last.wide.example", ok)
		for _, tape := range []*tape{before, behind} {
			r := tape.stop().report(o)
			require.Equal(t, c.says, r.Verdict, "%s: %v", why, r.Doubts)
			require.Len(t, r.Endpoints[0].Hosts, maxHosts+1)
		}
	}
}
