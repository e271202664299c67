package policy

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// listed makes an index of one catalog from "host:port" texts.
func listed(t testing.TB, endpoints ...string) *Index {
	t.Helper()
	c := &Catalog{Name: "test"}
	for _, s := range endpoints {
		var host string
		var port uint16
		for i := len(s) - 1; i >= 0; i-- {
			if s[i] == ':' {
				_, err := fmt.Sscan(s[i+1:], &port)
				require.NoError(t, err)
				host = s[:i]
				break
			}
		}
		c.Requirements = append(c.Requirements, &Requirement{Hosts: []Pattern{MustPattern(host)}, Port: port})
	}
	return NewIndex(c)
}

func TestNearTellsTheEndpointAndWhyNot(t *testing.T) {
	catalog := listed(t,
		"registry-1.docker.io:443", "production.cloudflare.docker.com:443", "*.quay.io:443", "mcr.microsoft.com:443",
		"*.data.mcr.microsoft.com:443", "eastus.dp.kubernetesconfiguration.azure.com:443", "san-af-eastus-prod.example.org:443",
		"*.<region>.arcdataservices.com:443", "azgn*.servicebus.windows.net:443", "*.blob.core.windows.net:443",
		"time.windows.com:123", "<region>.obo.arc.azure.com:8084", "192.0.2.1:443", "example.co.uk:443",
		"a.b.a.example.net:443", "index1.shop.example:80", "index1.shop.example:443", "auth.shop.example:443",
	)
	for _, row := range []struct {
		target string
		want   []string
	}{
		{"production.cloudfront.docker.com:443", []string{
			`production.cloudflare.docker.com:443: "cloudfront" where the catalog has "cloudflare"`}},
		{"production.cloudfront.docker.com:80", []string{
			`production.cloudflare.docker.com:443: "cloudfront" where the catalog has "cloudflare", and port 443`}},
		{"time.windows.com:443", []string{"time.windows.com:123: same host, listed with port 123, not 443"}},
		{"westus.obo.arc.azure.com:443", []string{
			"<region>.obo.arc.azure.com:8084: same host, listed with port 8084, not 443"}},
		{"192.0.2.1:80", []string{"192.0.2.1:443: same host, listed with port 443, not 80"}},
		{"192.0.2.2:443", nil},
		{"quay.io:443", []string{"*.quay.io:443: the leading * stands for one or more labels, never for none"}},
		{"eastus.arcdataservices.com:443", []string{
			"*.<region>.arcdataservices.com:443: the leading * stands for one or more labels, never for none"}},
		{"evilquay.io:443", nil},
		{"quay.io.evil.example:443", nil},
		{"westus.dp.kubernetesconfiguration.azure.com:443", []string{
			`eastus.dp.kubernetesconfiguration.azure.com:443: "westus" where the catalog has "eastus"`}},
		{"san-af-westus-prod.example.org:443", []string{
			`san-af-eastus-prod.example.org:443: "san-af-westus-prod" where the catalog has "san-af-eastus-prod"`}},
		{"x.mcr.microsoft.com:443", []string{
			"mcr.microsoft.com:443: listed without a leading *, so not for the names below it"}},
		{"umsa1.servicebus.windows.net:443", []string{
			`azgn*.servicebus.windows.net:443: "umsa1" where the catalog has "azgn*"`}},
		{"store.queue.core.windows.net:443", []string{`*.blob.core.windows.net:443: "queue" where the catalog has "blob"`}},
		{"login.microsoft.com:443", []string{`mcr.microsoft.com:443: "login" where the catalog has "mcr"`}},
		{"a.b.c.d.docker.io:443", []string{"registry-1.docker.io:443: another host of docker.io"}},
		{"other.co.uk:443", nil},
		{"a.b.b.example.net:443", []string{`a.b.a.example.net:443: "b" where the catalog has "a"`}},
		{"b.b.a.example.net:443", []string{`a.b.a.example.net:443: "b" where the catalog has "a"`}},
		{"a.a.a.example.net:443", []string{`a.b.a.example.net:443: "a" where the catalog has "b"`}},
		{"index.shop.example:443", []string{ // the closer spelling first, and the port that was asked for
			`index1.shop.example:443: "index" where the catalog has "index1"`,
			`index1.shop.example:80: "index" where the catalog has "index1", and port 80`,
			`auth.shop.example:443: "index" where the catalog has "auth"`}},
		{"mcr.microsoft.com:443", []string{
			`*.data.mcr.microsoft.com:443: another host of microsoft.com`}},
	} {
		t.Run(row.target, func(t *testing.T) {
			n, port, err := ParseTarget(row.target)
			require.NoError(t, err)
			var got []string
			for _, near := range catalog.Near(n, port) {
				require.False(t, near.Endpoint.Port == port && near.Endpoint.Host.Match(n), "it is met")
				got = append(got, near.String())
			}
			require.Equal(t, row.want, got)
		})
	}
	require.Empty(t, catalog.Near(MustName("time.windows.com"), 0), "port 0 is any port")
	require.Empty(t, catalog.Near(Name{}, 443))
	require.Empty(t, NewIndex().Near(MustName("quay.io"), 443))
}

func TestNearListsFive(t *testing.T) {
	var all []string
	for i := range 20 {
		all = append(all, fmt.Sprintf("h%02d.example.org:443", i))
	}
	near := listed(t, all...).Near(MustName("h0.example.org"), 443)
	require.Len(t, near, 5)
	require.Equal(t, `h00.example.org:443: "h0" where the catalog has "h00"`, near[0].String())
}
