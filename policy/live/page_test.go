package live

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/report"
)

// hostile are texts that a client may choose.
var hostile = []string{
	"<script>alert(1)</script>", "</script><script>alert(2)</script>", `"><img src=x onerror=alert(3)>`, "{{.Token}}", "javascript:alert(4)",
	"\u202egnp.exe\u2066", "\x1b[31mred\x1b]0;title\x07", "=cmd|' /C calc'!A0", "nul\x00nul", "bad\xff\xfeutf8", "&#x3c;b&#x3e;", "\nevent: hello\ndata: {}\n\n",
	strings.Repeat("l", 255), strings.Repeat("世", 700), "data-part=\"verdict\"",
}

// tried fills a feed with hostile text wherever a client or a device chooses one.
func tried(f *feed) {
	for _, h := range hostile {
		bad := went(h, policy.Verdict{Outcome: policy.Outcome(h), Stage: policy.Stage(h), Error: policy.Error(h), By: policy.By(h)})
		bad.Workload, bad.Detail = h, map[string]any{"why": h}
		look := &policy.Record{Kind: policy.KindQuery, Observation: &policy.Observation{Kind: policy.KindQuery, Name: h, Type: h, Workload: h, Verdict: reset}}
		f.add(phase(h), went(h, reset), bad, look, &policy.Record{Kind: policy.KindLost, Count: 1, Why: h},
			&policy.Record{Kind: policy.KindEvent, Observation: &policy.Observation{Workload: h}, Reason: h, Text: h + ` image "mcr.microsoft.com/` + h, Count: 2})
	}
}

// requireOurs demands that a page or a piece of one has no elements or attributes
// but ours, and nothing unprintable.
func requireOurs(t *testing.T, text string) {
	t.Helper()
	elements := strings.Fields(`html head meta title link script body div p nav a details summary ul ol li span form button noscript code main header h1 h2 h3 h4 b
		section label select option input output aside footer dl dt dd br`)
	attributes := strings.Fields(`lang charset name content rel href src defer class id role method action type value autocomplete spellcheck placeholder maxlength required hidden form
		for download tabindex data-token data-last data-edition data-state data-part data-scope aria-label aria-live aria-labelledby aria-hidden aria-pressed aria-current`)
	for z := html.NewTokenizer(strings.NewReader(text)); ; {
		kind := z.Next()
		if kind == html.ErrorToken {
			break
		}
		if tok := z.Token(); kind == html.StartTagToken || kind == html.SelfClosingTagToken {
			require.Contains(t, elements, tok.Data)
			for _, a := range tok.Attr {
				require.Contains(t, attributes, a.Key, "<%s>", tok.Data)
				if a.Key == "src" {
					require.Equal(t, "live.js", a.Val)
				}
				if a.Key == "href" {
					require.Regexp(t, `^(#|https://|api/|live\.css$|icon\.svg$)`, a.Val)
				}
			}
		}
	}
	for line := range strings.Lines(text) {
		require.Equal(t, report.Escape(strings.TrimSuffix(line, "\n")), strings.TrimSuffix(line, "\n"))
	}
}

// Whatever clients call things, page and events are made of our own elements.
func TestHostileNames(t *testing.T) {
	a := newAdmin(t, "")
	tried(a.feed)
	status, page := a.ask(t, "GET", "/", "")
	require.Equal(t, http.StatusOK, status)
	requireOurs(t, page)
	require.Contains(t, page, "&lt;script&gt;alert(1)&lt;/script&gt;")
	require.Equal(t, 1, strings.Count(page, "<script"))
	s := a.listen(t, "")
	seen := 0
	for seen < 2 {
		switch e := s.next(t); e.kind {
		case "rows":
			var r struct{ HTML string }
			require.NoError(t, json.Unmarshal(e.data, &r))
			requireOurs(t, r.HTML)
			require.Contains(t, r.HTML, "&lt;img src=x")
			seen++
		case "report":
			parts := map[string]string{}
			require.NoError(t, json.Unmarshal(e.data, &parts))
			require.Len(t, parts, len(report.SectionNames)+1)
			for _, p := range parts {
				requireOurs(t, p)
			}
			require.Contains(t, parts["phases"], "&lt;script&gt;")
			seen++
		}
	}
}

// Every answer forbids browsers what the page does not need: errors, files and
// metrics too.
func TestPolicyOnEveryAnswer(t *testing.T) {
	for _, token := range []string{"", "secret"} {
		a := newAdmin(t, token)
		for _, path := range []string{"/", "/live.css", "/live.js", "/icon.svg", "/healthz", "/readyz", "/metrics", "/api/report", "/api/report?format=html", "/api/report?format=x", "/api/mark", "/none", "/login", "//"} {
			_, h, _ := a.answer(t, "GET", path, "")
			require.Equal(t, contentPolicy, h.Get("Content-Security-Policy"), path)
			require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
			require.Equal(t, "no-store", h.Get("Cache-Control"))
			require.Equal(t, "no-referrer", h.Get("Referrer-Policy"))
		}
	}
	require.NotContains(t, contentPolicy, "unsafe")
	require.NotContains(t, string(file("live.html"))+string(file("login.html")), "style=")
}

// TestWhoMayLook: on loopback nobody by a name that somebody's name server chose,
// and with a token nobody without.
func TestWhoMayLook(t *testing.T) {
	for name, c := range map[string]struct {
		token            string
		fields           []string
		page, api, files int
	}{
		"on this host":               {"", nil, 200, 200, 200},
		"a name that leads to us":    {"", []string{"Host: rebind.example.com"}, 403, 403, 403},
		"a page of another site":     {"", []string{"Sec-Fetch-Site: cross-site"}, 200, 403, 200}, // a link may lead to the page
		"a page of another port":     {"", []string{"Sec-Fetch-Site: same-site"}, 200, 403, 200},
		"our page":                   {"", []string{"Sec-Fetch-Site: same-origin"}, 200, 200, 200},
		"typed":                      {"", []string{"Sec-Fetch-Site: none"}, 200, 200, 200},
		"no token":                   {"secret", nil, 401, 401, 200},
		"the token":                  {"secret", []string{"Authorization: Bearer secret"}, 200, 200, 200},
		"another token":              {"secret", []string{"Authorization: Bearer secrets"}, 401, 401, 200},
		"the cookie":                 {"secret", []string{"Cookie: egressaudit=GOOD"}, 200, 200, 200},
		"a cookie that is over":      {"secret", []string{"Cookie: egressaudit=OVER"}, 401, 401, 200},
		"a cookie of another token":  {"secret", []string{"Cookie: egressaudit=FORGED"}, 401, 401, 200},
		"a cookie that is no cookie": {"secret", []string{"Cookie: egressaudit=9999999999"}, 401, 401, 200},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAdmin(t, c.token)
			in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
			forger := &Server{config: Config{Token: "guess"}}
			for i, f := range c.fields {
				c.fields[i] = strings.NewReplacer("GOOD", a.pass(in(time.Hour)), "OVER", a.pass(in(-time.Minute)), "FORGED", forger.pass(in(time.Hour))).Replace(f)
			}
			for path, want := range map[string]int{"/": c.page, "/api/report": c.api, "/live.js": c.files, "/healthz": 200, "/readyz": 200, "/metrics": 200} {
				status, text := a.ask(t, "GET", path, "", c.fields...)
				require.Equal(t, want, status, "%s: %s", path, text)
				if status != 200 {
					require.NotContains(t, text, a.pageToken)
				}
			}
		})
	}
}

// TestLogin: the token in the form becomes a cookie that only this server reads.
func TestLogin(t *testing.T) {
	a := newAdmin(t, "secret")
	form := "Content-Type: application/x-www-form-urlencoded"
	_, page := a.ask(t, "GET", "/", "")
	require.Contains(t, page, `<form method="post" action="login">`)
	status, h, text := a.answer(t, "POST", "/login", "token=wrong", form)
	require.Equal(t, http.StatusUnauthorized, status)
	require.Contains(t, text, "That is not the token")
	require.Empty(t, h.Get("Set-Cookie"))
	status, _ = a.ask(t, "POST", "/login", "token=secret", form, "Origin: https://evil.example")
	require.Equal(t, http.StatusForbidden, status)
	status, _ = a.ask(t, "POST", "/login", "token="+strings.Repeat("x", maxLogin), form)
	require.Equal(t, http.StatusUnauthorized, status)
	status, h, _ = a.answer(t, "POST", "/login", "token=secret", form)
	require.Equal(t, http.StatusSeeOther, status)
	cookie := h.Get("Set-Cookie")
	for _, want := range []string{"egressaudit=", "HttpOnly", "SameSite=Strict", "Path=/", "Expires="} {
		require.Contains(t, cookie, want)
	}
	require.NotContains(t, cookie, "secret")
	status, page = a.ask(t, "GET", "/", "", "Cookie: "+strings.Split(cookie, ";")[0])
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, page, "Log out")
	_, h, _ = a.answer(t, "POST", "/logout", "")
	require.Contains(t, h.Get("Set-Cookie"), "Max-Age=0")
}

// Each format of the report can be kept, and says what the engine says.
func TestDownloads(t *testing.T) {
	a := newAdmin(t, "")
	a.feed.add(went("quay.io", reset))
	require.Len(t, formats, len(report.Formats))
	for _, f := range formats {
		status, h, text := a.answer(t, "GET", "/api/report?format="+f.Name, "")
		require.Equal(t, http.StatusOK, status, text)
		require.Equal(t, f.Kind, h.Get("Content-Type"))
		require.Equal(t, fmt.Sprintf(`attachment; filename="egressaudit-report.%s"`, f.End), h.Get("Content-Disposition"))
		require.Contains(t, text, "quay.io")
	}
	_, text := a.ask(t, "GET", "/api/report", "")
	var r report.Report
	require.NoError(t, json.Unmarshal([]byte(text), &r))
	require.Equal(t, report.Gaps, r.Verdict)
	status, text := a.ask(t, "GET", "/api/report?format=%3Cpdf%1b", "")
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, text, "write text, json,")
	require.NotContains(t, text, "\x1b")
}
