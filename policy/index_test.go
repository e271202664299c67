package policy

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// bulk makes n patterns of one shape, and names that meet them.
var bulk = []struct {
	shape         string
	pattern, host func(i int) string
}{
	{"literal", func(i int) string { return fmt.Sprintf("h%d.region%d.example.com", i, i%64) },
		func(i int) string { return fmt.Sprintf("h%d.region%d.example.com", i, i%64) }},
	{"wildcard", func(i int) string { return fmt.Sprintf("*.s%d.example.net", i) },
		func(i int) string { return fmt.Sprintf("cdn.s%d.example.net", i) }},
	{"partial", func(i int) string { return fmt.Sprintf("azgn%06d*.servicebus.example.org", i) },
		func(i int) string { return fmt.Sprintf("azgn%06d-relay.servicebus.example.org", i) }},
	{"inner", func(i int) string { return fmt.Sprintf("*.hcp%d.*.azmk8s.example", i) },
		func(i int) string { return fmt.Sprintf("x.hcp%d.eastus.azmk8s.example", i) }},
}

func BenchmarkMatch(b *testing.B) {
	for _, shape := range bulk {
		for _, n := range []int{10, 1000, 100_000} {
			r := &Requirement{Port: 443}
			for i := range n {
				r.Hosts = append(r.Hosts, MustPattern(shape.pattern(i)))
			}
			x := NewIndex(&Catalog{Requirements: []*Requirement{r}})
			var hosts []Name
			for i := range 1024 {
				hosts = append(hosts, MustName(shape.host(i*7919%n)))
			}
			b.Run(fmt.Sprintf("%s/%d", shape.shape, n), func(b *testing.B) {
				b.ReportAllocs()
				var dst []*Endpoint
				found := 0
				for i := 0; b.Loop(); i++ {
					dst = x.Match(dst[:0], hosts[i&1023], 443)
					found += len(dst)
				}
				require.NotZero(b, found)
			})
		}
	}
}
