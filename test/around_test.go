package test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy"
	"github.com/egressaudit/egressaudit/test/lab"
)

// TestAroundTheParent: what NO_PROXY leads around the parent says so, since the
// parent is then not to blame.
func TestAroundTheParent(t *testing.T) {
	r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": lab.Refuse{}}, through: true,
		change: func(c *proxy.Config) {
			c.Parent = func(*url.URL) (*url.URL, error) { return nil, nil }
		}})
	_, resp := r.connect(r.target("site.example.com", 443, false))
	require.Equal(t, 502, resp.StatusCode)
	o := r.closing()
	fail("connect", "connection_refused", "network", certain, map[string]any{"direct": true}).check(t, o)
	require.Equal(t, policy.KindConnection, o.Kind)
	for _, s := range r.world.Saw() {
		require.NotEqual(t, lab.DoorParent, s.Door)
	}
}
