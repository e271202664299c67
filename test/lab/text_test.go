package lab_test

import (
	"crypto/tls"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/lab"
)

func TestParse(t *testing.T) {
	private := lab.Resolves("10.0.0.1", "fd00::1")
	private.CNAMEs, private.Delay = []string{"a.test", "b.test"}, time.Second
	for line, want := range map[string]lab.Behaviour{
		`site`: lab.Site{},
		`site tls=1.2 retry expired wrong-name location=https://b.test delay=2s`: lab.Site{
			MaxTLS: tls.VersionTLS12, Retry: true, Expired: true, WrongName: true, Location: "https://b.test", Delay: 2 * time.Second},
		`foreign-ca`:          lab.ForeignCA,
		`foreign-ca tls=1.2`:  lab.Site{Signer: lab.Inspector, MaxTLS: tls.VersionTLS12},
		`echo`:                lab.Echo{},
		`ssh`:                 lab.SSH,
		`smtp`:                lab.SMTP,
		`refuse`:              lab.Refuse{},
		`drop`:                lab.Drop{},
		`at-once reset`:       lab.AtOnce(lab.Reset),
		`after-hello reset`:   lab.AfterHello(lab.Reset),
		`after-hello close`:   lab.AfterHello(lab.Close),
		`after-hello silence`: lab.AfterHello(lab.Silence),
		`after-server-hello alert access_denied tls=1.2`: lab.AfterServerHello{Alert: lab.AccessDenied, MaxTLS: tls.VersionTLS12},
		`after-server-hello silence`:                     lab.AfterServerHello{End: lab.Silence},
		`alert handshake_failure`:                        lab.HandshakeFailure,
		`alert 71`:                                       lab.Alert(71),
		`mid-stream reset after=4096`:                    lab.MidStream{After: 4096, End: lab.Reset},
		`block-page`:                                     lab.BlockPage{},
		`block-page status=302 location=http://x.test/ body="not here"`: lab.BlockPage{Status: 302, Location: "http://x.test/", Body: "not here"},
		`slow 2s then after-hello close`:                                lab.Slow{For: 2 * time.Second, Then: lab.AfterHello(lab.Close)},
		`nxdomain`:                                                      lab.NXDOMAIN,
		`servfail`:                                                      lab.SERVFAIL,
		`refused`:                                                       lab.REFUSED,
		`nodata`:                                                        lab.NODATA,
		`dns-silence`:                                                   lab.DNSSilence,
		`resolves to=0.0.0.0`:                                           lab.Resolves("0.0.0.0"),
		`resolves to=10.0.0.1,fd00::1 cname=a.test,b.test delay=1s`: private,
		`resolves truncate then refuse`:                             lab.Answer{Truncate: true, Then: lab.Refuse{}},
		`parent status=403`:                                         lab.ParentStatus{Code: 403},
		`parent status=503 squid="ERR_DNS_FAIL 0" proxy-status="gw; error=dns_error"`: lab.ParentStatus{
			Code: 503, SquidError: "ERR_DNS_FAIL 0", ProxyStatus: "gw; error=dns_error"},
		`parent-cut close`:              lab.ParentCut(lab.Close),
		`parent-silence`:                lab.ParentSilence{},
		`parent-forward 127.0.0.1:3128`: lab.ParentForward("127.0.0.1:3128"),
		`parent status=503 | site`:      lab.InTurn{lab.ParentStatus{Code: 503}, lab.Site{}},
		"\t echo  # as it comes":        lab.Echo{},
		`block-page body="# \n"`:        lab.BlockPage{Body: `# \n`},
	} {
		s, err := lab.Parse("t", strings.NewReader("\n# names\na.test:443 "+line+"\ncredentials alice s#cret\n"))
		require.NoError(t, err, line)
		require.Equal(t, lab.Script{
			Rules:       map[string]lab.Behaviour{"a.test:443": want},
			Credentials: url.UserPassword("alice", "s#cret"),
		}, s, line)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"a.test":                          `lab script "t": line 1: target "a.test": no behaviour`,
		"\na.test sitee":                  `lab script "t": line 2: target "a.test": unknown behaviour "sitee"`,
		"a.test:x site":                   `port "x" is no number`,
		"a.test:0 site":                   `port "0" is no number`,
		"a.*.test site":                   `want a host`,
		"a.test site\na.test echo":        `line 2: target "a.test": stands there twice`,
		"a.test site colour=red":          `site: does not know "colour"`,
		"a.test echo loud":                `echo: does not know "loud"`,
		"a.test after-hello":              `an argument is missing`,
		"a.test after-hello bang":         `ending "bang": want reset, close or silence`,
		"a.test alert 300":                `alert "300"`,
		"a.test slow 2s":                  `wants "then"`,
		"a.test slow never then site":     `invalid duration`,
		"a.test echo then site":           `takes no "then"`,
		"a.test slow 2s then nonsense":    `unknown behaviour "nonsense"`,
		"a.test resolves to=here":         `unable to parse IP`,
		"a.test site tls=1.1":             `want 1.2 or 1.3`,
		"a.test parent status=forbidden":  `status="forbidden" is no number`,
		`a.test block-page body="no end`:  `a quote is not closed`,
		"a.test site |":                   `no behaviour`,
		"a.test parent-cut reset  status": `does not know "status"`,
	} {
		_, err := lab.Parse("t", strings.NewReader(text))
		require.ErrorContains(t, err, want, text)
	}
}

func TestStartRefuses(t *testing.T) {
	for key, b := range map[string]lab.Behaviour{"a:b:c": lab.Site{}, "": lab.Site{}, "a.test": nil} {
		_, err := lab.Start(lab.Script{Rules: map[string]lab.Behaviour{key: b}})
		require.ErrorContains(t, err, "lab script: target")
	}
	_, err := lab.Start(lab.Script{Rules: map[string]lab.Behaviour{"a.test": lab.Site{}, "A.test.": lab.Echo{}}})
	require.ErrorContains(t, err, "twice")
}

// The most specific rule wins.
func TestRules(t *testing.T) {
	status := func(n int) lab.Behaviour { return lab.ParentStatus{Code: n} }
	w := start(t, map[string]lab.Behaviour{
		"*":                   status(401),
		"*:80":                status(402),
		"*.quay.io":           status(403),
		"*.quay.io:8443":      status(404),
		"*.cdn.quay.io":       status(405),
		"cdn01.quay.io":       status(406),
		"cdn01.quay.io:443":   status(408),
		"evilquay.io:443":     status(409),
		"*.very.long.io:4000": status(410),
	})
	for target, want := range map[string]string{
		"a.test:443": "401", "a.test:80": "402",
		"cdn02.quay.io:443": "403", "a.b.quay.io:80": "403", "cdn02.quay.io:8443": "404",
		"x.cdn.quay.io:443": "405", "cdn.quay.io:443": "403", "quay.io:443": "401",
		"cdn01.quay.io:8443": "406", "CDN01.quay.io.:443": "408",
		"evilquay.io:443": "409", "evilquay.io:80": "402", "x.very.long.io:443": "401",
	} {
		host, port, _ := strings.Cut(target, ":")
		var n uint16
		for _, c := range port {
			n = n*10 + uint16(c-'0')
		}
		_, err := tunnel.dial(w, host, n)
		require.ErrorContains(t, err, "status "+want, target)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a.test:443 slow 2s then parent status=503 squid=\"x y\" | site # c\ncredentials a b")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := lab.Parse("t", strings.NewReader(text))
		if err != nil {
			require.True(t, strings.HasPrefix(err.Error(), `lab script "t": `))
			return
		}
		for key, b := range s.Rules {
			require.NotNil(t, b, key)
		}
	})
}

// The script in the README is one, and so is every word that it lists.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(text), "```lab\n")
	script, _, ok := strings.Cut(rest, "```")
	require.True(t, ok)
	s, err := lab.Parse("README.md", strings.NewReader(script))
	require.NoError(t, err)
	require.Len(t, s.Rules, 9)
	w, err := lab.Start(s)
	require.NoError(t, err)
	w.Close()

	_, err = lab.Parse("t", strings.NewReader("a.test ?"))
	_, known, _ := strings.Cut(err.Error(), "known: ")
	for _, word := range strings.Split(strings.TrimSuffix(known, ")"), ", ") {
		require.Regexp(t, "`"+word+"[ `]", string(text), "the README does not tell of it")
	}
}
