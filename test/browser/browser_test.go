package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// need skips, or fails where the whole suite must run, unless there is a
// Chromium and axe-core.
func need(t *testing.T) (axe string) {
	t.Helper()
	mode := os.Getenv("EGRESSAUDIT_E2E")
	if mode == "" {
		t.Skip("EGRESSAUDIT_E2E is not set: run test/browser/run.sh (make browser), or set it to try or must")
	}
	axe = os.Getenv("EGRESSAUDIT_AXE")
	_, noBrowser := exec.LookPath("chromium")
	_, noAxe := os.Stat(axe)
	if noBrowser == nil && noAxe == nil {
		return axe
	}
	why := "needs chromium and EGRESSAUDIT_AXE, the path of axe.min.js (test/browser/run.sh installs both)"
	if mode == "must" {
		t.Fatal(why)
	}
	fmt.Fprintf(os.Stderr, "SKIPPED %s: %s\n", t.Name(), why)
	t.Skip(why)
	return ""
}

// artefacts is where screenshots stay, outside the repository.
var artefacts = sync.OnceValues(func() (string, error) {
	dir := os.Getenv("EGRESSAUDIT_ARTEFACTS")
	if dir == "" {
		return os.MkdirTemp("", "egressaudit-browser-")
	}
	return dir, os.MkdirAll(dir, 0o755)
})

// keep writes an artefact.
func keep(t *testing.T, name string, content []byte) {
	t.Helper()
	dir, err := artefacts()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
}

// TestMain says where the artefacts are.
func TestMain(m *testing.M) {
	status := m.Run()
	if os.Getenv("EGRESSAUDIT_E2E") != "" {
		if path, err := program(); err == nil {
			os.RemoveAll(filepath.Dir(path))
		}
		if dir, err := artefacts(); err == nil {
			fmt.Println("browser: screenshots are in", dir)
		}
	}
	os.Exit(status)
}

// tab is a tab of a browser, and what happened in it.
type tab struct {
	context.Context
	mu       sync.Mutex
	requests []string
	said     []string // on the console, by the page or the browser
}

// newTab starts a browser with one tab. It ends with the test.
func newTab(t *testing.T) *tab {
	t.Helper()
	b := &tab{}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	ctx, end := chromedp.NewContext(ctx, chromedp.WithListener(b.note),
		chromedp.WithAllocatorOptions(chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.DisableGPU))
	t.Cleanup(func() { end(); cancel() })
	b.Context = ctx
	call(t, b, network.Enable, network.EnableParams{})
	call(t, b, log.Enable, cdp.Empty{})
	return b
}

// call runs a command of the DevTools protocol.
func call[P, R any](t *testing.T, b *tab, command cdp.Command[P, R], params P) {
	t.Helper()
	_, err := chromedp.Call(b, command, params)
	require.NoError(t, err, command.Method)
}

// run runs an action, and returns what it makes.
func run[T any](t *testing.T, b *tab, action chromedp.Action[T]) T {
	t.Helper()
	out, err := chromedp.Run(b, action)
	require.NoError(t, err)
	return out
}

// note is told of everything that happens in the tab.
func (b *tab) note(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	case *runtime.EventConsoleAPICalled:
		b.said = append(b.said, fmt.Sprintf("%s: %+v", e.Type, e.Args))
	case *runtime.EventExceptionThrown:
		b.said = append(b.said, fmt.Sprintf("%+v", e.ExceptionDetails))
	case *log.EventEntryAdded:
		b.said = append(b.said, fmt.Sprintf("%s: %s", e.Entry.Level, e.Entry.Text))
	case *page.EventJavascriptDialogOpening:
		b.said = append(b.said, "dialog: "+e.Message)
	}
}

// heard are the requests so far, and what was said on the console.
func (b *tab) heard() (requests, said []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.requests), slices.Clone(b.said)
}

// show opens url on a screen of the given width and scheme, light or dark.
func (b *tab) show(t *testing.T, url string, width int64, scheme string) {
	t.Helper()
	run(t, b, chromedp.EmulateViewport(width, 900))
	call(t, b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	run(t, b, chromedp.Navigate(url))
}

// eval runs a script in the page, which its policy does not forbid us.
func eval[T any](t *testing.T, b *tab, script string) T {
	t.Helper()
	return run(t, b, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
}

// violation is what axe-core finds wrong.
type violation struct {
	ID     string `json:"id"`
	Impact string `json:"impact"`
	Help   string `json:"help"`
	Nodes  []struct {
		HTML string `json:"html"`
	} `json:"nodes"`
}

// faults are the serious and critical violations that axe-core finds.
func (b *tab) faults(t *testing.T, axe string) []violation {
	t.Helper()
	source, err := os.ReadFile(axe)
	require.NoError(t, err)
	eval[bool](t, b, string(source)+"\n;true")
	all := eval[struct {
		Violations []violation `json:"violations"`
		Passes     []struct {
			ID string `json:"id"`
		} `json:"passes"`
	}](t, b, `axe.run(document, {preload: false, resultTypes: ["violations"]})`)
	require.NotEmpty(t, all.Passes, "axe-core looked at nothing")
	var out []violation
	for _, v := range all.Violations {
		if v.Impact == "serious" || v.Impact == "critical" {
			out = append(out, v)
		} else {
			t.Logf("axe: %s: %s (%s), %d times", v.Impact, v.ID, v.Help, len(v.Nodes))
		}
	}
	return out
}
