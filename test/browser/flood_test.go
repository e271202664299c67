package browser

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/memory"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

const (
	floodRate  = 2000 // events a second
	floodTotal = 100_000
)

// TestLiveFlood: 2,000 events a second for 100,000 events freeze no page and fill
// no memory.
func TestLiveFlood(t *testing.T) {
	need(t)
	d := serve(t, "--proxy", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--dns-rate", "1000000",
		"--resolver", refuser(t), "--ledger", filepath.Join(t.TempDir(), "t.jsonl"))
	b := newTab(t)
	b.show(t, "http://"+d.admin+"/", 1280, "light")
	b.until(t, `document.querySelector("#state").dataset.state === "live"`)
	eval[bool](t, b, `(() => { window.long = []; new PerformanceObserver(l => long.push(...l.getEntries().map(e => e.duration))).observe({type: "longtask"}); return true })()`)
	eval[bool](t, b, `(setTimeout(() => { for (const end = Date.now() + 80; Date.now() < end;); }), true)`)
	b.until(t, `long.length > 0`) // it is seen
	eval[bool](t, b, `!(long.length = 0)`)
	var heap, nodes []float64
	for sent := 0; sent < floodTotal; sent += floodTotal / 5 {
		flood(t, d.names, sent, floodTotal/5)
		b.until(t, fmt.Sprintf(`document.querySelector("#stream").textContent.includes("n%d")`, (sent+floodTotal/5)/100-1)) // of the last hundred
		kilobytes, n := b.holds(t)
		heap, nodes = append(heap, kilobytes), append(nodes, n)
	}
	longest := eval[float64](t, b, `Math.max(0, ...long)`)
	t.Logf("%d events, %d a second, %.0f recorded: longest task %.0f ms, %d above 50 ms; heap %.0f kB and DOM nodes %.0f after each fifth", floodTotal, floodRate,
		d.recorded(t), longest, eval[int](t, b, `long.length`), heap, nodes)
	require.Greater(t, d.recorded(t), 0.99*floodTotal)
	require.Less(t, longest, 200.0)
	require.Less(t, heap[len(heap)-1], heap[0]+2000)
	require.Less(t, nodes[len(nodes)-1], nodes[0]+500)
	require.LessOrEqual(t, eval[int](t, b, `document.querySelectorAll("#stream > li").length`), 200)
	keep(t, "live-flood.png", run(t, b, chromedp.FullScreenshot(100)))
}

// holds is what the page holds on to, in kB of heap and nodes of its document: the
// least of a few looks, for what was just replaced is garbage that a look may still
// find.
func (b *tab) holds(t *testing.T) (kilobytes, nodes float64) {
	t.Helper()
	kilobytes, nodes = math.Inf(1), math.Inf(1)
	for range 5 {
		call(t, b, heapprofiler.CollectGarbage, cdp.Empty{})
		use, err := chromedp.Call(b, runtime.GetHeapUsage, cdp.Empty{})
		require.NoError(t, err)
		dom, err := chromedp.Call(b, memory.GetDOMCounters, cdp.Empty{})
		require.NoError(t, err)
		kilobytes, nodes = min(kilobytes, use.UsedSize/1e3), min(nodes, float64(dom.Nodes))
	}
	return kilobytes, nodes
}

// recorded is how many questions were recorded.
func (d *daemon) recorded(t *testing.T) float64 {
	t.Helper()
	resp, err := http.Get("http://" + d.admin + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	m := regexp.MustCompile(`(?m)^egressaudit_queries_total\{.*status="failed"\} (\S+)$`).FindSubmatch(text)
	require.NotNil(t, m, "%s", text)
	n, err := strconv.ParseFloat(string(m[1]), 64)
	require.NoError(t, err)
	return n
}

// refuser is a name server that knows no name.
func refuser(t *testing.T) string {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	go func() {
		for b := make([]byte, 4096); ; {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			b[2], b[3] = b[2]|0x80, 0x83 // an answer, recursion available, NXDOMAIN
			c.WriteTo(b[:n], from)
		}
	}()
	return c.LocalAddr().String()
}

// flood asks for n names that are in no list, at floodRate.
func flood(t *testing.T, server string, first, n int) {
	t.Helper()
	c, err := net.Dial("udp", server)
	require.NoError(t, err)
	defer c.Close()
	go io.Copy(io.Discard, c)
	const batch = floodRate / 50
	tick := time.NewTicker(time.Second / 50)
	defer tick.Stop()
	for i := first; i < first+n; i++ {
		if (i-first)%batch == 0 {
			<-tick.C
		}
		_, err := c.Write(question(fmt.Sprintf("n%d.example.net", i), i))
		require.NoError(t, err)
	}
}

// question is a DNS question for an IPv4 address.
func question(name string, id int) []byte {
	q := binary.BigEndian.AppendUint16(nil, uint16(id))
	q = append(q, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	for label := range strings.SplitSeq(name, ".") {
		q = append(append(q, byte(len(label))), label...)
	}
	return append(q, 0, 0, 1, 0, 1)
}
