package nftables

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestParams(t *testing.T) {
	for _, c := range []struct {
		p    Params
		want string
	}{
		{Params{}, "--redirect"},
		{Params{TProxy: 1}, "--redirect"},
		{Params{Redirect: 1}, "for ever"},
		{Params{Redirect: 1, Cgroup: "a\"b"}, `"a\"b"`},
		{Params{Redirect: 1, Cgroup: "/"}, "below the root"},
		{Params{Redirect: 1, Cgroup: "a//b"}, "below the root"},
		{Params{Redirect: 1, Cgroup: "../a"}, "below the root"},
		{Params{Redirect: 1, Cgroup: "/a/./b/"}, "below the root"},
		{Params{Redirect: 1, Clients: make([]netip.Prefix, 1)}, "ADDRESS/BITS"},
		{Params{Redirect: 1, Clients: prefixes("10.0.0.0/8"), Own: make([]netip.Addr, 1)}, "not valid"},
	} {
		var b bytes.Buffer
		require.ErrorContains(t, Render(&b, c.p), c.want)
		require.Zero(t, b.Len(), "an error leaves no rules behind")
	}
}

var update = flag.Bool("update", false, "write the examples anew")

// TestExamples: the files beside this one are what Render writes.
func TestExamples(t *testing.T) {
	skip := prefixes("10.244.0.0/16", "10.96.0.0/12", "fd00:10:244::/56", "fd00:10:96::/112")
	for name, p := range map[string]Params{
		"gateway.nft": {Clients: prefixes("192.168.10.0/24", "10.244.0.0/16", "fd00:192:168:10::/64", "fd00:10:244::/56"), Skip: skip, Redirect: 3129, TProxy: 3130, DNS: 5353},
		"host.nft":    {Skip: skip, Redirect: 3129, TProxy: 3130, DNS: 5353, UID: 64042},
	} {
		var text bytes.Buffer
		require.NoError(t, Render(&text, p))
		if *update {
			require.NoError(t, os.WriteFile(name, text.Bytes(), 0o644))
		}
		want, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, string(want), text.String(), "run go test -update")
	}
}
