package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	gmhtml "github.com/yuin/goldmark/renderer/html"
	gmtext "github.com/yuin/goldmark/text"
	"golang.org/x/net/html"
)

// hostile are texts that a client, a device or a catalog may choose.
var hostile = []string{
	"<script>alert(1)</script>",
	"</style><script>alert(2)</script>",
	"\"><img src=x onerror=alert(3)>",
	"{{.Version}}${7*7}",
	"&#x3c;script&#x3e;alert(4)",
	"javascript:alert(5)",
	"\u202egnp.exe\u2066",
	"\x1b[31mred\x1b]0;title\x07",
	"=cmd|' /C calc'!A0",
	"+1+1", "-1+1", "@SUM(1)", "\tTAB", "\rCR", "＝1",
	"a|b|c", "a\\|b", "`code`", "``", "*bold* _em_ ~~gone~~", "[link](https://evil.example)", "![i](https://evil.example/p.png)",
	"https://evil.example/x", "www.evil.example", "@everyone", "#1", "evil@example.org", "<!-- hidden", "--> seen", "]]>",
	"\n# heading\n- item\n```", "nul\x00nul", "bad\xff\xfeutf8",
	strings.Repeat("l", 255),
	strings.Repeat(strings.Repeat("l", 63)+".", 3) + strings.Repeat("e", 61),
}

// hostileReport has hostile text in every field that somebody else fills.
func hostileReport() *Report {
	t := &tape{vantage: hostile[0]}
	t.add(&policy.Record{Kind: policy.KindStart, Session: &policy.Session{
		Canary: canaryName, Listeners: hostile[:4], Ledger: hostile[1], NoProxy: hostile[:9], Version: hostile[2], Regions: hostile[:3], Parent: hostile[5],
	}})
	for i, h := range hostile {
		t.mark(h)
		w := from1(h)
		t.conn(h, reset1, w, detail("why", h, h, h)).conn(h, port(8443), ok, w, detail("issuer", h)).conn("quay.io", ok, sni(h), w)
		t.conn("h"+string(rune('a'+i%26))+".quay.io", fails(policy.StageHandshake, policy.TLSIntercepted, policy.ByNetwork, policy.Certain, "issuer", h, "server", h), w)
		t.conn("gcr.io", fails(policy.Stage(h), policy.Error(h), policy.By(h), policy.Confidence(h), "status", h), w)
		t.query(h, unanswered(h), w).lost(1, h)
		t.event(h, h, pull("quay.io/"+h, "https://gcr.io/"+h), 2).event(h, h, h, 1)
	}
	t.stop()
	c := cat("hostile", "quay x quay.io,*.quay.io", "gcr x gcr.io,<region>.example.org need=no-tls-inspection")
	c.Title, c.Revision, c.Digest, c.Source.URL = hostile[0], hostile[6], hostile[7], hostile[5]
	for i, q := range c.Requirements {
		q.Purpose, q.Scope, q.ID, q.Source = hostile[i], hostile[i+2], hostile[i+8], hostile[5]
		q.Needs = append(q.Needs, policy.Need(hostile[2]))
	}
	r := t.report(Options{Catalogs: []*policy.Catalog{c}, Files: hostile, Scopes: []string{hostile[2], hostile[3]}, Version: hostile[8]})
	for _, h := range hostile { // and what no record can bring there today
		r.Findings = append(r.Findings, Finding{Kind: Flapping, Text: h})
		r.Unlisted = append(r.Unlisted, Unlisted{Host: h, Port: 443, Outcome: Worked, Near: h, Workloads: []string{h}})
	}
	return r
}

// Whatever somebody else said, no rendering has an unprintable character in it.
func TestHostileIsPrintable(t *testing.T) {
	r := hostileReport()
	for _, format := range Formats {
		t.Run(format, func(t *testing.T) {
			var b bytes.Buffer
			require.NoError(t, r.Write(&b, format, TextOptions{}))
			require.True(t, utf8.Valid(b.Bytes()))
			for line := range strings.Lines(b.String()) {
				bare := strings.TrimRight(line, "\r\n")
				require.Equal(t, Escape(bare), bare)
			}
		})
	}
}

// A page made of hostile text has the same elements and attributes as ours, runs
// nothing and loads nothing.
func TestHostileHTML(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, hostileReport().WriteHTML(&b))
	requirePage(t, b.Bytes())
	require.Contains(t, b.String(), "&lt;script&gt;alert(1)&lt;/script&gt;")
	require.NotContains(t, b.String(), "ZgotmplZ", "a link that is none of the web is left out")
}

// No cell computes; the sheet can be read back, one rule a row.
func TestHostileCSV(t *testing.T) {
	r := hostileReport()
	var b bytes.Buffer
	require.NoError(t, r.WriteCSV(&b))
	rows, err := csv.NewReader(&b).ReadAll()
	require.NoError(t, err)
	require.Equal(t, csvColumns, rows[0])
	require.Len(t, rows, 1+len(r.wanted())+bit(len(r.undecided()) > 0)+1)
	tamed := 0
	for _, row := range rows[1:] {
		for _, cell := range row {
			require.False(t, strings.IndexAny(cell, "=+-@\t\r\n＝＋－＠") == 0, "%q", cell)
			tamed += bit(strings.HasPrefix(cell, "'"))
		}
	}
	require.Greater(t, tamed, 4)
	require.Equal(t, string(CannotTell), rows[len(rows)-1][0])
}

// A sheet without a rule says so when nothing can be cleared, and has but its
// header where all is well.
func TestCSVWithoutRules(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	var b bytes.Buffer
	require.NoError(t, started().conn("quay.io", ok).stop().report(o).WriteCSV(&b))
	require.Equal(t, 1, strings.Count(b.String(), "\r\n"))
	b.Reset()
	require.NoError(t, quiet().halt().report(o).WriteCSV(&b))
	require.Contains(t, b.String(), "cannot-tell,")
	b.Reset()
	require.NoError(t, started().conn("quay.io", ok).conn("a.example", left).conn("b.example", ok).conn("c.example", dropped).stop().report(o).WriteCSV(&b))
	rows, err := csv.NewReader(&b).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 3)
	require.Equal(t, "c.example", rows[1][2])
	require.Equal(t, "gaps", rows[2][0])
	require.Contains(t, rows[2][6], "a.example:443 (reached), b.example:443 (worked)")
}

// In the Markdown nothing that somebody else said is a link, an image, markup or
// HTML, and all of it can be read.
func TestHostileMarkdown(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, hostileReport().WriteMarkdown(&b))
	md := goldmark.New(goldmark.WithExtensions(extension.GFM))
	doc := md.Parser().Parse(gmtext.NewReader(b.Bytes()))
	ours := regexp.MustCompile(`^(<!-- -->|<br>|</?details>|</?summary>)$`)
	headings := 0
	require.NoError(t, ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Link, *ast.AutoLink, *ast.Image, *ast.FencedCodeBlock, *ast.CodeBlock:
			require.Fail(t, "hostile markup", "%s", n.Kind())
		case *ast.RawHTML:
			require.Regexp(t, ours, string(n.Segments.Value(b.Bytes())))
		case *ast.HTMLBlock:
			require.Regexp(t, `^(<details><summary>|</details>$)`, strings.TrimSpace(string(n.Lines().Value(b.Bytes()))))
		case *ast.Heading:
			headings++
		}
		return ast.WalkContinue, nil
	}))
	require.Equal(t, 10, headings)

	var out bytes.Buffer
	raw := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(gmhtml.WithUnsafe()))
	require.NoError(t, raw.Convert(b.Bytes(), &out))
	for z := html.NewTokenizer(bytes.NewReader(out.Bytes())); z.Next() != html.ErrorToken; {
		if tok := z.Token(); tok.Type == html.StartTagToken || tok.Type == html.SelfClosingTagToken {
			require.Contains(t, strings.Fields("h1 h2 p strong ul ol li blockquote table thead tbody tr th td code br details summary"), tok.Data)
			require.Empty(t, tok.Attr)
		}
	}
	plain := plainText(t, out.Bytes())
	for _, h := range hostile {
		require.Contains(t, plain, plainSpace(Escape(h)), "%q", h)
	}
}

// All tables of the golden page have as many cells in each row as in the head.
func TestMarkdownTables(t *testing.T) {
	for _, r := range []*Report{everyReport(), hostileReport()} {
		var b bytes.Buffer
		require.NoError(t, r.WriteMarkdown(&b))
		require.NotContains(t, b.String(), "%!")
		var out bytes.Buffer
		require.NoError(t, goldmark.New(goldmark.WithExtensions(extension.GFM)).Convert(b.Bytes(), &out))
		requireTables(t, out.Bytes())
	}
}

// The XML is well-formed, has the shape of Ant's schema, and its counts are
// those of its cases.
func TestJUnit(t *testing.T) {
	for _, r := range []*Report{everyReport(), hostileReport(), quiet().halt().report(Options{Catalogs: []*policy.Catalog{small}}), Build(Options{}, nothing)} {
		var b bytes.Buffer
		require.NoError(t, r.WriteJUnit(&b))
		requireJUnit(t, b.Bytes())
		var s junitSuites
		require.NoError(t, xml.Unmarshal(b.Bytes(), &s))
		cases := 0
		for i, suite := range s.Suites {
			require.Equal(t, i, suite.ID)
			require.Len(t, suite.Cases, suite.Tests)
			failures, errors, skipped := 0, 0, 0
			for _, c := range suite.Cases {
				failures, errors, skipped = failures+bit(c.Failure != nil), errors+bit(c.Error != nil), skipped+bit(c.Skipped != nil)
			}
			require.Equal(t, []int{failures, errors, skipped}, []int{suite.Failures, suite.Errors, suite.Skipped})
			cases += suite.Tests
		}
		require.Equal(t, len(r.Endpoints)+len(r.Unlisted)+1, cases, "one an endpoint and unlisted destination, and the verdict")
		fine := true
		for _, suite := range s.Suites {
			fine = fine && suite.Failures+suite.Errors == 0
		}
		require.Equal(t, r.Verdict == Clear, fine, "a pipeline is green where the verdict is clear, and nowhere else")
	}
}

func nothing(func(*policy.Record, error) bool) {}

// requireJUnit demands the elements and attributes of Ant's JUnit schema: each
// in its place, none that it does not know, none missing that it demands.
func requireJUnit(t *testing.T, doc []byte) {
	t.Helper()
	demanded := map[string]string{
		"testsuites": "", "properties": "", "property": "name value", "system-out": "", "system-err": "", "skipped": "message",
		"testsuite": "name package id timestamp hostname tests failures errors skipped time",
		"testcase":  "name classname time", "failure": "message type", "error": "message type",
	}
	inside := map[string]string{
		"": "testsuites", "testsuites": "testsuite", "testsuite": "properties testcase system-out system-err", "properties": "property",
		"testcase": "skipped error failure",
	}
	stack, seen := []string{""}, map[int]string{}
	for d := xml.NewDecoder(bytes.NewReader(doc)); ; {
		tok, err := d.Token()
		if tok == nil {
			require.ErrorContains(t, err, "EOF")
			break
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			name, parent := tok.Name.Local, stack[len(stack)-1]
			order := strings.Fields(inside[parent])
			at := slices.Index(order, name)
			require.GreaterOrEqual(t, at, 0, "%s in %s", name, parent)
			if last := seen[len(stack)]; last != "" {
				require.GreaterOrEqual(t, at, slices.Index(order, last), "%s behind %s", name, last)
				require.NotEqual(t, "testcase", parent, "a case has one result")
			}
			seen[len(stack)], seen[len(stack)+1] = name, ""
			var attrs []string
			for _, a := range tok.Attr {
				attrs = append(attrs, a.Name.Local)
				switch a.Name.Local {
				case "timestamp":
					require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$`, a.Value)
				case "time":
					require.Regexp(t, `^\d+(\.\d+)?$`, a.Value)
				case "name", "hostname", "type":
					require.NotEmpty(t, strings.TrimSpace(a.Value))
				}
			}
			require.ElementsMatch(t, strings.Fields(demanded[name]), attrs, name)
			stack = append(stack, name)
		case xml.EndElement:
			if stack[len(stack)-1] == "testsuite" {
				require.Equal(t, "system-err", seen[len(stack)])
			}
			stack = stack[:len(stack)-1]
		}
	}
}

// The JSON of a hostile report can be read back.
func TestHostileJSON(t *testing.T) {
	r := hostileReport()
	var b bytes.Buffer
	require.NoError(t, r.WriteJSON(&b))
	var back Report
	require.NoError(t, json.Unmarshal(b.Bytes(), &back))
	require.Len(t, back.Endpoints, len(r.Endpoints))
}

// The copy that renderings work on leaves the report as it was.
func TestVisibleIsACopy(t *testing.T) {
	r := hostileReport()
	before := jsonOf(t, r)
	v := r.visible()
	require.Equal(t, before, jsonOf(t, r))
	require.NotEqual(t, r.Unlisted, v.Unlisted)
	require.Equal(t, v, v.visible(), "escaping twice says the same")
}
