package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// status is the condition that an endpoint of the page has a status.
func status(at, status string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(".endpoint")].some(e => e.classList.contains(%q) && e.querySelector(".at").textContent === %q)`, status, at)
}

// set gives a field of a form a value, as typing does.
func (b *tab) set(t *testing.T, form, field, value string) {
	t.Helper()
	eval[bool](t, b, fmt.Sprintf(`(() => { const f = document.querySelector(%q).elements[%q]; f.value = %q; f.dispatchEvent(new Event("input", {bubbles: true})); return true })()`, form, field, value))
}

const shownEndpoints = `[...document.querySelectorAll(".endpoint")].filter(e => e.offsetParent).map(e => e.querySelector(".at").textContent).join(" ")`

// TestLivePage watches a trial of the real program, from its first connection over
// a restart: everything turns without a reload.
func TestLivePage(t *testing.T) {
	axe := need(t)
	parent, book := corporate(t, "quay.io", "cdn03.quay.io", "telemetry.example.net"), filepath.Join(t.TempDir(), "t.jsonl")
	args := []string{"--proxy", "127.0.0.1:0", "--parent", parent, "--ledger", book, "--trial", "edge-7", "--vantage", "node"}
	d := serve(t, append(args, "--admin", "127.0.0.1:0")...)
	b := newTab(t)
	b.show(t, "http://"+d.admin+"/", 1280, "light")
	b.until(t, `document.querySelector("#state").dataset.state === "live"`)
	b.until(t, status("mcr.microsoft.com:443", "unused"))
	eval[bool](t, b, `window.same = true`)
	turns(t, b, d)
	filters(t, b, d)
	links(t, b)
	mark(t, b, "install the extension")
	text, err := os.ReadFile(book)
	require.NoError(t, err)
	require.Contains(t, string(text), `"kind":"mark"`)
	pauses(t, b, d)
	require.True(t, eval[bool](t, b, `window.same`), "all of it without loading the page again")
	looks(t, b, axe, "live")
	requests, said := b.heard()
	require.Empty(t, said, "on the console")
	for _, r := range requests {
		require.True(t, strings.HasPrefix(r, "http://"+d.admin+"/"), r)
	}
	survives(t, b, d, args)
}

// turns uses the network, and sees the checklist turn under what somebody does on
// the page.
func turns(t *testing.T, b *tab, d *daemon) {
	t.Helper()
	d.get("mcr.microsoft.com")
	b.until(t, status("mcr.microsoft.com:443", "used"))
	b.until(t, `document.querySelector("h1").textContent.includes("Clear so far")`)
	eval[bool](t, b, `(() => { document.querySelector(".menu").open = true; document.querySelector("#phase").focus(); return true })()`)
	for _, h := range []string{"quay.io", "cdn01.quay.io", "cdn03.quay.io", "telemetry.example.net", "gbl.his.arc.azure.com", "eastus.dp.kubernetesconfiguration.azure.com", "management.azure.com", "login.microsoftonline.com"} {
		d.get(h)
	}
	b.until(t, status("quay.io:443", "blocked"))
	b.until(t, status("*.quay.io:443", "partial"))
	b.until(t, status("telemetry.example.net:443", "blocked"))
	b.until(t, `document.title.includes("Gaps") && document.querySelector("h1").textContent.includes("Gaps")`)
	require.True(t, eval[bool](t, b, `document.querySelector(".menu").open && document.activeElement.id === "phase"`), "what is unfolded and in focus stays")
	eval[bool](t, b, `!(document.querySelector(".menu").open = false)`)
	b.until(t, `document.querySelector("#news").textContent.includes("Gaps: ")`)
}

// filters narrows the checklist by status, scope and text.
func filters(t *testing.T, b *tab, d *daemon) {
	t.Helper()
	b.set(t, "#filter", "status", "blocked")
	require.Contains(t, eval[string](t, b, shownEndpoints), "quay.io:443")
	require.NotContains(t, eval[string](t, b, shownEndpoints), "mcr.microsoft.com")
	require.Regexp(t, `^\d+ of \d+ shown$`, eval[string](t, b, `document.querySelector("#matches").textContent`))
	d.get("gcr.io")
	b.until(t, status("gcr.io:443", "used"))
	require.NotContains(t, eval[string](t, b, shownEndpoints), "gcr.io", "the filter holds for what comes")
	b.set(t, "#filter", "status", "")
	b.set(t, "#filter", "scope", "training")
	require.NotEmpty(t, eval[string](t, b, shownEndpoints))
	require.NotContains(t, eval[string](t, b, shownEndpoints), "quay.io")
	b.set(t, "#filter", "scope", "")
	b.set(t, "#filter", "text", "QUAY")
	require.Equal(t, "quay.io:443 *.quay.io:443", eval[string](t, b, shownEndpoints))
	b.set(t, "#filter", "text", "")
	b.set(t, "#filter", "status", "unlisted")
	require.Equal(t, "telemetry.example.net:443", eval[string](t, b, shownEndpoints))
	b.set(t, "#filter", "text", "nothing like this")
	require.Equal(t, "Nothing fits this filter. Show all", eval[string](t, b, `document.querySelector("#none:not([hidden])").textContent`))
	eval[bool](t, b, `(document.querySelector("#none button").click(), true)`)
	b.until(t, `document.querySelector("#none").hidden && document.querySelector("#matches").textContent === ""`)
}

// links follows a rule to ask for to its endpoint, which is then in sight: not
// under the filter, and not filtered away. What is printed says what it left out.
func links(t *testing.T, b *tab) {
	t.Helper()
	b.set(t, "#filter", "status", "used")
	require.Equal(t, "none", eval[string](t, b, `(() => { const a = [...document.querySelectorAll(".rules a")].find(a => a.textContent.startsWith("*.quay.io")); const e = document.getElementById(a.hash.slice(1)); return getComputedStyle(e).display })()`))
	require.Regexp(t, `^[1-9]\d* of`, eval[string](t, b, `document.querySelector("#matches").textContent`))
	call(t, b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
	require.True(t, eval[bool](t, b, `document.querySelector("#filter").checkVisibility()`), "a printed part says that it is one")
	call(t, b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
	eval[bool](t, b, `([...document.querySelectorAll(".rules a")].find(a => a.textContent.startsWith("*.quay.io")).click(), true)`)
	b.until(t, `(() => {
		const row = document.querySelector(".endpoint:target .at").getBoundingClientRect()
		return document.elementFromPoint(row.left + 5, row.top + 5)?.closest(".endpoint:target")
	})()`)
	require.Empty(t, eval[string](t, b, `document.querySelector("#matches").textContent`))
	call(t, b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
	require.False(t, eval[bool](t, b, `document.querySelector("#filter").checkVisibility()`))
	call(t, b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
}

// pauses stops the stream and lets it go on, by the keyboard.
func pauses(t *testing.T, b *tab, d *daemon) {
	t.Helper()
	eval[bool](t, b, `(document.querySelector("#pause").focus(), true)`)
	run(t, b, chromedp.KeyEvent(" "))
	b.until(t, `document.querySelector("#pause").getAttribute("aria-pressed") === "true"`)
	d.get("paused.example.org")
	b.until(t, `/^[1-9]\d* new$/.test(document.querySelector("#waiting").textContent)`)
	require.False(t, eval[bool](t, b, `document.querySelector("#stream").textContent.includes("paused.example.org")`))
	run(t, b, chromedp.KeyEvent("\r"))
	b.until(t, `document.querySelector("#stream").textContent.includes("paused.example.org")`)
}

// mark names a phase by the page.
func mark(t *testing.T, b *tab, text string) {
	t.Helper()
	b.set(t, "#mark", "phase", text)
	eval[bool](t, b, `(document.querySelector("#mark button").click(), true)`)
	b.until(t, fmt.Sprintf(`document.querySelector(".steps [aria-current]").textContent === %q`, text))
	b.until(t, `document.querySelector("#marked").textContent.includes("begins")`)
}

// survives starts the daemon again beneath the page, which takes up where it was.
func survives(t *testing.T, b *tab, d *daemon, args []string) {
	t.Helper()
	was := eval[int](t, b, `document.querySelectorAll("#stream .row").length`)
	d.stop(t)
	b.until(t, `document.querySelector("#state").dataset.state === "ended"`)
	require.Contains(t, eval[string](t, b, `document.querySelector("#stream").textContent`), "the recording ends")
	again := serve(t, append(args, "--admin", d.admin)...)
	b.until(t, `document.querySelector("#state").dataset.state === "live"`)
	again.get("auth.docker.io")
	b.until(t, `document.querySelector("#stream").textContent.includes("auth.docker.io")`)
	require.True(t, eval[bool](t, b, `window.same`), "the page was not loaded again")
	require.Greater(t, eval[int](t, b, `document.querySelectorAll("#stream .row").length`), was)
	texts := eval[string](t, b, `[...document.querySelectorAll("#stream .what")].map(r => r.textContent).filter(t => t.startsWith("paused.example.org")).join()`)
	require.Equal(t, "paused.example.org:443", texts, "no row comes twice")
	mark(t, b, "after the restart")
}

// TestLiveSilence: a connection that breaks without a word (a cable, a laptop that
// slept) leaves no verdict that looks like that of now.
func TestLiveSilence(t *testing.T) {
	need(t)
	d := serve(t, "--proxy", "127.0.0.1:0", "--parent", corporate(t), "--admin", "127.0.0.1:0", "--ledger", filepath.Join(t.TempDir(), "t.jsonl"))
	b := newTab(t)
	b.show(t, "http://"+d.admin+"/", 1280, "light")
	d.get("mcr.microsoft.com")
	b.until(t, `document.title.startsWith("… Clear so far") && document.querySelector("#state").dataset.state === "live"`)
	green := eval[string](t, b, `getComputedStyle(document.querySelector("h1")).color`)
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGSTOP))
	b.until(t, `document.querySelector("#state").dataset.state === "lost"`)
	require.Regexp(t, `^Nothing was heard since \d\d:\d\d:\d\d UTC: this is how it stood then\.$`, eval[string](t, b, `document.querySelector("#stale").textContent`))
	require.True(t, eval[bool](t, b, `document.querySelector("#stale").checkVisibility()`))
	require.Regexp(t, `^No connection: was `, eval[string](t, b, `document.title`))
	require.NotEqual(t, green, eval[string](t, b, `getComputedStyle(document.querySelector("h1")).color`), "a verdict that may have turned")
	keep(t, "live-lost.png", run(t, b, chromedp.CaptureScreenshot()))
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGCONT))
	b.until(t, `document.querySelector("#state").dataset.state === "live"`)
	require.False(t, eval[bool](t, b, `document.querySelector("#stale").checkVisibility()`))
	require.Equal(t, green, eval[string](t, b, `getComputedStyle(document.querySelector("h1")).color`))
}

// looks opens the page on a desk and a phone, in light and dark, and keeps pictures.
func looks(t *testing.T, b *tab, axe, name string) {
	t.Helper()
	here := eval[string](t, b, `location.href`)
	for _, width := range []int64{390, 1280} {
		for _, scheme := range []string{"dark", "light"} {
			b.show(t, here, width, scheme)
			b.until(t, `(document.querySelector("#state")?.dataset.state ?? "live") === "live"`)
			eval[bool](t, b, `window.same = true`)
			keep(t, fmt.Sprintf("%s-%d-%s.png", name, width, scheme), run(t, b, chromedp.FullScreenshot(100)))
			require.LessOrEqual(t, eval[int64](t, b, `document.documentElement.scrollWidth`), width, "the page is wider than the screen")
			require.Empty(t, b.faults(t, axe), "%d %s", width, scheme)
		}
	}
}

// TestLiveLogin: where there is a token, a form asks for it, and a cookie that no
// script can read lets the page in, its events and marks too.
func TestLiveLogin(t *testing.T) {
	axe := need(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/token", []byte("a-token-of-24-characters\n"), 0o600))
	d := serve(t, "--proxy", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--admin-token-file", dir+"/token", "--ledger", dir+"/t.jsonl")
	b := newTab(t)
	b.show(t, "http://"+d.admin+"/", 1280, "light")
	looks(t, b, axe, "login")
	b.set(t, "form", "token", "wrong")
	eval[bool](t, b, `(document.querySelector("button").click(), true)`)
	b.until(t, `document.querySelector("[role=alert]")`)
	b.set(t, "form", "token", "a-token-of-24-characters")
	eval[bool](t, b, `(document.querySelector("button").click(), true)`)
	b.until(t, `document.querySelector("#state").dataset.state === "live"`)
	require.Empty(t, eval[string](t, b, `document.cookie`))
	mark(t, b, "by cookie")
}
