package test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy"
	"github.com/egressaudit/egressaudit/test/lab"
)

// want is what the record of one connection must say.
type want struct {
	outcome policy.Outcome
	stage   policy.Stage
	error   policy.Error
	by      policy.By
	sure    policy.Confidence
	detail  map[string]any // those keys, with those values; nil: any value
}

func ok() want { return want{outcome: policy.OK, stage: policy.StageData} }

func fail(stage policy.Stage, e policy.Error, by policy.By, sure policy.Confidence, detail map[string]any) want {
	return want{policy.Failed, stage, e, by, sure, detail}
}

func (w want) check(t *testing.T, o policy.Observation) {
	t.Helper()
	got := want{o.Outcome, o.Stage, o.Error, o.By, o.Confidence, nil}
	expected := w
	expected.detail = nil
	require.Equal(t, expected, got, "detail %v", o.Detail)
	for k, v := range w.detail {
		require.Contains(t, o.Detail, k)
		if v != nil {
			require.EqualValues(t, v, o.Detail[k], k)
		}
	}
}

// inTunnel is what a fault must be called behind a parent: no surer than likely.
func (w want) inTunnel() want {
	if w.outcome == policy.Failed && w.sure == policy.Certain {
		w.sure = policy.Likely
	}
	return w
}

const (
	certain = policy.Certain
	likely  = policy.Likely
)

// TestCausesInTunnel provokes what the network does to a TLS connection after it
// was accepted: directly and through a parent, in both versions of TLS.
func TestCausesInTunnel(t *testing.T) {
	for name, c := range map[string]struct {
		does    lab.Behaviour
		client  client
		want    want
		only    uint16 // this TLS version alone
		trusted bool
	}{
		"site answers":                {does: lab.Site{}, want: ok()},
		"site asks for another group": {does: lab.Site{Retry: true}, want: ok(), only: tls.VersionTLS13},
		"reset after the hello":       {does: lab.AfterHello(lab.Reset), want: fail("hello", "connection_terminated", "network", certain, map[string]any{"close": "rst"})},
		"end after the hello":         {does: lab.AfterHello(lab.Close), want: fail("hello", "connection_terminated", "network", certain, map[string]any{"close": "fin"})},
		"silence after the hello":     {does: lab.AfterHello(lab.Silence), client: client{wait: 600 * time.Millisecond}, want: fail("hello", "connection_read_timeout", "network", certain, nil)},
		"impatient client":            {does: lab.AfterHello(lab.Silence), client: client{wait: 50 * time.Millisecond}, want: want{outcome: policy.Abandoned, stage: "hello", by: "client"}},
		"alert":                       {does: lab.HandshakeFailure, want: fail("hello", "tls_alert_received", "origin", likely, map[string]any{"alert": "handshake_failure"})},
		"access denied":               {does: lab.AccessDenied, want: fail("hello", "tls_alert_received", "origin", likely, map[string]any{"alert": "access_denied"})},
		"block page in clear text":    {does: lab.BlockPage{}, want: fail("hello", "not_tls_reply", "network", certain, map[string]any{"status": 403, "reply": "http"})},
		"ssh where TLS was spoken":    {does: lab.Func(answer("SSH-2.0-x\r\n")), want: fail("hello", "not_tls_reply", "network", certain, map[string]any{"reply": "ssh"})},
		"reset after the ServerHello": {does: lab.AfterServerHello{End: lab.Reset}, want: fail("handshake", "connection_terminated", "network", certain, map[string]any{"close": "rst"})},
		"end after the ServerHello":   {does: lab.AfterServerHello{End: lab.Close}, want: fail("handshake", "connection_terminated", "network", certain, map[string]any{"close": "fin"})},
		"silence after ServerHello":   {does: lab.AfterServerHello{End: lab.Silence}, client: client{wait: 600 * time.Millisecond}, want: fail("handshake", "connection_read_timeout", "network", certain, nil)},
		"alert after ServerHello":     {does: lab.AfterServerHello{Alert: lab.InternalError}, only: tls.VersionTLS12, want: fail("handshake", "tls_alert_received", "origin", likely, map[string]any{"alert": "internal_error"})},
		"foreign CA, refused":         {does: lab.ForeignCA, want: fail("handshake", "tls_intercepted", "network", certain, map[string]any{"issuer": nil, "spki_sha256": nil})},
		"foreign CA, accepted":        {does: lab.ForeignCA, client: client{lenient: true}, want: ok()},
		"expired certificate":         {does: lab.Site{Expired: true}, want: fail("handshake", "tls_alert_received", "client", certain, map[string]any{"certificate": "expired"})},
		"reset in mid-stream":         {does: lab.MidStream{After: 10, End: lab.Reset}, want: fail("data", "connection_terminated", "network", certain, map[string]any{"close": "rst"})},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, through := range []bool{false, true} {
				if c.only != 0 && c.only != version {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/parent=%v", name, tls.VersionName(version), through), func(t *testing.T) {
					t.Parallel()
					r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": c.does}, through: through,
						change: func(config *proxy.Config) {
							if c.want.outcome == policy.Abandoned {
								config.Limits.AnswerTimeout = patience
							}
						}})
					from := c.client
					from.version = version
					r.fetch(r.target("site.example.com", 443, through), "site.example.com", from)
					o := r.closing()
					expected := c.want
					if through {
						expected = expected.inTunnel()
					}
					if refused := expected.error == "tls_intercepted" || expected.by == "client"; refused && expected.outcome == policy.Failed && version == tls.VersionTLS13 {
						expected.sure = likely // Go encrypts its alert: its length tells
					}
					expected.check(t, o)
					require.Equal(t, policy.SNIPresent, o.SNIState)
					require.Equal(t, "site.example.com", o.SNI)
					require.Equal(t, "site.example.com", o.Name)
					require.Equal(t, "tls", o.Protocol)
				})
			}
		}
	}
}

// answer reads something, says text and ends.
func answer(text string) func(net.Conn) {
	return func(c net.Conn) {
		c.Read(make([]byte, 4096))
		io.WriteString(c, text)
	}
}

// TestCausesOnTheWay provokes what happens before a destination accepts.
func TestCausesOnTheWay(t *testing.T) {
	for name, c := range map[string]struct {
		does   lab.Behaviour
		want   want
		status int
		host   string
	}{
		"no such name":       {does: lab.NXDOMAIN, want: fail("resolve", "dns_error", "resolver", likely, map[string]any{"rcode": "NXDOMAIN"}), status: 502},
		"SERVFAIL":           {does: lab.SERVFAIL, want: fail("resolve", "dns_error", "resolver", certain, map[string]any{"rcode": "SERVFAIL"}), status: 502},
		"REFUSED":            {does: lab.REFUSED, want: fail("resolve", "dns_error", "resolver", certain, map[string]any{"rcode": "REFUSED"}), status: 502},
		"no address":         {does: lab.NODATA, want: fail("resolve", "dns_error", "resolver", certain, map[string]any{"rcode": "NODATA"}), status: 502},
		"no DNS answer":      {does: lab.DNSSilence, want: fail("resolve", "dns_timeout", "resolver", certain, nil), status: 504},
		"sinkhole 0.0.0.0":   {does: lab.Resolves("0.0.0.0"), want: fail("resolve", "dns_sinkhole", "resolver", certain, map[string]any{"addresses": nil}), status: 502},
		"sinkhole ::":        {does: lab.Resolves("::"), want: fail("resolve", "dns_sinkhole", "resolver", certain, nil), status: 502},
		"sinkhole ::1":       {does: lab.Resolves("::1"), want: fail("resolve", "dns_sinkhole", "resolver", certain, nil), status: 502},
		"link-local":         {does: lab.Resolves("169.254.7.7"), want: fail("resolve", "dns_sinkhole", "resolver", certain, nil), status: 502},
		"metadata":           {does: lab.Resolves("169.254.169.254"), want: want{outcome: policy.Denied, stage: "policy", error: "destination_ip_prohibited", by: "self", sure: certain}, status: 403},
		"unlisted, loopback": {does: lab.Resolves("::1"), host: "site.example.org", want: want{outcome: policy.Denied, stage: "policy", error: "destination_ip_prohibited", by: "self", sure: certain}, status: 403},
		"refused":            {does: lab.Refuse{}, want: fail("connect", "connection_refused", "network", certain, map[string]any{"errno": "ECONNREFUSED"}), status: 502},
		"dropped":            {does: lab.Drop{}, want: fail("connect", "connection_timeout", "network", certain, map[string]any{"errno": "ETIMEDOUT"}), status: 504},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := "site.example.com"
			if c.host != "" {
				host = c.host
			}
			r := newRig(t, options{rules: map[string]lab.Behaviour{host + ":443": c.does, host + ":80": c.does}})
			_, resp := r.connect(r.target(host, 443, false))
			require.Equal(t, c.status, resp.StatusCode)
			require.Contains(t, resp.Header.Get("Proxy-Status"), "error="+string(c.want.error))
			require.Contains(t, resp.Status, string(c.want.error), "Go's clients print nothing but the reason phrase")
			c.want.check(t, r.closing())

			plain := newRig(t, options{rules: map[string]lab.Behaviour{host + ":443": c.does, host + ":80": c.does}})
			got, err := plain.get("http://" + plain.target(host, 80, false) + "/")
			require.NoError(t, err)
			require.Equal(t, c.status, got.StatusCode)
			require.Contains(t, got.Header.Get("Proxy-Status"), "error="+string(c.want.error))
			o := plain.closing()
			require.Equal(t, policy.KindRequest, o.Kind)
			c.want.check(t, o)
		})
	}
}

// get asks for a URL in absolute form.
func (r *rig) get(u string) (*http.Response, error) {
	via := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: r.address}), DisableKeepAlives: true}
	r.t.Cleanup(via.CloseIdleConnections)
	resp, err := (&http.Client{Transport: via, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Get(u)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp, err
}

// TestCausesAtParent provokes what the corporate proxy answers.
func TestCausesAtParent(t *testing.T) {
	for name, c := range map[string]struct {
		does   lab.Behaviour
		want   want
		status int
	}{
		"403":                   {lab.ParentStatus{Code: 403}, fail("parent", "parent_denied", "parent", certain, map[string]any{"status": 403}), 502},
		"404":                   {lab.ParentStatus{Code: 404}, fail("parent", "parent_denied", "parent", certain, map[string]any{"status": 404}), 502},
		"407":                   {lab.ParentStatus{Code: 407}, fail("parent", "parent_auth_required", "parent", certain, map[string]any{"schemes": nil}), 502},
		"502":                   {lab.ParentStatus{Code: 502}, fail("parent", "parent_error", "parent", certain, map[string]any{"status": 502}), 502},
		"503, squid, DNS":       {lab.ParentStatus{Code: 503, SquidError: "ERR_DNS_FAIL 0"}, fail("parent", "parent_error", "resolver", certain, map[string]any{"beyond": "dns_error"}), 502},
		"503, squid, refused":   {lab.ParentStatus{Code: 503, SquidError: "ERR_CONNECT_FAIL 111"}, fail("parent", "parent_error", "network", certain, map[string]any{"beyond": "connection_refused"}), 502},
		"503, squid, timeout":   {lab.ParentStatus{Code: 503, SquidError: "ERR_CONNECT_FAIL 110"}, fail("parent", "parent_error", "network", certain, map[string]any{"beyond": "connection_timeout"}), 502},
		"504, Proxy-Status":     {lab.ParentStatus{Code: 504, ProxyStatus: "gw; error=dns_timeout"}, fail("parent", "parent_error", "resolver", certain, map[string]any{"beyond": "dns_timeout"}), 502},
		"ends inside its reply": {lab.ParentCut(lab.Close), fail("parent", "connection_terminated", "parent", certain, map[string]any{"close": "fin"}), 502},
		"reset in its reply":    {lab.ParentCut(lab.Reset), fail("parent", "connection_terminated", "parent", certain, map[string]any{"close": "rst"}), 502},
		"never replies":         {lab.ParentSilence{}, fail("parent", "connection_read_timeout", "parent", certain, nil), 504},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": c.does}, through: true})
			_, resp := r.connect("site.example.com:443")
			require.Equal(t, c.status, resp.StatusCode, "never 407: the client has nothing to authenticate to")
			c.want.check(t, r.closing())
		})
	}
}

func TestParentUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	gone := &url.URL{Scheme: "http", Host: l.Addr().String()}
	l.Close()
	r := newRig(t, options{parent: gone})
	_, resp := r.connect("site.example.com:443")
	require.Equal(t, 502, resp.StatusCode)
	fail("parent", "connection_refused", "network", certain, map[string]any{"errno": "ECONNREFUSED"}).check(t, r.closing())
}

func TestParentCredentials(t *testing.T) {
	r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": lab.Site{}}, through: true, password: url.UserPassword("alice", "s3cret")})
	body, err := r.fetch("site.example.com:443", "site.example.com", client{version: tls.VersionTLS13})
	require.NoError(t, err)
	require.Contains(t, body, "200 OK")
	ok().check(t, r.closing())
	for _, s := range r.seen {
		require.NotContains(t, fmt.Sprintf("%+v", s), "s3cret")
	}
}

// TestLoop sends a request around to ourselves: the parent hands it back.
func TestLoop(t *testing.T) {
	r := newRig(t, options{rules: map[string]lab.Behaviour{}, through: true})
	require.NoError(t, r.world.Set("*", lab.ParentForward(r.address)))
	_, resp := r.connect("site.example.com:443")
	require.Equal(t, 502, resp.StatusCode)
	inner := r.find("the loop", func(o policy.Observation) bool { return o.Error == policy.ProxyLoopDetected })
	require.Equal(t, policy.StageParent, inner.Stage)
	require.Equal(t, policy.BySelf, inner.By)
}

// TestPlainHTTP provokes what happens to absolute-form requests.
func TestPlainHTTP(t *testing.T) {
	for name, c := range map[string]struct {
		does lab.Behaviour
		path string
		want want
		code int
	}{
		"site answers":          {lab.Site{}, "/", ok(), 200},
		"origin's own 404":      {lab.Site{}, "/status/404", ok(), 404},
		"origin's own 403":      {lab.Site{}, "/status/403", ok(), 403},
		"redirect within":       {lab.Site{Location: "https://www.example.com"}, "/", ok(), 307},
		"redirect to a portal":  {lab.Site{Location: "http://portal.corp.test"}, "/", fail("data", "http_block_page", "network", policy.Guess, map[string]any{"location": "portal.corp.test"}), 307},
		"511":                   {lab.Site{}, "/status/511", fail("data", "http_block_page", "network", likely, nil), 511},
		"reset":                 {lab.AfterHello(lab.Reset), "/", fail("hello", "connection_terminated", "network", certain, map[string]any{"close": "rst"}), 502},
		"end":                   {lab.AfterHello(lab.Close), "/", fail("hello", "connection_terminated", "network", certain, map[string]any{"close": "fin"}), 502},
		"short of its length":   {lab.MidStream{After: 10, End: lab.Close}, "/bytes/1000", fail("data", "connection_terminated", "network", certain, map[string]any{"close": "fin"}), 200},
		"reset within its body": {lab.MidStream{After: 10, End: lab.Reset}, "/bytes/1000", fail("data", "connection_terminated", "network", certain, map[string]any{"close": "rst"}), 200},
	} {
		for _, through := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/parent=%v", name, through), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:80": c.does}, through: through})
				resp, err := r.get("http://" + r.target("site.example.com", 80, through) + c.path)
				if resp != nil && err == nil {
					require.Equal(t, c.code, resp.StatusCode)
				}
				expected := c.want
				if through {
					expected = expected.inTunnel()
					if expected.stage == "hello" || expected.stage == "data" && c.want.error == "connection_terminated" {
						return // what the lab's parent makes of it is the parent's: TestCausesAtParent
					}
				}
				o := r.closing()
				expected.check(t, o)
				require.Equal(t, "GET", o.Method)
				require.Equal(t, "site.example.com", o.Name)
			})
		}
	}
}

// TestServerFirst: protocols in which the server speaks first work at once, and
// a client that stays silent is not waited for.
func TestServerFirst(t *testing.T) {
	for name, banner := range map[string]lab.Banner{"ssh": lab.SSH, "smtp": lab.SMTP} {
		for _, through := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/parent=%v", name, through), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": banner}, through: through})
				c, resp := r.connect(r.target("site.example.com", 443, through))
				require.Equal(t, 200, resp.StatusCode)
				line, err := bufio.NewReader(c).ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, string(banner), line)
				c.Close()
				o := r.closing()
				ok().check(t, o)
				require.Equal(t, "other", o.Protocol)
				require.EqualValues(t, len(banner), o.BytesDown)
			})
		}
	}
}

// TestPipelined: a client that sends its first bytes together with CONNECT gets
// its answer.
func TestPipelined(t *testing.T) {
	for _, through := range []bool{false, true} {
		r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": lab.Echo{}}, through: through})
		c, err := net.Dial("tcp", r.address)
		require.NoError(t, err)
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		target := r.target("site.example.com", 443, through)
		big := strings.Repeat("x", 20_000)
		_, err = fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\nearly bytes%s", target, target, big)
		require.NoError(t, err)
		br := bufio.NewReader(c)
		resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
		echoed := make([]byte, len("early bytes")+len(big))
		_, err = io.ReadFull(br, echoed)
		require.NoError(t, err)
		require.Equal(t, "early bytes"+big, string(echoed))
		c.Close()
		o := r.closing()
		require.EqualValues(t, len(echoed), o.BytesUp)
		require.EqualValues(t, len(echoed), o.BytesDown)
	}
}

// TestHalfClose: an end in one direction leaves the other open.
func TestHalfClose(t *testing.T) {
	r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": lab.Func(func(c net.Conn) {
		b, _ := io.ReadAll(c)
		fmt.Fprintf(c, "%d bytes, and you ended", len(b))
	})}})
	c, _ := r.connect(r.target("site.example.com", 443, false))
	_, err := io.WriteString(c, "12345")
	require.NoError(t, err)
	require.NoError(t, c.(*buffered).CloseWrite())
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "5 bytes, and you ended", string(b))
	ok().check(t, r.closing())
}

// TestRefusals: what no proxy may pass, in observe mode too, with its record.
func TestRefusals(t *testing.T) {
	for target, c := range map[string]struct {
		error  policy.Error
		status []int
	}{
		"[::1%25.blob.core.windows.net]:443": {"http_request_error", []int{400}},
		"[fe80::1%eth0]:443":                 {"http_request_error", []int{400}},
		"127.1:22":                           {"http_request_error", []int{400}},
		"0x7f.0.0.1:443":                     {"http_request_error", []int{400}},
		"2130706433:443":                     {"http_request_error", []int{400}},
		"user@site.example.com:443":          {"http_request_error", []int{400}},
		"site.example.com":                   {"http_request_error", []int{400}},
		"site.example.com:0":                 {"http_request_error", []int{400}},
		"site..example.com:443":              {"http_request_error", []int{400}},
		"169.254.169.254:80":                 {"destination_ip_prohibited", []int{403}},
		"168.63.129.16:80":                   {"destination_ip_prohibited", []int{403}},
		"[fd00:ec2::254]:80":                 {"destination_ip_prohibited", []int{403}},
		"[::ffff:169.254.169.254]:80":        {"destination_ip_prohibited", []int{403}},
		"[64:ff9b::a9fe:a9fe]:80":            {"destination_ip_prohibited", []int{403}},
		"[2002:7f00:1::]:80":                 {"destination_ip_prohibited", []int{403}},
		"0.0.0.0:80":                         {"destination_ip_prohibited", []int{403}},
		"[::1]:80":                           {"destination_ip_prohibited", []int{403}},
		"224.0.0.1:80":                       {"destination_ip_prohibited", []int{403}},
		"localhost:PORT":                     {"destination_ip_prohibited", []int{403}},
		"127.0.0.1:PORT":                     {"destination_ip_prohibited", []int{403}},
		"abc.canary.egressaudit.invalid:443": {"http_request_denied", []int{403}},
	} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, options{change: func(c *proxy.Config) { c.Allowed = nil }})
			_, port, _ := net.SplitHostPort(r.address)
			_, resp := r.connect(strings.ReplaceAll(target, "PORT", port))
			require.Contains(t, c.status, resp.StatusCode)
			o := r.find("a denial", func(o policy.Observation) bool { return o.Outcome == policy.Denied })
			require.Equal(t, c.error, o.Error)
			require.Equal(t, policy.Deny, o.Decision)
			require.Equal(t, policy.BySelf, o.By)
		})
	}
}

// TestOwnListener: --allow-address never opens the way to ourselves.
func TestOwnListener(t *testing.T) {
	r := newRig(t, options{})
	_, resp := r.connect(r.address)
	require.Equal(t, 403, resp.StatusCode)
	require.Equal(t, policy.DestinationProhibited, r.closing().Error)
}

// TestEnforce: only what a catalog lists passes, and the server name must be
// listed too, before a byte reaches the destination.
func TestEnforce(t *testing.T) {
	enforce := func(c *proxy.Config) { c.Enforce = true }
	rules := map[string]lab.Behaviour{"site.example.com:443": lab.Site{}, "other.example.org:443": lab.Site{}}
	t.Run("listed", func(t *testing.T) {
		r := newRig(t, options{rules: rules, change: enforce})
		_, err := r.fetch(r.target("site.example.com", 443, false), "site.example.com", client{version: tls.VersionTLS13})
		require.NoError(t, err)
		ok().check(t, r.closing())
	})
	t.Run("unlisted", func(t *testing.T) {
		r := newRig(t, options{rules: rules, change: enforce})
		_, resp := r.connect(r.target("other.example.org", 443, false))
		require.Equal(t, 403, resp.StatusCode)
		require.Equal(t, policy.HTTPRequestDenied, r.closing().Error)
	})
	t.Run("false server name", func(t *testing.T) {
		r := newRig(t, options{rules: rules, change: enforce})
		_, err := r.fetch(r.target("site.example.com", 443, false), "other.example.org", client{version: tls.VersionTLS13})
		require.ErrorContains(t, err, "access denied")
		o := r.closing()
		require.Equal(t, policy.Denied, o.Outcome)
		require.Equal(t, "other.example.org", o.SNI)
		for _, s := range r.world.Saw() {
			require.NotEqual(t, "hello", s.Method, "nothing may reach the destination")
		}
	})
}

// TestLongLife: the interim record of a silence, and the one at the end under
// the same ID.
func TestSilenceThenAnswer(t *testing.T) {
	speak := make(chan struct{})
	r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": lab.Func(func(c net.Conn) {
		c.Read(make([]byte, 100))
		<-speak
		io.WriteString(c, "better late than never")
	})}})
	c, _ := r.connect(r.target("site.example.com", 443, false))
	_, err := io.WriteString(c, "hello?\r\n\r\n")
	require.NoError(t, err)
	open := r.find("interim record", func(o policy.Observation) bool { return o.Open })
	fail("hello", "connection_read_timeout", "network", certain, nil).check(t, open)
	close(speak)
	_, err = io.ReadAll(c)
	require.NoError(t, err)
	c.Close()
	o := r.closing()
	ok().check(t, o)
	require.Equal(t, open.ID, o.ID)
}

// TestIdleAndDrain: what we end ourselves stays ok, and says so.
func TestIdleAndDrain(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": lab.SSH},
			change: func(c *proxy.Config) { c.Limits.IdleTimeout = 400 * time.Millisecond }})
		c, _ := r.connect(r.target("site.example.com", 443, false))
		_, err := io.ReadAll(c)
		require.NoError(t, err)
		o := r.closing()
		require.Equal(t, policy.OK, o.Outcome)
		require.Equal(t, policy.ConnectionTerminated, o.Error)
		require.Equal(t, policy.BySelf, o.By)
		require.Equal(t, "idle", o.Detail["why"])
	})
	t.Run("drain", func(t *testing.T) {
		r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": lab.SSH}})
		c, _ := r.connect(r.target("site.example.com", 443, false))
		_, err := bufio.NewReader(c).ReadString('\n')
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		r.proxy.Shutdown(ctx)
		o := r.closing()
		require.Equal(t, policy.OK, o.Outcome)
		require.Equal(t, "drain", o.Detail["why"])
	})
}

// TestClientLeaves: a client that leaves during the dial does not hide what the
// dial met.
func TestClientLeaves(t *testing.T) {
	r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": lab.Drop{}}})
	c, err := net.Dial("tcp", r.address)
	require.NoError(t, err)
	target := r.target("site.example.com", 443, false)
	_, err = fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", target)
	require.NoError(t, err)
	c.Close()
	o := r.closing()
	fail("connect", "connection_timeout", "network", certain, map[string]any{"client_left_ms": nil}).check(t, o)
}

// TestLimits: beyond the limit a client is told so, and it is recorded.
func TestLimits(t *testing.T) {
	r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": lab.SSH},
		change: func(c *proxy.Config) { c.Limits.ClientTunnels = 1 }})
	target := r.target("site.example.com", 443, false)
	_, first := r.connect(target)
	require.Equal(t, 200, first.StatusCode)
	_, second := r.connect(target)
	require.Equal(t, 503, second.StatusCode)
	o := r.closing()
	require.Equal(t, policy.Denied, o.Outcome)
	require.Equal(t, policy.ConnectionLimitReached, o.Error)
}

// TestBulk: bytes that the kernel splices arrive whole, and are counted.
func TestBulk(t *testing.T) {
	const size = 64 << 20
	r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": lab.Func(func(c net.Conn) {
		c.Read(make([]byte, 100))
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = byte(i)
		}
		for range size >> 20 {
			c.Write(b)
		}
	})}})
	c, _ := r.connect(r.target("site.example.com", 443, false))
	_, err := io.WriteString(c, "go\r\n\r\n")
	require.NoError(t, err)
	n, bad := 0, 0
	buf := make([]byte, 1<<16)
	for {
		m, err := c.Read(buf)
		for i, b := range buf[:m] {
			if b != byte(n+i) {
				bad++
			}
		}
		n += m
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
	}
	require.Equal(t, size, n)
	require.Zero(t, bad)
	c.Close()
	require.EqualValues(t, size, r.closing().BytesDown)
}

// TestMuteClient: GnuTLS's clients (wget, git) finish the handshake, then look at
// the certificate, and leave. What they say is the same as after a good one.
func TestMuteClient(t *testing.T) {
	for name, c := range map[string]struct {
		does lab.Behaviour
		want want
	}{
		"inspected": {lab.ForeignCA, fail("handshake", "tls_intercepted", "network", likely, map[string]any{"issuer": nil})},
		"trusted":   {lab.Site{}, ok()},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+"/"+tls.VersionName(version), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": c.does}})
				raw, _ := r.connect(r.target("site.example.com", 443, false))
				conn := tls.Client(raw, &tls.Config{ServerName: "site.example.com", InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
				require.NoError(t, conn.Handshake())
				require.NoError(t, raw.Close())
				c.want.check(t, r.closing())
			})
		}
	}
}

// TestInPassing: the certificate of TLS 1.2 goes by in the clear; a client that
// accepts an inspecting device's is told of, without a handshake of our own.
func TestInPassing(t *testing.T) {
	r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": lab.ForeignCA}})
	_, err := r.fetch(r.target("site.example.com", 443, false), "site.example.com", client{version: tls.VersionTLS12, lenient: true})
	require.NoError(t, err)
	o := r.closing()
	ok().check(t, o)
	require.Contains(t, o.Detail["issuer"], "Inspection")
	for _, s := range r.seen {
		require.NotEqual(t, policy.OriginProbe, s.Origin)
	}
}

// TestPlainInTunnel: plain HTTP that comes by CONNECT is judged as in absolute
// form.
func TestPlainInTunnel(t *testing.T) {
	for name, c := range map[string]struct {
		does lab.Behaviour
		path string
		want want
	}{
		"answers":          {lab.Site{}, "/", ok()},
		"origin's own 403": {lab.Site{}, "/status/403", ok()},
		"511":              {lab.Site{}, "/status/511", fail("data", "http_block_page", "network", likely, map[string]any{"status": 511})},
		"portal":           {lab.Site{Location: "http://portal.corp.test"}, "/", fail("data", "http_block_page", "network", policy.Guess, map[string]any{"location": "portal.corp.test"})},
		"a filter's 403": {lab.Func(answer("HTTP/1.1 403 Forbidden\r\nServer: Zscaler/6.2\r\nContent-Length: 0\r\n\r\n")), "/",
			fail("data", "http_block_page", "network", likely, map[string]any{"server": "Zscaler/6.2"})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:80": c.does}})
			conn, _ := r.connect(r.target("site.example.com", 80, false))
			_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: site.example.com\r\nConnection: close\r\n\r\n", c.path)
			require.NoError(t, err)
			io.Copy(io.Discard, conn)
			conn.Close()
			o := r.closing()
			c.want.check(t, o)
			require.Equal(t, policy.KindConnection, o.Kind)
			require.Equal(t, "http", o.Protocol)
		})
	}
}
