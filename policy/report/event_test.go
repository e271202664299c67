package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

func TestNamesIn(t *testing.T) {
	for text, want := range map[string]string{
		// containerd 1.6 and 1.7, by the kubelet
		pull("mcr.microsoft.com/a/b:1", "https://eastus.data.mcr.microsoft.com/x?sig=y"):                                       "mcr.microsoft.com:443 eastus.data.mcr.microsoft.com:443 203.0.113.20:443",
		`Failed to pull image "quay.io/x@sha256:ab": dial tcp: lookup quay.io on 10.96.0.10:53: no such host`:                  "quay.io:443 quay.io:0",
		`Head "https://Quay.IO/v2/x/manifests/1": proxyconnect tcp: dial tcp [fd00::1]:3128: connect: refused`:                 "quay.io:443 [fd00::1]:3128",
		`Back-off pulling image "registry.corp.example:5000/x:1": ErrImagePull`:                                                "registry.corp.example:5000",
		`Failed to pull image "nginx:1.27"`:                                                                                    "registry-1.docker.io:443 docker.io:443",
		`failed to resolve reference "docker.io/library/nginx:latest"`:                                                         "registry-1.docker.io:443 docker.io:443",
		`Failed to pull image "team/app"`:                                                                                      "registry-1.docker.io:443 docker.io:443",
		`Failed to inspect image "localhost/x"`:                                                                                "localhost:443",
		`MountVolume.SetUp failed: lookup acc.file.core.windows.net: i/o timeout`:                                              "acc.file.core.windows.net:0",
		`Get "http://169.254.169.254/metadata": context deadline exceeded`:                                                     "169.254.169.254:80",
		`dial tcp: lookup a.example.org: x; dial tcp b.example.org:443: y; dial tcp 192.0.2.1:`:                                "a.example.org:0 b.example.org:443 192.0.2.1:0",
		`Back-off restarting failed container c in pod p_ml(uid)`:                                                              "",
		`https:// http:// lookup  dial tcp  image " reference "" image ""`:                                                     "registry-1.docker.io:443 docker.io:443",
		`https://a..b/ https://x:99999/ lookup "-`:                                                                             "",
		strings.Repeat(`https://a.example.org/ `, 50):                                                                          "a.example.org:443",
		"https://a.io https://b.io https://c.io https://d.io https://e.io https://f.io https://g.io https://h.io https://i.io": "a.io:443 b.io:443 c.io:443 d.io:443 e.io:443 f.io:443 g.io:443 h.io:443",
	} {
		var got []string
		for _, n := range namesIn(text) {
			host := n.name.String()
			if strings.Contains(host, ":") {
				host = "[" + host + "]"
			}
			got = append(got, fmt.Sprintf("%s:%d", host, n.port))
		}
		require.Equal(t, want, strings.Join(got, " "), text)
	}
}

func FuzzNamesIn(f *testing.F) {
	f.Add(pull("mcr.microsoft.com/a", "https://x.example/"))
	f.Fuzz(func(t *testing.T, text string) {
		require.LessOrEqual(t, len(namesIn(text)), maxNamed)
	})
}

func TestEventStandsBesideWhatItNames(t *testing.T) {
	c := cat("c", "mcr x mcr.microsoft.com", "data x *.data.mcr.microsoft.com", "quay x quay.io,*.quay.io", "gcr y gcr.io")
	w := from1("ml/web")
	tape := started().
		conn("mcr.microsoft.com", ok, w).conn("eastus.data.mcr.microsoft.com", reset1, w).
		conn("cdn1.quay.io", ok, w).conn("cdn2.quay.io", reset1, w).
		event("ml/web", "Failed", pull("mcr.microsoft.com/a", "https://eastus.data.mcr.microsoft.com/x"), 1).
		event("ml/web", "BackOff", `Back-off pulling image "mcr.microsoft.com/a"`, 5).
		event("ml/job", "Failed", pull("cdn2.quay.io/a", "https://cdn2.quay.io/"), 1).
		event("ml/job", "Failed", pull("cdn1.quay.io/a", "https://cdn1.quay.io/"), 1).
		event("ml/job", "BackOff", "Back-off restarting failed container", 2).
		event("ml/web", "Failed", pull("mcr.microsoft.com/a", "https://eastus.data.mcr.microsoft.com/x"), 6).
		event("ml/y", "Failed", pull("gcr.io/a", "https://gcr.io/"), 1).
		stop()
	r := tape.report(Options{Catalogs: []*policy.Catalog{c}, Scopes: []string{"x"}})
	beside := map[string][]Event{}
	for _, e := range r.Endpoints {
		beside[e.Host] = e.Events
	}
	first := tape.records[6]
	require.Equal(t, []Event{
		{Time: first.Time, Workload: "ml/web", Reason: "Failed", Text: first.Text, Count: 7, Seq: 7},
		{Time: first.Time.Add(time.Second), Workload: "ml/web", Reason: "BackOff", Text: tape.records[7].Text, Count: 5, Seq: 8},
	}, beside["*.data.mcr.microsoft.com"])
	require.Len(t, beside["*.quay.io"], 1, "the host that fails, not the one that works")
	require.Equal(t, "ml/job", beside["*.quay.io"][0].Workload)
	require.Empty(t, beside["mcr.microsoft.com"])
	var told []string
	for _, f := range only(r, PodEvent) {
		told = append(told, f.Text)
		require.Len(t, f.Evidence, 1)
	}
	require.Equal(t, []string{
		`ml/job: BackOff, 2 times: "Back-off restarting failed container"; it names no endpoint of the catalogs`,
		`ml/job: Failed, once: ` + quote(tape.records[9].Text) + `; what it names is not blocked here: cdn1.quay.io`,
		`ml/y: Failed, once: ` + quote(tape.records[12].Text) + `; it names no endpoint of the catalogs`,
	}, told, "none is lost, of a scope that does not count neither")

	var b bytes.Buffer
	require.NoError(t, r.WriteText(&b, TextOptions{Width: 80}))
	require.Contains(t, b.String(), "\n    event  ml/web: Failed, 7 times: Failed to pull image \"mcr.microsoft.com/a...\n")
	require.NoError(t, r.WriteJSON(&b))
	b.Reset()
	require.NoError(t, r.WriteJSON(&b))
	var j struct {
		Endpoints []struct {
			Events []map[string]any
		}
	}
	require.NoError(t, json.Unmarshal(b.Bytes(), &j))
	require.Equal(t, map[string]any{"time": first.Time.Format("2006-01-02T15:04:05Z"), "workload": "ml/web", "reason": "Failed", "text": first.Text, "count": 7.0, "seq": 7.0}, j.Endpoints[1].Events[0])
}

// TestBackOff: it is a finding unless a Failed of the same workload and image says
// elsewhere why; whichever came first, for a recording may begin between them.
func TestBackOff(t *testing.T) {
	c := cat("c", "quay x quay.io", "cdn x *.quay.io", "gcr x gcr.io")
	const image = "quay.io/a@sha256:ab"
	failed, waits := pull(image, "https://cdn1.quay.io/x"), `Back-off pulling image "`+image+`"`
	for name, w := range map[string]struct {
		events func(*tape) *tape
		beside []string // reasons, beside *.quay.io
		found  int
	}{
		"after":  {func(t *tape) *tape { return t.event("ml/a", "Failed", failed, 1).event("ml/a", "BackOff", waits, 1) }, []string{"Failed", "BackOff"}, 0},
		"before": {func(t *tape) *tape { return t.event("ml/a", "BackOff", waits, 1).event("ml/a", "Failed", failed, 1) }, []string{"Failed", "BackOff"}, 0},
		"two": {func(t *tape) *tape {
			return t.event("ml/a", "Failed", failed, 1).event("ml/a", "Failed", pull(image, "https://gcr.io/"), 1).event("ml/a", "BackOff", waits, 1)
		}, []string{"Failed", "BackOff"}, 0},
		"alone":    {func(t *tape) *tape { return t.event("ml/a", "BackOff", waits, 1) }, nil, 1},
		"workload": {func(t *tape) *tape { return t.event("ml/b", "Failed", failed, 1).event("ml/a", "BackOff", waits, 1) }, []string{"Failed"}, 1},
		"nobody":   {func(t *tape) *tape { return t.event("", "Failed", failed, 1).event("", "BackOff", waits, 1) }, []string{"Failed"}, 1},
		"image": {func(t *tape) *tape {
			return t.event("ml/a", "Failed", failed, 1).event("ml/a", "BackOff", `Back-off pulling image "quay.io/b"`, 1)
		}, []string{"Failed"}, 1},
		"restart": {func(t *tape) *tape {
			return t.event("ml/a", "Failed", failed, 1).event("ml/a", "BackOff", "Back-off restarting failed container", 1)
		}, []string{"Failed"}, 1},
		"reason": {func(t *tape) *tape {
			return t.event("ml/a", "Failed", failed, 1).event("ml/a", "Failed", `Failed to pull image "`+image+`"`, 1)
		}, []string{"Failed"}, 1},
		"works": {func(t *tape) *tape {
			return t.event("ml/a", "Failed", pull(image, "https://quay.io/"), 1).event("ml/a", "BackOff", waits, 1)
		}, nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.events(started().conn("quay.io", ok).conn("cdn1.quay.io", reset1).conn("gcr.io", reset1)).stop().report(Options{Catalogs: []*policy.Catalog{c}})
			beside := map[string][]string{}
			for _, e := range r.Endpoints {
				for _, v := range e.Events {
					beside[e.Host] = append(beside[e.Host], v.Reason)
				}
			}
			require.Equal(t, w.beside, beside["*.quay.io"])
			require.Empty(t, beside["quay.io"])
			require.Len(t, only(r, PodEvent), w.found)
			if name == "two" {
				require.Equal(t, []string{"Failed", "BackOff"}, beside["gcr.io"], "each where it belongs")
			}
		})
	}
}

func TestEventsHaveBounds(t *testing.T) {
	c := cat("c", "quay x quay.io")
	tape := started().conn("quay.io", reset1)
	for i := range maxEvents + 100 {
		tape.event("ml/web", "Failed", fmt.Sprintf("%s %d %s", pull("quay.io/a", "https://quay.io/"), i, strings.Repeat("é", 4000)), -7)
	}
	for i := range maxEvents {
		tape.event("ml/web", "BackOff", fmt.Sprint("nothing ", i), 1<<60)
	}
	r := tape.stop().report(Options{Catalogs: []*policy.Catalog{c}})
	require.Len(t, r.Endpoints[0].Events, maxEvents)
	require.LessOrEqual(t, len(r.Endpoints[0].Events[0].Text), maxEventText)
	found := only(r, PodEvent)
	require.Len(t, found, 1)
	require.Equal(t, fmt.Sprintf("%d more events of pods, too many to list", maxEvents+100), found[0].Text)
	var b bytes.Buffer
	require.NoError(t, r.WriteText(&b, TextOptions{Width: 80}))
	require.Contains(t, b.String(), fmt.Sprintf("    event  ... and %d more (--format json has all)", maxEvents-shownEvents))
	for line := range strings.Lines(b.String()) {
		require.LessOrEqual(t, len([]rune(line)), 81)
	}
}

// TestHeldRecords: a record that waited for the name of its client tells of the
// time before, so that the last attempt is the one that began last.
func TestHeldRecords(t *testing.T) {
	c := cat("c", "quay x quay.io")
	held := detail("held_ms", 2500.0, "owner", "Deployment/web", "service_account", "sa")
	r := started().conn("quay.io", ok, at(11)).conn("quay.io", reset1, held, at(12)).stop().report(Options{Catalogs: []*policy.Catalog{c}})
	require.Equal(t, Used, r.Endpoints[0].Status, "the failure was first, and written last")
	r = started().conn("quay.io", ok, at(11)).conn("quay.io", reset1, detail("held_ms", 500.0), at(12)).stop().report(Options{Catalogs: []*policy.Catalog{c}})
	require.Equal(t, Partial, r.Endpoints[0].Status)
	r = started().conn("quay.io", reset1, held).stop().report(Options{Catalogs: []*policy.Catalog{c}})
	require.Equal(t, map[string]any{"close": "rst"}, r.Endpoints[0].Cause.Detail, "who it was is no part of the cause")
	for _, lie := range []any{-1.0, 1e300, "x", float64(longestHeld.Milliseconds() + 1)} {
		r = started().conn("quay.io", ok, at(11)).conn("quay.io", reset1, detail("held_ms", lie), at(12)).stop().report(Options{Catalogs: []*policy.Catalog{c}})
		require.Equal(t, Partial, r.Endpoints[0].Status, lie)
	}
}

// TestWhoMissedIt: every rendering says who used or missed a blocked endpoint, and
// a bypass names its workload and owner.
func TestWhoMissedIt(t *testing.T) {
	c := cat("c", "quay x quay.io", "gcr x gcr.io")
	r := started().conn("quay.io", reset1, from1("ml/web-1")).conn("quay.io", reset1, from1("node:n1")).
		query("gcr.io", answers("203.0.113.7"), client("10.1.0.7:1")).
		query("gcr.io", answers("203.0.113.7"), client("10.1.0.7:1"), from1("logs/agent-x"), detail("owner", "DaemonSet/agent")).
		stop(late).report(Options{Catalogs: []*policy.Catalog{c}})
	for _, format := range []string{"text", "markdown", "html", "json"} {
		var b bytes.Buffer
		require.NoError(t, r.Write(&b, format, TextOptions{Width: 80}))
		for _, who := range []string{"ml/web-1", "node:n1"} {
			require.Contains(t, strings.ReplaceAll(b.String(), `\`, ""), who, format)
		}
	}
	found := only(r, Bypass)
	require.Len(t, found, 1)
	require.True(t, strings.HasPrefix(found[0].Text, "10.1.0.7 (logs/agent-x, DaemonSet/agent) looked up gcr.io"), found[0].Text)
}

// The kubelet's own port makes no new event of one that it tells again.
func TestEventsFoldAcrossPorts(t *testing.T) {
	tape := started().conn("cdn2.quay.io", reset1, from1("ml/web"))
	for port := range 3 {
		tape.event("ml/web", "Failed", fmt.Sprintf(`Failed to pull image "quay.io/a": Get "https://cdn2.quay.io/x": read tcp 10.1.0.2:%d->203.0.113.9:443: connection reset by peer`, 57620+port), 1)
	}
	tape.event("ml/web", "Failed", `Failed to pull image "quay.io/a": Get "https://cdn2.quay.io/x": read tcp 10.1.0.2:1->203.0.113.8:443: connection reset by peer`, 1)
	r := tape.stop().report(Options{Catalogs: []*policy.Catalog{cat("c", "quay x quay.io,*.quay.io")}, Scopes: []string{"x"}})
	var counts []int
	for _, e := range r.Endpoints {
		for _, v := range e.Events {
			counts = append(counts, v.Count)
		}
	}
	require.Equal(t, []int{3, 1}, counts)
}
