package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// TestParentVerdict: what each answer of a parent means.
func TestParentVerdict(t *testing.T) {
	for _, c := range []struct {
		code   int
		fields http.Header
		error  policy.Error
		by     policy.By
		beyond any
	}{
		{403, nil, policy.ParentDenied, policy.ByParent, nil},
		{400, nil, policy.ParentDenied, policy.ByParent, nil},
		{451, nil, policy.ParentDenied, policy.ByParent, nil},
		{407, nil, policy.ParentAuthRequired, policy.ByParent, nil},
		{302, nil, policy.ParentError, policy.ByParent, nil},
		{502, nil, policy.ParentError, policy.ByParent, nil},
		{503, http.Header{"X-Squid-Error": {"ERR_DNS_FAIL 0"}}, policy.ParentError, policy.ByResolver, "dns_error"},
		{503, http.Header{"X-Squid-Error": {"ERR_CONNECT_FAIL 111"}}, policy.ParentError, policy.ByNetwork, "connection_refused"},
		{503, http.Header{"X-Squid-Error": {"ERR_CONNECT_FAIL 110"}}, policy.ParentError, policy.ByNetwork, "connection_timeout"},
		{503, http.Header{"X-Squid-Error": {"ERR_CONNECT_FAIL 101"}}, policy.ParentError, policy.ByNetwork, "destination_ip_unroutable"},
		{503, http.Header{"X-Squid-Error": {"ERR_CONNECT_FAIL 113"}}, policy.ParentError, policy.ByNetwork, "destination_ip_unroutable"},
		{503, http.Header{"X-Squid-Error": {"ERR_CONNECT_FAIL 104"}}, policy.ParentError, policy.ByNetwork, "connection_terminated"},
		{503, http.Header{"X-Squid-Error": {"ERR_CANNOT_FORWARD 0"}}, policy.ParentError, policy.ByParent, nil},
		{504, http.Header{"X-Squid-Error": {"ERR_READ_TIMEOUT 0"}}, policy.ParentError, policy.ByNetwork, "connection_timeout"},
		{503, http.Header{"X-Squid-Error": {"ERR_ACCESS_DENIED 0"}}, policy.ParentError, policy.ByParent, nil},
		{502, http.Header{"Proxy-Status": {"gw; error=dns_timeout; details=\"x\""}}, policy.ParentError, policy.ByResolver, "dns_timeout"},
		{502, http.Header{"Proxy-Status": {"gw;error=connection_refused"}}, policy.ParentError, policy.ByNetwork, "connection_refused"},
		{502, http.Header{"Proxy-Status": {"gw; error=no_such_word"}}, policy.ParentError, policy.ByParent, nil},
		{502, http.Header{"Proxy-Status": {"gw; error="}}, policy.ParentError, policy.ByParent, nil},
		{502, http.Header{"Proxy-Status": {"gw; error=proxy_loop_detected"}}, policy.ProxyLoopDetected, policy.BySelf, nil},
		{403, http.Header{"X-Squid-Error": {"ERR_DNS_FAIL 0"}}, policy.ParentDenied, policy.ByParent, nil},
	} {
		v, d := parentVerdict(&http.Response{StatusCode: c.code, Header: c.fields})
		require.Equal(t, c.error, v.Error, "%d %v", c.code, c.fields)
		require.Equal(t, c.by, v.By, "%d %v", c.code, c.fields)
		require.Equal(t, policy.StageParent, v.Stage)
		require.Equal(t, c.beyond, d["beyond"], "%d %v", c.code, c.fields)
		require.Equal(t, c.code, d["status"])
	}
}

// TestParentVerdictIsBounded: what a parent says is cleaned before it is kept.
func TestParentVerdictIsBounded(t *testing.T) {
	evil := strings.Repeat("é\x1b[31m", 1000)
	h := http.Header{"Via": {evil}, "Server": {evil}, "Proxy-Status": {evil}, "X-Squid-Error": {evil}}
	for range 100 {
		h.Add("Proxy-Authenticate", evil)
	}
	_, d := parentVerdict(&http.Response{StatusCode: 407, Header: h})
	require.Less(t, len(fmt.Sprint(d)), 4000)
	require.Regexp(t, `^[ -~]*$`, fmt.Sprint(d))
}

func TestSchemes(t *testing.T) {
	require.Equal(t, []string{"Negotiate", "NTLM", "Basic"}, schemes([]string{"Negotiate", " NTLM", `Basic realm="corp, inc"`}))
	require.Empty(t, schemes(nil))
	require.Empty(t, schemes([]string{"", "\x00"}))
}

// TestParentPage: whose answer it is that comes by way of a parent.
func TestParentPage(t *testing.T) {
	h := func(pairs ...string) http.Header {
		out := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			out.Set(pairs[i], pairs[i+1])
		}
		return out
	}
	for name, c := range map[string]struct {
		code  int
		head  http.Header
		error policy.Error
		sure  policy.Confidence
	}{
		"an origin's page":             {200, h(), "", ""},
		"an origin's 404":              {404, h(), "", ""},
		"an origin's 403, signed":      {403, h("Via", "1.1 parent"), "", ""},
		"an origin's 503, signed":      {503, h("Via", "1.1 parent"), "", ""},
		"407":                          {407, h(), policy.ParentAuthRequired, policy.Certain},
		"407, signed":                  {407, h("Via", "1.1 parent"), policy.ParentAuthRequired, policy.Certain},
		"squid's error page":           {403, h("Via", "1.1 squid", "X-Squid-Error", "ERR_ACCESS_DENIED 0"), policy.ParentDenied, policy.Certain},
		"Proxy-Status owns up":         {502, h("Proxy-Status", "gw; error=connection_refused"), policy.ParentError, policy.Certain},
		"a proxy's name, unsigned":     {403, h("Server", "squid/6"), policy.ParentDenied, policy.Certain},
		"5xx, unsigned":                {503, h(), policy.ParentError, policy.Likely},
		"captive portal, block page's": {511, h(), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := New(Config{Index: listing(443)})
			v, _ := p.parentPage(&http.Response{StatusCode: c.code, Header: c.head})
			require.Equal(t, c.error, v.Error)
			require.Equal(t, c.sure, v.Confidence)
		})
	}
}

// TestParentPageBesideACDN: a Via that an origin's own cache added says nothing
// of the parent; the next origin's 404 stays its own (contract section 3).
func TestParentPageBesideACDN(t *testing.T) {
	p := New(Config{Index: listing(443)})
	p.parentPage(&http.Response{StatusCode: 200, Header: http.Header{"Via": {"1.1 varnish"}}})
	v, _ := p.parentPage(&http.Response{StatusCode: 404, Header: http.Header{}})
	require.Empty(t, v.Error)
}

// TestBlockPage: which answers are a device's and not the origin's.
func TestBlockPage(t *testing.T) {
	for name, c := range map[string]struct {
		code         int
		field, value string
		sure         policy.Confidence
	}{
		"ok":                             {200, "Server", "FortiGate", ""},
		"an origin's 403":                {403, "Server", "nginx", ""},
		"an origin's 403 behind a cache": {403, "Via", "1.1 squid", ""},
		"a device's 403":                 {403, "Server", "FortiGate", policy.Likely},
		"a device's 451":                 {451, "X-Blocked-By", "Zscaler", policy.Likely},
		"an origin's filter":             {403, "X-Filter", "none", ""}, // finding 29
		"squid's":                        {403, "X-Squid-Error", "ERR_ACCESS_DENIED 0", policy.Likely},
		"a device's name at a 404":       {404, "Server", "FortiGate", ""},
		"511":                            {511, "", "", policy.Likely},
		"redirect to a portal":           {302, "Location", "http://portal.corp.test/block", policy.Guess},
		"redirect within the domain":     {302, "Location", "https://www.example.com/", ""},
		"redirect to a listed name":      {302, "Location", "https://x.other.net/", ""},
		"redirect, relative":             {302, "Location", "/login", ""},
		"redirect to nowhere":            {302, "Location", "::::", ""},
		"redirect without a place":       {302, "", "", ""},
		"304":                            {304, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if c.field == "X-Filter" {
			}
			p := New(Config{Index: listing(443, "*.other.net")})
			req, err := http.NewRequest("GET", "http://site.example.com/", nil)
			require.NoError(t, err)
			resp := &http.Response{StatusCode: c.code, Header: http.Header{}, Request: req}
			if c.field != "" {
				resp.Header.Set(c.field, c.value)
			}
			sure, d := p.blockPage(pageOf(resp), host)
			require.Equal(t, c.sure, sure)
			require.Equal(t, sure != "", d != nil)
		})
	}
}
