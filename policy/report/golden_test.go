package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files")

// arc and aml are the catalogs of the golden trial. They share one endpoint.
var (
	arc = cat("azure-arc",
		"mcr extension mcr.microsoft.com for=images_and_charts",
		"mcr-data extension *.data.mcr.microsoft.com for=image_layers",
		"dp agent <region>.dp.kubernetesconfiguration.azure.com for=status_and_configuration",
		"login agent login.microsoftonline.com,<region>.login.microsoft.com for=tokens",
		"relay connect *.servicebus.windows.net need=websocket need=no-tls-inspection for=cluster_connect",
		"obo connect <region>.obo.arc.azure.com port=8084 for=cluster_connect",
		"his agent gbl.his.arc.azure.com,*.his.arc.azure.com for=managed_identity_certificates",
		"graph connect graph.microsoft.com optional for=Azure_RBAC",
	)
	aml = cat("aml-extension",
		"mcr-data extension *.data.mcr.microsoft.com for=MCR_storage",
		"quay extension quay.io,*.quay.io for=container_images",
		"gcr extension gcr.io,storage.googleapis.com for=container_images",
		"docker extension registry-1.docker.io for=Docker_Hub",
		"docker-cf extension production.cloudflare.docker.com any_of=docker-blobs",
		"docker-cfr extension production.cloudfront.docker.com any_of=docker-blobs",
		"kusto extension *.kusto.windows.net for=log_upload",
		"pypi training pypi.org for=packages",
		"ubuntu training archive.ubuntu.com port=80 proto=http for=security_patches",
	)
)

// every is a trial with every status, outcome and finding in it.
func every() *tape {
	t := &tape{vantage: "pod"}
	t.add(&policy.Record{Kind: policy.KindStart, Session: &policy.Session{
		Canary: canaryName, Listeners: []string{"connect 10.0.0.5:3128", "redirect 10.0.0.5:3129", "dns 10.0.0.5:53"},
		Ledger: "11111111-2222-3333-4444-555555555555", NoProxy: []string{".his.arc.azure.com", "169.254.169.254"},
	}})
	t.sing().conn(canaryName, denied(policy.HTTPRequestDenied), origin(policy.OriginCanary), via("redirect"))
	t.mark("connect the cluster")
	w := from1("azure-arc/config-agent-7d9")
	t.conn("mcr.microsoft.com", ok, w).conn("eastus.data.mcr.microsoft.com", ok, w)
	t.conn("westus2.data.mcr.microsoft.com", ok, w, detail("issuer", "CN=Contoso Inspection CA"))
	t.conn("eastus.dp.kubernetesconfiguration.azure.com", ok, w).conn("westeurope.dp.kubernetesconfiguration.azure.com", ok, w)
	t.conn("login.microsoftonline.com", dropped, w).conn("login.microsoftonline.com", ok, w)
	t.conn("azgnrelay-eastus-l1.servicebus.windows.net", open("7"), ok, w, detail("issuer", "CN=Contoso Inspection CA"))
	t.query("eastus.obo.arc.azure.com", answers("203.0.113.77"), client("10.244.1.9:40001"), from1("azure-arc/clusterconnect-agent-x")).query("eus.his.arc.azure.com", answers("203.0.113.78"))
	t.conn("graph.microsoft.com", dropped, w)
	t.mark("install the extension")
	w = from1("azureml/amlarc-operator-5c")
	t.conn("quay.io", ok, w).conn("cdn01.quay.io", ok, w).conn("cdn01.quay.io", ok, w).conn("cdn03.quay.io", reset1, w).conn("cdn03.quay.io", reset1, w)
	t.conn("gcr.io", left, w)
	t.conn("storage.googleapis.com", dropped, lasted(10_000_000_000), w, to("203.0.113.20:443")).conn("storage.googleapis.com", dropped, lasted(10_000_000_000), w, to("203.0.113.20:443"))
	t.conn("registry-1.docker.io", ok, w).conn("production.cloudfront.docker.com", ok, w)
	t.query("ingest-x.kusto.windows.net", unanswered("NXDOMAIN")).query("ingest-x.kusto.windows.net", unanswered("NXDOMAIN"), qtype("AAAA"))
	t.query("gcr.io.corp.example.com", answers("10.9.9.9"), client("10.244.1.7:40002")).query("gcr.io.ns.svc.cluster.local", unanswered("NXDOMAIN"), client("10.244.1.7:40003"))
	t.query("mcr.microsoft.com", answers(`1 . alpn="h3,h2" ech="AEX"`), qtype("HTTPS"), detail("alpn", []any{"h3", "h2"}, "ech", true))
	t.conn("production.cloudfore.docker.com", ok, w).conn("auth.docker.io", reset1, w)
	t.conn("telemetry.example.net", denied(policy.HTTPRequestDenied), detail("why", "in no catalog, and the mode is enforce"), w).conn("beacon.example.net", left, w)
	t.conn("pypi.org", port(8443), dropped, w)
	t.conn("10.96.0.1", dropped, w).conn("169.254.169.254", port(80), denied(policy.DestinationProhibited))
	t.conn("rebind.example.com", denied(policy.DestinationProhibited), w)
	t.conn("mcr.microsoft.com", ok, w, sni("front.example.com"))
	t.request("archive.ubuntu.com", port(80), w, fails(policy.StageData, policy.HTTPBlockPage, policy.ByNetwork, policy.Likely, "status", 302, "server", "Blocker/1.0"), to("203.0.113.30:80"))
	t.conn("\x1b[31m\u202egnp.exe\x00", dropped, w).conn(strings.Repeat(strings.Repeat("l", 63)+".", 3)+strings.Repeat("e", 61), ok, w)
	t.conn("198.51.100.7", ok, func(r *policy.Record) { r.SNIState = policy.SNIAbsent })
	t.conn("azgnrelay-eastus-l1.servicebus.windows.net", closes("7"), ok, w, detail("issuer", "CN=Contoso Inspection CA"), lasted(20_000_000_000))
	patternsOf(t, w)
	t.event("azureml/amlarc-operator-5c", "Failed", pull("gcr.io/kubeflow/operator:v1", "https://storage.googleapis.com/artifacts/x"), 1)
	t.event("azureml/amlarc-operator-5c", "Failed", pull("gcr.io/kubeflow/operator:v1", "https://storage.googleapis.com/artifacts/x"), 3)
	t.event("azureml/relay-0", "BackOff", "Back-off restarting failed container relay in pod relay-0", 4)
	t.sing().conn(canaryName, denied(policy.HTTPRequestDenied), origin(policy.OriginCanary), via("redirect"))
	for range 2 {
		t.query(canaryName, denied(""), origin(policy.OriginCanary))
	}
	status := 1
	return t.halt(func(r *policy.Record) { r.ChildStatus = &status })
}

// patternsOf adds what only many connections tell.
func patternsOf(t *tape, w mod) {
	t.rests("azgnrelay-eastus-l1.servicebus.windows.net", "rst", 240).rests("mcr.microsoft.com", "rst", 239.8).rests("mcr.microsoft.com", "rst", 240.1)
	t.times(3, "registry-1.docker.io", silence, detail("hello_bytes", 1517.0), w, to("203.0.113.40:443")).conn("registry-1.docker.io", ok, w, to("203.0.113.40:443"))
	t.conn("cdn01.quay.io", ok, w, to("203.0.113.9:443")).conn("cdn03.quay.io", reset1, w)
	t.conn("packages.example.net", dropped, w, to("203.0.113.20:443"))
	for _, host := range []string{"ads.example.com", "track.example.net"} {
		t.request(host, port(80), page302, w, to("203.0.113.30:80"))
	}
}

func everyReport() *Report {
	return every().report(Options{Catalogs: []*policy.Catalog{arc, aml}, Files: []string{"egressaudit-20260102T100000Z.jsonl"}})
}

func TestGolden(t *testing.T) {
	r := everyReport()
	seen := map[Status]bool{}
	for _, e := range r.Endpoints {
		seen[e.Status] = true
	}
	require.Len(t, seen, 7, "the golden trial has every status")
	kinds := map[Kind]bool{}
	for _, f := range r.Findings {
		kinds[f.Kind] = true
	}
	require.Len(t, kinds, len(Kinds), "and every kind of finding")

	for name, write := range map[string]func(*bytes.Buffer) error{
		"every-100.txt": func(b *bytes.Buffer) error { return r.WriteText(b, TextOptions{}) },
		"every-80.txt":  func(b *bytes.Buffer) error { return r.WriteText(b, TextOptions{Width: 80}) },
		"every.json":    func(b *bytes.Buffer) error { return r.WriteJSON(b) },
		"every.md":      func(b *bytes.Buffer) error { return r.WriteMarkdown(b) },
		"every.html":    func(b *bytes.Buffer) error { return r.WriteHTML(b) },
		"every.csv":     func(b *bytes.Buffer) error { return r.WriteCSV(b) },
		"every.xml":     func(b *bytes.Buffer) error { return r.WriteJUnit(b) },
		"clear.txt": func(b *bytes.Buffer) error {
			return started().conn("quay.io", ok).stop().report(Options{Catalogs: []*policy.Catalog{small}}).WriteText(b, TextOptions{})
		},
		"nothing.txt": func(b *bytes.Buffer) error {
			return quiet().halt().report(Options{Catalogs: []*policy.Catalog{small}}).WriteText(b, TextOptions{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			require.NoError(t, write(&b))
			file := filepath.Join("testdata", name)
			if *update {
				require.NoError(t, os.MkdirAll("testdata", 0o755))
				require.NoError(t, os.WriteFile(file, b.Bytes(), 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err, "run with -update once")
			require.Equal(t, string(want), b.String())
		})
	}
}

// The keys of the JSON are those of contract section 5, and lists are never
// null.
func TestJSONShape(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, everyReport().WriteJSON(&b))
	require.NotContains(t, b.String(), "null")
	for _, r := range b.String() {
		require.True(t, r == '\n' || r >= 0x20 && r != 0x7f && r != 0x202e, "%q", r)
	}
	var m map[string]any
	require.NoError(t, json.Unmarshal(b.Bytes(), &m))
	requireKeys(t, m, "schema verdict trial exercised required child_status summary endpoints unlisted findings settings blind_spots")
	requireKeys(t, m["trial"], "name vantage started ended phases catalogs scopes regions ledgers")
	requireKeys(t, m["summary"], "used blocked partial reached resolved unused bypassed unlisted")
	for _, e := range m["endpoints"].([]any) {
		keys := "catalog requirement scope host port protocol purpose source status hosts"
		if e := e.(map[string]any); e["cause"] != nil {
			keys += " cause"
			require.Subset(t, strings.Fields("stage error by confidence detail ask"), keysOf(e["cause"]))
		}
		if list, ok := e.(map[string]any)["events"].([]any); ok {
			keys += " events"
			requireKeys(t, list[0], "time workload reason text count seq")
		}
		requireKeys(t, e, keys)
		for _, h := range e.(map[string]any)["hosts"].([]any) {
			require.Subset(t, strings.Fields("host attempts ok failed first last bytes_up bytes_down workloads error"), keysOf(h))
		}
	}
	for _, f := range m["findings"].([]any) {
		requireKeys(t, f, "kind text evidence")
	}

	var empty bytes.Buffer
	require.NoError(t, Build(Options{}, func(func(*policy.Record, error) bool) {}).WriteJSON(&empty))
	require.NotContains(t, empty.String(), "null")
}

func requireKeys(t *testing.T, v any, keys string) {
	t.Helper()
	require.ElementsMatch(t, strings.Fields(keys), keysOf(v))
}

func keysOf(v any) []string {
	var out []string
	for k := range v.(map[string]any) {
		out = append(out, k)
	}
	return out
}

// No line is wider than asked for, hostile names are visible, and colour says
// nothing that words do not.
func TestTextIsSafe(t *testing.T) {
	r := everyReport()
	for _, width := range []int{0, 40, 60, 80, 100, 200} {
		var plain, painted bytes.Buffer
		require.NoError(t, r.WriteText(&plain, TextOptions{Width: width}))
		require.NoError(t, r.WriteText(&painted, TextOptions{Width: width, Color: true}))
		limit := width
		if limit == 0 {
			limit = 100
		}
		for _, l := range strings.Split(plain.String(), "\n") {
			require.LessOrEqual(t, utf8.RuneCountInString(l), limit, l)
			require.Equal(t, Escape(l), l, "something unprintable is left")
		}
		require.NotEqual(t, plain.String(), painted.String())
		bare := painted.String()
		for _, c := range []color{red, yellow, green, bold, reset} {
			bare = strings.ReplaceAll(bare, string(c), "")
		}
		require.Equal(t, plain.String(), bare)
	}
	var b bytes.Buffer
	require.NoError(t, r.WriteText(&b, TextOptions{Width: 400}))
	require.Contains(t, b.String(), `\x1b[31m\u202egnp.exe\x00`)
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"quay.io":                "quay.io",
		"grün 東京":                "grün 東京",
		"\x1b[31mred":            `\x1b[31mred`,
		"a\x00b\nc\td":           `a\x00b\x0ac\x09d`,
		"\u202eevil\u2066":       `\u202eevil\u2066`,
		"\u009b31m":              `\x9b31m`,
		"bad\xff":                `bad\xff`,
		"zero\u200bwidth\ufeff":  `zero\u200bwidth\ufeff`,
		"no\u00a0break\u2028end": `no\xa0break\u2028end`,
		"tag\U000e0041":          `tag\U000e0041`,
	} {
		require.Equal(t, want, Escape(in))
	}
}
