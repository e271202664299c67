package catalog

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// contractExample is the example of the contract, section 6, verbatim.
const contractExample = `schema: egressaudit/catalog/1
name: aml-extension
title: Azure Machine Learning extension on Azure Arc-enabled Kubernetes
revision: "2021-11-19"
source: {title: ..., url: ...}
placeholders: {region: {description: ..., example: eastus}}
requirements:
  - id: kusto-logs
    scope: extension
    hosts: ["*.kusto.windows.net", "*.table.core.windows.net"]
    port: 443
    protocol: https            # https, http, wss, tcp, udp
    purpose: upload of system logs
    needs: [websocket, no-tls-inspection]   # optional
    optional: false
    valid: {from: 2021-09-17, until: 2021-12-07}   # optional
    any_of: docker-blobs       # optional: requirements that share a group are alternatives
`

func TestParseContractExample(t *testing.T) {
	f, err := Parse("x.yaml", []byte(contractExample))
	require.NoError(t, err)
	require.Equal(t, []Placeholder{{Name: "region", Description: "...", Example: "eastus", Line: 6}}, f.Placeholders)
	require.Equal(t, Source{Title: "...", URL: "...", Revision: "2021-11-19"}, f.SourceOf("kusto-logs"))
	require.Equal(t, "sha256:", f.Digest[:7])
	require.Len(t, f.Digest, 7+64)

	c, err := f.Catalog(nil)
	require.NoError(t, err)
	require.Equal(t, &policy.Catalog{
		Name:     "aml-extension",
		Title:    "Azure Machine Learning extension on Azure Arc-enabled Kubernetes",
		Revision: "2021-11-19",
		Digest:   f.Digest,
		Source:   policy.Source{Title: "...", URL: "..."},
		Requirements: []*policy.Requirement{{
			ID:       "kusto-logs",
			Scope:    "extension",
			Hosts:    []policy.Pattern{policy.MustPattern("*.kusto.windows.net"), policy.MustPattern("*.table.core.windows.net")},
			Port:     443,
			Protocol: policy.HTTPS,
			Purpose:  "upload of system logs",
			Needs:    []policy.Need{policy.NeedWebsocket, policy.NeedNoTLSInspection},
			From:     time.Date(2021, 9, 17, 0, 0, 0, 0, time.UTC),
			Until:    time.Date(2021, 12, 7, 0, 0, 0, 0, time.UTC),
			AnyOf:    "docker-blobs",
		}},
	}, c)
}

// head is the first six lines of a catalog; the requirements follow in line 7.
const head = `schema: egressaudit/catalog/1
name: x
title: An example
revision: "1"
source: {title: Page, url: https://example.org/}
requirements:
`

// rest is what follows the hosts of a requirement.
const rest = `
    port: 443
    protocol: https
    purpose: a test
`

// one is a catalog of one requirement with the host; the host is in line 9.
func one(host string) string {
	return head + "  - id: a\n    scope: s\n    hosts: [" + host + "]" + rest
}

// swap is a good catalog with one piece of text replaced.
func swap(old, new string) string {
	text := one("a.example.org")
	if strings.Count(text, old) != 1 {
		panic("not once in the example: " + old)
	}
	return strings.Replace(text, old, new, 1)
}

var badFiles = []struct{ name, text, want string }{
	// Hosts. The words are those of policy.ParsePattern.
	{"partial first label", one(`"*foo.com"`), `line 9: host "*foo.com": a wildcard is a whole first label (did you mean "*.foo.com"?)`},
	{"leading dot", one(`.data.mcr.microsoft.com`), `line 9: host ".data.mcr.microsoft.com": a name does not begin with a dot (did you mean "*.data.mcr.microsoft.com"?)`},
	{"URL", one(`"https://a.example/x"`), `line 9: host "https://a.example/x": a host without scheme and path (did you mean "a.example"?)`},
	{"path", one(`dockerhub.azk8s.cn/<repo>/x`), `line 9: host "dockerhub.azk8s.cn/<repo>/x": a host without scheme and path (did you mean "dockerhub.azk8s.cn"?)`},
	{"port", one(`"a.example:8084"`), `line 9: host "a.example:8084": the port goes into its own key (did you mean "a.example"?)`},
	{"two in one", one(`"a.example, b.example"`), `line 9: host "a.example, b.example": one host an entry, without blanks`},
	{"braces", one(`"{region}.example.org"`), `line 9: host "{region}.example.org": a placeholder is written in angle brackets (did you mean "<region>.example.org"?)`},
	{"placeholder with blanks", one(`<Your ACR>.azurecr.io`), `line 9: host "<Your ACR>.azurecr.io": placeholder <Your ACR>: a name is a lower-case letter, then letters, digits, - or _ (did you mean "<your-acr>.azurecr.io"?)`},
	{"placeholder in capitals", one(`<Region>.example.org`), `line 9: host "<Region>.example.org": placeholder <Region>: a name is a lower-case letter, then letters, digits, - or _ (did you mean "<region>.example.org"?)`},
	{"empty label", one(`a..example`), `line 9: host "a..example": empty label between dots`},
	{"odd address", one(`127.1`), `line 9: requirement "a": host: text is wanted, not a number: put it in quotes: "127.1"`},
	{"odd address in quotes", one(`"127.1"`), `line 9: host "127.1": an IPv4 address is four decimal numbers from 0 to 255, without leading zeros`},
	{"wildcard unquoted", one(`*.quay.io`), `line 9: *.quay.io begins with *, which YAML reads as an alias: put it in quotes: "*.quay.io"`},
	{"second host, own line", swap("[a.example.org]", "\n      - a.example.org\n      # a comment\n      - b_c.example.org\n      - \"*b.example.org\""),
		`line 13: host "*b.example.org": a wildcard is a whole first label (did you mean "*.b.example.org"?)`},
	{"the earlier of two", swap("[a.example.org]\n    port: 443", "[\"*a.example.org\"]\n    port: 0"), `line 9: host "*a.example.org": a wildcard is a whole first label (did you mean "*.a.example.org"?)`},
	{"hosts is text", swap("[a.example.org]", "a.example.org"), `line 9: requirement "a": hosts: a list is wanted, not text (did you mean ["a.example.org"]?)`},
	{"hosts is empty", swap("[a.example.org]", "[]"), `line 9: requirement "a": hosts: the list is empty`},
	{"host is a list", swap("[a.example.org]", "[[a.example.org]]"), `line 9: requirement "a": host: text is wanted, not a list`},

	// Keys.
	{"unknown key, near", swap("purpose:", "puprose:"), `line 12: requirement "a": unknown key "puprose" (did you mean "purpose"?)`},
	{"unknown key, near, besides", swap("purpose: a test", "purpose: a test\n    need: [websocket]"), `line 13: requirement "a": unknown key "need" (did you mean "needs"?)`},
	{"unknown key, far", swap("title: An", "colour: red\ntitle: An"),
		`line 3: unknown key "colour" (known are "schema", "name", "title", "revision", "source", "requirements" and "placeholders")`},
	{"unknown key of source", swap("title: Page", "titel: Page"), `line 5: source: unknown key "titel" (did you mean "title"?)`},
	{"missing key", swap("    port: 443\n", ""), `line 7: requirement "a": key "port" is missing`},
	{"missing id", swap("id: a\n    scope", "scope"), `line 7: requirement: key "id" is missing`},
	{"missing title", swap("title: An example\n", ""), `line 1: key "title" is missing`},
	{"missing source URL", swap("{title: Page, url: https://example.org/}", "{title: Page}"), `line 5: source: key "url" is missing`},
	{"no requirements", head + "  []\n", `line 6: requirements: the list is empty`},
	{"key twice", swap("port: 443", "port: 443\n    port: 80"), `line 11: requirement "a": key "port" stands twice, first in line 10`},
	{"key twice at the top", swap("title: An example", "title: An example\ntitle: another"), `line 4: key "title" stands twice, first in line 3`},
	{"key twice in brackets", swap("{title: Page, ", "{title: Page, title: Leaf, "), `line 5: source: key "title" stands twice, first in line 5`},
	{"id twice", one("a.example.org") + "  - id: a\n    scope: s\n    hosts: [b.example.org]" + rest, `line 13: requirement "a": the id is taken, by line 7`},
	{"no value", swap("port: 443", "port:"), `line 10: key "port" has no value`},
	{"no value at the end", swap("purpose: a test", "purpose:"), `line 12: requirement "a": purpose: text is wanted, not nothing`},

	// Values.
	{"port zero", swap("443", "0"), `line 10: requirement "a": port: a number from 1 to 65535 is wanted, not 0`},
	{"port too large", swap("443", "65536"), `line 10: requirement "a": port: a number from 1 to 65535 is wanted, not 65536`},
	{"port negative", swap("443", "-1"), `line 10: requirement "a": port: a number from 1 to 65535 is wanted, not -1`},
	{"port as text", swap("443", `"443"`), `line 10: requirement "a": port: a number from 1 to 65535 is wanted, not "443"`},
	{"port as a fraction", swap("443", "443.0"), `line 10: requirement "a": port: a number from 1 to 65535 is wanted, not 443.0`},
	{"several ports", swap("443", "[80, 443]"), `line 10: requirement "a": port: a number from 1 to 65535 is wanted, not a list`},
	{"port beyond numbers", swap("443", "99999999999999999999999"), `line 10: requirement "a": port: a number from 1 to 65535 is wanted, not "99999999999999999999999"`},
	{"protocol in capitals", swap("protocol: https", "protocol: HTTPS"), `line 11: requirement "a": protocol "HTTPS" is not known (did you mean "https" or "http"?)`},
	{"protocol unknown", swap("protocol: https", "protocol: gopher"), `line 11: requirement "a": protocol "gopher" is not known (known are "https", "http", "wss", "tcp" and "udp")`},
	{"need unknown", swap("purpose: a test", "purpose: a test\n    needs: [web-socket]"), `line 13: requirement "a": need "web-socket" is not known (did you mean "websocket"?)`},
	{"need twice", swap("purpose: a test", "purpose: a test\n    needs: [websocket, websocket]"), `line 13: requirement "a": need "websocket" stands twice`},
	{"optional as text", swap("purpose: a test", "purpose: a test\n    optional: yes"), `line 13: requirement "a": optional: true or false is wanted, not "yes"`},
	{"revision as a number", swap(`revision: "1"`, "revision: 2021.11"), `line 4: revision: text is wanted, not a number: put it in quotes: "2021.11"`},
	{"name in capitals", swap("name: x", "name: My List"), `line 2: name "My List": made of lower-case letters, digits, -, _ and . (did you mean "my-list"?)`},
	{"scope with a comma", swap("scope: s", `scope: "s,t"`), `line 8: requirement "a": scope "s,t": made of lower-case letters, digits, -, _ and . (did you mean "s-t"?)`},
	{"escape in a title", swap("title: An example", `title: "An \x1b[2J example"`), `line 3: title: a control character does not belong into text`},
	{"direction mark", swap("purpose: a test", "purpose: a \u202etest"), `line 12: requirement "a": purpose: a control character does not belong into text`},
	{"empty text", swap("purpose: a test", `purpose: ""`), `line 12: requirement "a": purpose: the text is empty`},
	{"no such day", swap("purpose: a test", "purpose: a test\n    valid: {from: 2021-02-30}"), `line 13: requirement "a": valid: from: a day is written like 2021-12-07, not "2021-02-30"`},
	{"until before from", swap("purpose: a test", "purpose: a test\n    valid:\n      from: 2022-01-01\n      until: 2021-01-01"),
		`line 15: requirement "a": valid: until 2021-01-01 is not after from 2022-01-01`},
	{"valid without a day", swap("purpose: a test", "purpose: a test\n    valid: {}"), `line 13: requirement "a": valid: "from", "until" or both are wanted`},
	{"placeholder name", swap("requirements:", "placeholders: {Region: {description: d}}\nrequirements:"),
		`line 6: placeholder "Region": a name is a lower-case letter, then letters, digits, - or _`},
	{"placeholder key", swap("requirements:", "placeholders:\n  region: {description: d, exmaple: eastus}\nrequirements:"),
		`line 7: placeholder "region": unknown key "exmaple" (did you mean "example"?)`},
	{"placeholder without keys", swap("requirements:", "placeholders: {region: eastus}\nrequirements:"),
		`line 6: placeholder "region": keys with values are wanted here, not text`},
	{"example of a placeholder", swap("requirements:", "placeholders: {region: {description: d, example: East US}}\nrequirements:"),
		`line 6: placeholder "region": example "East US": one host an entry, without blanks`},

	// Other files.
	{"other schema", swap("catalog/1", "catalog/2"), `line 1: schema "egressaudit/catalog/2" cannot be read: this program reads "egressaudit/catalog/1"`},
	{"another list", "endpoints:\n  - host: quay.io\n    ports:\n      - 443\n", `line 1: this is no catalog: key "schema" is missing (a catalog has "schema: egressaudit/catalog/1")`},
	{"a list", "- a\n- b\n", `line 1: keys with values are wanted here, not a list`},
	{"prose", "hello, world\n", `line 1: keys with values are wanted here, not text`},
	{"empty", "", `the file is empty`},
	{"a comment", "# soon\n", `the file is empty`},
	{"a ledger", `{"schema":1,"seq":1}` + "\n" + `{"schema":1,"seq":2}` + "\n", `line 2: value is not allowed in this context`},
	{"two documents", one("a.example.org") + "---\n" + one("b.example.org"), `line 13: a second document begins: a catalog file holds one`},
	{"not UTF-8", swap("An example", "An ex\xffmple"), `line 3: the byte 0xff is not UTF-8 text`},
	{"NUL", swap("An example", "An ex\x00mple"), `line 3: the byte 0x00 is not UTF-8 text`},
	{"too large", one("a.example.org") + strings.Repeat("#", maxFile), `the file is larger than 1 MiB`},

	// YAML that a catalog has no need of.
	{"anchor", swap("title: An example", "title: &t An example"), `line 3: an anchor (&) does not belong into a catalog: write the value out, or put it in quotes`},
	{"tag", swap("title: An example", "title: !!str 5"), `line 3: a tag (!) does not belong into a catalog: write the value plainly, or put it in quotes`},
	{"merge key", swap("title: An example", "<<: {title: An example}"), `line 3: "<<" does not belong into a catalog`},
	{"complex key", swap("title: An example", "? title\n: An example"), `line 3: "?" does not belong into a catalog`},
	{"directive", "%YAML 1.1\n---\n" + one("a.example.org"), `line 1: "%" does not belong into a catalog`},
	{"tab", swap("    scope: s", "\tscope: s"), "line 8: found character ' ' that cannot start any token (indent with blanks, not with tabs)"},
	{"colon in text", swap("purpose: a test", "purpose: note: a test"), `line 12: mapping value is not allowed in this context (text that holds ": " stands in quotes)`},
	{"open bracket", swap("[a.example.org]", "[a.example.org"), `line 10: ',' or ']' must be specified`},
	{"open quote", swap("[a.example.org]", `["a.example.org]`), `line 9: could not find end character of double-quoted text`},
}

func TestParseErrors(t *testing.T) {
	for _, test := range badFiles {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("dir/x.yaml", []byte(test.text))
			require.EqualError(t, err, `read catalog "dir/x.yaml": `+test.want)
		})
	}
}

// The line must be right however the file is written.
func TestParseErrorLines(t *testing.T) {
	bad := one(`"*foo.com"`)
	for name, text := range map[string]string{
		"CRLF":            strings.ReplaceAll(bad, "\n", "\r\n"),
		"byte order mark": "\ufeff" + bad,
		"no last newline": strings.TrimSuffix(bad, "\n"),
	} {
		_, err := Parse("x", []byte(text))
		require.ErrorContains(t, err, "line 9: host", name)
		require.ErrorIs(t, err, policy.ErrPattern, name)
	}
	_, err := Parse("x", []byte("---\n# about\n\n"+strings.Replace(bad, "An example", ">\n  An example\n  of two lines", 1)))
	require.ErrorContains(t, err, "line 14: host")
}

// What is clear is read, in each of its spellings.
func TestParseSpellings(t *testing.T) {
	for name, text := range map[string]string{
		"CRLF":            strings.ReplaceAll(one("a.example.org"), "\n", "\r\n"),
		"byte order mark": "\ufeff" + one("a.example.org"),
		"document marks":  "---\n" + one("a.example.org") + "...\n",
		"block text":      swap("a test", ">\n      a\n      test"),
		"trailing comma":  swap("[a.example.org]", "[\n      a.example.org, # the only one\n    ]"),
		"trailing, flow":  swap("https://example.org/}", "https://example.org/,}"),
		"text below":      swap("purpose: a test", "purpose:\n      a\n      test"),
		"text goes on":    swap("purpose: a test", "purpose: a\n      test"),
		"blank lines":     strings.ReplaceAll(one("a.example.org"), "\n", "\n\n  # so\n"),
		"quotes":          swap("purpose: a test", `"purpose": "a test"`),
		"list of lines":   swap("[a.example.org]", "\n    - a.example.org # the only one"),
		"upper case, dot": one("A.Example.ORG."),
	} {
		f, err := Parse("x", []byte(text))
		require.NoError(t, err, name)
		c, err := f.Catalog(nil)
		require.NoError(t, err, name)
		r := c.Requirements[0]
		require.Equal(t, "a.example.org a test", fmt.Sprint(r.Hosts[0], " ", r.Purpose), name)
	}
}

func TestParseSource(t *testing.T) {
	f, err := Parse("x", []byte(one("a.example.org")+
		"  - {id: b, scope: s, hosts: [b.example.org], port: 1, protocol: tcp, purpose: p, source: https://example.org/b}\n"+
		"  - {id: c, scope: s, hosts: [c.example.org], port: 1, protocol: udp, purpose: p, source: {url: https://example.org/c, title: C, revision: \"2\"}}\n"))
	require.NoError(t, err)
	require.Equal(t, Source{"Page", "https://example.org/", "1"}, f.SourceOf("a"))
	require.Equal(t, Source{"", "https://example.org/b", "1"}, f.SourceOf("b"))
	require.Equal(t, Source{"C", "https://example.org/c", "2"}, f.SourceOf("c"))
	c, err := f.Catalog(nil)
	require.NoError(t, err)
	require.Empty(t, c.Requirements[0].Source, "the catalog's page is not repeated")
	require.Equal(t, "https://example.org/b", c.Requirements[1].Source)
}

// Texts that make the YAML parser deep or slow are refused before it sees them.
// The limit is far above what they take, and far below what they took.
func TestParseHostile(t *testing.T) {
	if testing.Short() {
		t.Skip("28 texts of 1 MiB are left out with -short")
	}
	const size = maxFile - 100
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	count := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < size-20; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	laughs := "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n"
	for name, text := range map[string]string{
		"lists in lists":       fill("- "),
		"empty entries":        fill("-\n"),
		"entries of comments":  fill("- #\n"),
		"brackets":             fill("["),
		"braces":               fill("{"),
		"brackets and commas":  "a: [" + fill(",") + "]",
		"keys":                 count("k%d: v\n"),
		"keys of lists":        count("k%d:\n- v\n"),
		"keys of keys":         count("k%d:\n  v: w\n"),
		"keys in braces":       "a: {" + count("k%d: v,") + "}",
		"keys without value":   "a: {" + count("k%d,") + "}",
		"empty values":         fill("- a:\n"),
		"empty flow values":    "a: [" + fill("{a: },") + "]",
		"empty nested entries": fill("- a:\n    -\n"),
		"question marks":       fill("? "),
		"tags":                 fill("!a "),
		"anchors":              fill("&a "),
		"aliases":              laughs,
		"colons":               fill("a: "),
		"quotes":               "a: \"" + fill("a\n"),
		"escapes":              "a: \"" + fill("\\x41"),
		"folded":               "a: >\n" + fill(" a\n\n"),
		"comments":             fill("#\n"),
		"documents":            fill("---\n"),
		"entries":              "a:\n" + fill("- b\n"),
		"flow entries":         "a: [" + fill("b,") + "]",
		"carriage returns":     fill("a\r"),
		"hosts":                strings.Replace(one("@"), "[@]", "["+count("h%d.example.org, ")+"z]", 1)[:size] + "]" + rest,
	} {
		start := time.Now()
		_, err := Parse("x", []byte(text))
		took := time.Since(start)
		require.Less(t, took, 20*time.Second, name)
		t.Logf("%-22s %8v %.120v", name, took.Round(time.Millisecond), err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(contractExample))
	for _, test := range badFiles {
		if len(test.text) < 4096 {
			f.Add([]byte(test.text))
		}
	}
	others := loadAll(f)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("f", data)
		if err != nil {
			require.False(t, bytes.ContainsAny([]byte(err.Error()), "\n\r\x1b"), "%q", err)
			require.True(t, strings.HasPrefix(err.Error(), `read catalog "f": `), err)
			return
		}
		for _, p := range Lint(file, others, now) {
			require.NotContains(t, p.String(), "\n")
			require.Positive(t, p.Line)
			require.LessOrEqual(t, p.Line, 1+bytes.Count(data, []byte("\n")))
		}
		open, err := file.Catalog(nil)
		require.NoError(t, err)
		require.NotEmpty(t, open.Requirements)
		policy.NewIndex(open)
		filled, err := file.Catalog(Values{"region": {"eastus", "westus"}})
		if err == nil {
			require.Len(t, filled.Requirements, len(open.Requirements))
		}
	})
}

// loadAll is every embedded catalog.
func loadAll(t testing.TB) (all []*File) {
	for _, name := range Names() {
		f, err := Load(name)
		require.NoError(t, err)
		all = append(all, f)
	}
	return all
}
