package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// TestReportPage opens the page of a report on a desk and on a phone, in light
// and dark: no request leaves it, nothing is said on the console, nothing is cut
// off, axe-core finds nothing serious, and it can be printed.
func TestReportPage(t *testing.T) {
	axe := need(t)
	for name, file := range map[string]string{"every": golden(t), "hostile": made(t, hostileLedger), "long": made(t, longLedger)} {
		t.Run(name, func(t *testing.T) {
			b := newTab(t)
			for _, width := range []int64{1280, 390} {
				for _, scheme := range []string{"light", "dark"} {
					b.show(t, "file://"+file, width, scheme)
					keep(t, fmt.Sprintf("report-%s-%d-%s.png", name, width, scheme), run(t, b, chromedp.FullScreenshot(100)))
					require.LessOrEqual(t, eval[int64](t, b, `document.documentElement.scrollWidth`), width, "the page is wider than the screen")
					require.True(t, eval[bool](t, b, `getComputedStyle(document.querySelector("h1")).fontSize > "20px"`), "the style is in force")
					require.Empty(t, b.faults(t, axe), "%d %s", width, scheme)
				}
			}
			requests, said := b.heard()
			require.Empty(t, said)
			require.Len(t, requests, 4)
			for _, r := range requests {
				require.Equal(t, "file://"+file, r)
			}
			require.Zero(t, eval[int](t, b, `document.scripts.length + document.querySelectorAll("img, iframe, object, link, form").length`))
			keep(t, "report-"+name+".pdf", paper(t, b))
		})
	}
}

// The policy of the page is what holds, not only that nothing is there: a script
// and a picture put into it by force do nothing.
func TestReportPolicy(t *testing.T) {
	need(t)
	var reached atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(elsewhere.Close)
	b := newTab(t)
	b.show(t, "file://"+golden(t), 1280, "light")
	require.Equal(t, "refused refused", eval[string](t, b, fmt.Sprintf(`(async () => {
		const s = document.createElement("script"); s.textContent = "window.ran = 1"; document.body.append(s)
		const i = new Image(); const loaded = new Promise(done => { i.onload = () => done("loaded"); i.onerror = () => done("refused") })
		i.src = %q; document.body.append(i)
		return (window.ran ? "ran" : "refused") + " " + await loaded
	})()`, elsewhere.URL+"/x.png")))
	require.Zero(t, reached.Load())
	_, said := b.heard()
	require.Len(t, said, 2, "Chromium tells of both on the console: what the other test listens to")
}

// paper is the page as it is printed.
func paper(t *testing.T, b *tab) []byte {
	t.Helper()
	pdf := run(t, b, chromedp.PrintToPDF(chromedp.PDFPrintBackground(), chromedp.PDFPreferCSSPageSize()))
	require.True(t, strings.HasPrefix(string(pdf), "%PDF-"))
	return pdf
}

// golden is the page of the trial that has every status.
func golden(t *testing.T) string {
	t.Helper()
	file, err := filepath.Abs("../../policy/report/testdata/every.html")
	require.NoError(t, err)
	require.FileExists(t, file)
	return file
}

// made is the page that the program makes of a ledger.
func made(t *testing.T, lines func() []string) string {
	t.Helper()
	dir := t.TempDir()
	path, err := program()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(dir+"/trial.jsonl", []byte(strings.Join(lines(), "\n")+"\n"), 0o600))
	c := exec.Command(path, "report", "--catalog", "aml-extension", "--catalog", "azure-arc", "--fail-on", "blocked,unlisted", "--format", "html", "-o", dir+"/report.html", dir+"/trial.jsonl")
	out, err := c.CombinedOutput()
	require.Equal(t, 1, c.ProcessState.ExitCode(), "%v: %s", err, out)
	return dir + "/report.html"
}

// record is a line of a ledger, fields being JSON behind the head of it.
func record(seq int, at time.Time, kind, fields string, args ...any) string {
	return fmt.Sprintf(`{"schema":1,"seq":%d,"time":%q,"kind":%q,"trial":"install","vantage":"node"%s}`, seq, at.Format(time.RFC3339Nano), kind, fmt.Sprintf(fields, args...))
}

var begun = time.Date(2026, 3, 4, 9, 0, 0, 0, time.UTC)

const listeners = `,"version":"test","listeners":["connect 10.0.0.5:3128"],"ledger":"7c9e6679-7425-40de-944b-e07fc1f90ae7"`

// hostileLedger has names in it that mean something to a browser.
func hostileLedger() []string {
	out := []string{record(1, begun, "start", listeners)}
	for i, name := range []string{
		`<script>alert(1)</script>`, `</style><script>alert(2)</script>`, `\"><img src=x onerror=alert(3)>`, `=cmd|' /C calc'!A0`,
		`\u202egnp.exe\u2066`, `\u001b[31mred`, strings.Repeat("w", 255), `javascript:alert(4)`, strings.Repeat(`\u4e16`, 80), `nul\u0000`,
	} {
		at := begun.Add(time.Duration(i) * time.Second)
		out = append(out, record(2+2*i, at, "mark", `,"text":"%s"`, name), record(3+2*i, at, "connection",
			`,"origin":"client","workload":"%[1]s","name":"%[1]s","port":443,"outcome":"failed","stage":"hello","error":"connection_terminated","by":"network","confidence":"certain","detail":{"why":"%[1]s","issuer":"%[1]s"}`, name))
	}
	return append(out, record(len(out)+1, begun.Add(time.Minute), "stop", listeners))
}

// longLedger is a trial of two days with more destinations than the picture has
// lanes, in many phases.
func longLedger() []string {
	out := []string{record(1, begun, "start", listeners)}
	for i := range 1500 {
		at := begun.Add(time.Duration(i) * 2 * time.Minute)
		if i%150 == 0 {
			out = append(out, record(len(out)+1, at, "mark", `,"text":"phase of the install with a rather long name %d"`, i/150))
		}
		host, fate := fmt.Sprintf("host%d.example.net", i%70), `"outcome":"ok"`
		if i%3 == 0 {
			host = []string{"mcr.microsoft.com", "quay.io", "cdn01.quay.io", "gcr.io", "a.b.c.servicebus.windows.net"}[i%5]
		}
		if i%17 == 0 {
			fate = `"outcome":"failed","stage":"connect","error":"connection_timeout","by":"network","confidence":"certain"`
		}
		out = append(out, record(len(out)+1, at, "connection", `,"origin":"client","name":"%s","port":443,%s`, host, fate))
	}
	return append(out, record(len(out)+1, begun.Add(51*time.Hour), "stop", listeners))
}
