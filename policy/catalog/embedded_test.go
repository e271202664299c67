package catalog

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// open is the catalog of an embedded file, its placeholders open.
func open(t *testing.T, name string, v Values) *policy.Catalog {
	f, err := Load(name)
	require.NoError(t, err)
	c, err := f.Catalog(v)
	require.NoError(t, err)
	return c
}

// The counts are those of the publishers' pages, counted by hand.
func TestEmbeddedCounts(t *testing.T) {
	tests := []struct {
		name        string
		rows, hosts int
		scopes      map[string]int // hosts
	}{
		{"aml-extension", 12, 20, map[string]int{"extension": 11, "workload": 5, "training": 4}},
		{"aml-kubernetes", 6, 13, map[string]int{"workload": 9, "training": 4}},
		{"azure-arc", 13, 18, map[string]int{"agent": 9, "connect": 5, "rbac": 1, "extension": 1, "portal": 1, "client": 1}},
		{"azure-arc-usgov", 10, 14, map[string]int{"agent": 8, "connect": 5, "rbac": 1}},
		{"azure-arc-china", 12, 20, map[string]int{"agent": 8, "connect": 5, "rbac": 1, "portal": 1, "mirrors": 5}},
		{"container-insights", 8, 9, map[string]int{"extension": 8, "prometheus": 1}},
		{"container-insights-usgov", 6, 7, map[string]int{"extension": 6, "prometheus": 1}},
		{"container-insights-china", 6, 7, map[string]int{"extension": 6, "prometheus": 1}},
		{"defender-for-containers", 3, 4, map[string]int{"extension": 4}},
		{"azure-policy", 2, 3, map[string]int{"extension": 3}},
		{"azure-policy-usgov", 1, 2, map[string]int{"extension": 2}},
		{"azure-policy-china", 1, 2, map[string]int{"extension": 2}},
		{"key-vault-secrets-provider", 2, 4, map[string]int{"extension": 1, "reported": 3}},
		{"arc-data-services", 3, 5, map[string]int{"extension": 5}},
		{"aks-cluster-extensions", 5, 12, map[string]int{"agent": 5, "marketplace": 6, "metered": 1}},
	}
	require.Len(t, tests, len(Names()))
	for _, test := range tests {
		c := open(t, test.name, nil)
		require.Equal(t, test.name, c.Name)
		require.Len(t, c.Requirements, test.rows, test.name)
		hosts := hostsOf(c)
		require.Len(t, hosts, test.hosts, test.name)
		slices.Sort(hosts)
		require.Len(t, slices.Compact(hosts), test.hosts, "%s: a host twice", test.name)
		scopes := map[string]int{}
		for _, r := range c.Requirements {
			scopes[r.Scope] += len(r.Hosts)
		}
		require.Equal(t, test.scopes, scopes, test.name)
	}
}

// Each requirement names its page; none has ended, for each catalog is the list
// of its revision.
func TestEmbeddedSources(t *testing.T) {
	for _, f := range loadAll(t) {
		for _, r := range f.rows {
			s := f.SourceOf(r.ID)
			require.Regexp(t, `^https://[a-z.]+/`, s.URL, "%s %s", f.Name, r.ID)
			require.NotEmpty(t, s.Revision)
			require.NotEmpty(t, s.Title)
			require.True(t, r.From.IsZero() && r.Until.IsZero(), "%s %s", f.Name, r.ID)
			require.Less(t, len(r.Purpose), 120)
		}
	}
}

// besides is a folder beside the checkout, or the test is skipped.
func besides(t *testing.T, name string) string {
	dir := filepath.Join("..", "..", "..", "shared", name)
	if corpora := os.Getenv("EGRESSAUDIT_CORPORA"); corpora != "" {
		dir = filepath.Join(corpora, "..", name)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the folder %s is not here, so nothing is compared with it: %v", name, err)
	}
	return dir
}

type facts struct {
	Catalogs []struct {
		ID      string
		Entries []struct {
			ID        string
			Hosts     []string
			Port      int
			Protocol  string
			Websocket bool
		}
		CloudVariants map[string][]string `yaml:"cloud_variants"`
	}
	Observed []struct {
		Pattern string
		Hosts   []string
	} `yaml:"wildcard_observed"`
	Regions []struct{ Name, Display, Cloud, Code, Note string }
}

func readFacts(t *testing.T) (f facts) {
	data, err := os.ReadFile(filepath.Join(besides(t, "facts"), "catalogs.yaml"))
	require.NoError(t, err)
	text := strings.NewReplacer("arc_his_code_note:", "note:", "arc_his_code:", "code:").Replace(string(data))
	require.NoError(t, yaml.Unmarshal([]byte(text), &f))
	return f
}

// factNames are our names of the catalogs in the facts file.
var factNames = map[string]string{
	"aml-extension-seed": "aml-extension", "aml-kubernetes-current": "aml-kubernetes",
	"azure-arc-k8s-public": "azure-arc", "azure-arc-k8s-usgov": "azure-arc-usgov", "azure-arc-k8s-china": "azure-arc-china",
	"container-insights-public": "container-insights", "container-insights-usgov": "container-insights-usgov", "container-insights-china": "container-insights-china",
	"defender-for-containers": "defender-for-containers", "azure-policy": "azure-policy", "keyvault-secrets-provider": "key-vault-secrets-provider",
	"arc-data-services": "arc-data-services", "aks-cluster-extensions-public": "aks-cluster-extensions",
}

func TestEmbeddedAgainstFacts(t *testing.T) {
	spell := strings.NewReplacer("{", "<", "}", ">", "_", "-")
	compared := 0
	for _, fact := range readFacts(t).Catalogs {
		name, ok := factNames[fact.ID]
		if !ok {
			continue
		}
		compared++
		var want, got []string
		for _, e := range fact.Entries {
			for _, h := range e.Hosts {
				want = append(want, fmt.Sprintf("%s:%d %s websocket %v", spell.Replace(h), e.Port, e.Protocol, e.Websocket))
			}
		}
		for _, r := range open(t, name, nil).Requirements {
			for _, h := range r.Hosts {
				got = append(got, fmt.Sprintf("%s:%d %s websocket %v", h, r.Port, r.Protocol, r.Wants(policy.NeedWebsocket)))
			}
		}
		require.ElementsMatch(t, want, got, name)
		for _, cloud := range []string{"usgov", "china"} {
			if variant := fact.CloudVariants[cloud]; name == "azure-policy" {
				require.ElementsMatch(t, variant, hostsOf(open(t, name+"-"+cloud, nil)))
			}
		}
	}
	require.Equal(t, len(factNames), compared)
}

// The one code that the facts call inferred is left out.
func TestRegionsAgainstFacts(t *testing.T) {
	want := map[string]Region{}
	for _, r := range readFacts(t).Regions {
		if r.Note != "" {
			r.Code = ""
		}
		want[r.Name] = Region{r.Name, r.Display, r.Cloud, r.Code}
	}
	got := map[string]Region{}
	for _, r := range Regions() {
		got[r.Name] = r
	}
	require.Equal(t, want, got)
}

func TestRegions(t *testing.T) {
	require.Len(t, Regions(), 87)
	codes := map[string]string{}
	for _, r := range Regions() {
		if r.ArcCode != "" {
			codes[r.ArcCode] = r.Name
		}
	}
	require.Equal(t, map[string]string{
		"eus": "eastus", "weu": "westeurope", "wcus": "westcentralus", "scus": "southcentralus", "sea": "southeastasia", "uks": "uksouth",
		"wus2": "westus2", "ae": "australiaeast", "eus2": "eastus2", "ne": "northeurope", "fc": "francecentral",
	}, codes, "the table of the seed page")
}

// The seed page itself: a row a requirement, with the same hosts and port.
func TestEmbeddedAgainstSeed(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(besides(t, "seed"), "network-requirements.md"))
	require.NoError(t, err)
	cell := regexp.MustCompile(`(?m)^\|(.*)\| (https?):(\d+) \|`)
	var want, got []string
	for _, m := range cell.FindAllStringSubmatch(string(data), -1) {
		hosts := strings.ReplaceAll(strings.NewReplacer(`\`, "", " ", "").Replace(m[1]), ",", " ")
		want = append(want, fmt.Sprintf("%s %s:%s", hosts, m[2], m[3]))
	}
	for _, r := range open(t, "aml-extension", nil).Requirements {
		got = append(got, fmt.Sprintf("%s %s:%d", strings.Trim(fmt.Sprint(r.Hosts), "[]"), r.Protocol, r.Port))
	}
	require.Len(t, want, 12)
	require.Equal(t, want, got)
}

// Names that installs really called, with the endpoints that they count for in
// azure-arc and aml-extension.
var observed = []struct {
	host string
	port uint16
	want string // requirements
}{
	{"eastus.data.mcr.microsoft.com", 443, "azure-arc/mcr aml-extension/mcr-data"},
	{"southeastasia.data.mcr.microsoft.com", 443, "azure-arc/mcr aml-extension/mcr-data"},
	{"mcrflowprodcentralus.data.mcr.microsoft.com", 443, "azure-arc/mcr aml-extension/mcr-data"},
	{"mcr.microsoft.com", 443, "azure-arc/mcr"},
	{"data.mcr.microsoft.com", 443, ""},
	{"mcrwcus0.cdn.mscr.io", 443, ""},
	{"azgnrelay-eastus-l1.servicebus.windows.net", 443, "azure-arc/relay"},
	{"yhpltest.servicebus.windows.net", 443, "azure-arc/relay"},
	{"azgns-usgovvirginia-fairfax-1p-public.servicebus.usgovcloudapi.net", 443, ""},
	{"gbl.his.arc.azure.com", 443, "azure-arc/his-global"},
	{"eus.his.arc.azure.com", 443, "azure-arc/his-regional"},
	{"pn.his.arc.azure.com", 443, "azure-arc/his-regional"},
	{"usgv.his.arc.azure.us", 443, ""},
	{"eastus.dp.kubernetesconfiguration.azure.com", 443, "azure-arc/dataplane"},
	{"westeurope.dp.kubernetesconfiguration.azure.com", 443, "azure-arc/dataplane"},
	{"eastus.obo.arc.azure.com", 8084, "azure-arc/obo"},
	{"eastus.obo.arc.azure.com", 443, ""},
	{"eastus2.login.microsoft.com", 443, "azure-arc/entra"},
	{"eastus.login.microsoft.net", 443, ""},
	{"quay.io", 443, "aml-extension/quay"},
	{"cdn.quay.io", 443, "aml-extension/quay"},
	{"cdn06.quay.io", 443, "aml-extension/quay"},
	{"nested.cdn.quay.io", 443, "aml-extension/quay"},
	{"CDN02.QUAY.IO.", 443, "aml-extension/quay"},
	{"evilquay.io", 443, ""},
	{"quay.io.evil.test", 443, ""},
	{"quay.io", 80, ""},
	{"us.gcr.io", 443, ""},
	{"registry-1.docker.io", 443, "aml-extension/docker-hub"},
	{"auth.docker.io", 443, "aml-extension/docker-hub-auth"},
	{"production.cloudflare.docker.com", 443, "aml-extension/docker-hub"},
	{"production.cloudfront.docker.com", 443, ""},
	{"docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com", 443, ""},
	{"researchdeveusamlacr01.azurecr.io", 443, "aml-extension/acr"},
	{"researchdeveusamlacr01.eastus.data.azurecr.io", 443, "aml-extension/acr"},
	{"linuxgeneva-microsoft.azurecr.io", 443, "azure-arc/geneva-images aml-extension/acr"},
	{"arcpleusws3240447895.blob.core.windows.net", 443, "aml-extension/blob"},
	{"arcpleusws3240447895.table.core.windows.net", 443, "aml-extension/system-logs"},
	{"arcpleusws3240447895.file.core.windows.net", 443, ""},
	{"fb7e20a0-8891-458b-b969-55ddb3382f51.workspace.eastus.api.azureml.ms", 443, "aml-extension/aml-api"},
	{"cert-fb7e20a0-8891-458b-b969-55ddb3382f51.workspace.eastus.api.azureml.ms", 443, "aml-extension/aml-api"},
	{"fb7e20a0-8891-458b-b969-55ddb3382f51.studio.workspace.eastus.api.azureml.ms", 443, "aml-extension/aml-api"},
	{"fb7e20a0-8891-458b-b969-55ddb3382f51.workspace.eastus.cert.api.azureml.ms", 443, ""},
	{"fb7e20a0-8891-458b-b969-55ddb3382f51.workspace.eastus.experiments.azureml.net", 443, ""},
	{"fb7e20a0-8891-458b-b969-55ddb3382f51.workspace.eastus.modelmanagement.azureml.net", 443, ""},
	{"fb7e20a0-8891-458b-b969-55ddb3382f51.workspace.eastus.aether.ms", 443, ""},
	{"eastus.experiments.azureml.net", 443, "aml-extension/aml-api"},
	{"eastus.api.azureml.ms", 443, "aml-extension/aml-api"},
	{"pypi.org", 443, "aml-extension/pypi"},
	{"files.pythonhosted.org", 443, ""},
	{"archive.ubuntu.com", 80, "aml-extension/ubuntu-apt"},
	{"archive.ubuntu.com", 443, ""},
	{"dl.k8s.io", 443, "azure-arc/kubectl-download"},
	{"k8connecthelm.azureedge.net", 443, ""},
}

func TestObservedNames(t *testing.T) {
	for how, v := range map[string]Values{"open": nil, "filled": {"region": {"eastus", "westeurope", "eastus2"}}} {
		x := policy.NewIndex(open(t, "azure-arc", v), open(t, "aml-extension", v))
		for _, test := range observed {
			var got []string
			for _, e := range x.Best(nil, policy.MustName(test.host), test.port) {
				got = append(got, e.Catalog.Name+"/"+e.Requirement.ID)
			}
			require.ElementsMatch(t, strings.Fields(test.want), got, "%s:%d, %s", test.host, test.port, how)
		}
	}
	x := policy.NewIndex(open(t, "azure-arc", Values{"region": {"eastus"}}))
	require.Empty(t, x.Match(nil, policy.MustName("westeurope.dp.kubernetesconfiguration.azure.com"), 443), "another region")
}

// Every observed name of the facts meets the pattern that it was seen for, in
// whichever embedded catalog has it.
func TestObservedNamesOfFacts(t *testing.T) {
	var all []*policy.Catalog
	for _, name := range Names() {
		all = append(all, open(t, name, nil))
	}
	x := policy.NewIndex(all...)
	met := 0
	for _, o := range readFacts(t).Observed {
		for _, pattern := range strings.Split(strings.NewReplacer("{", "<", "}", ">").Replace(o.Pattern), " / ") {
			suffix := strings.TrimPrefix(pattern, "*.")
			for _, host := range o.Hosts {
				n := policy.MustName(host)
				if p, err := policy.ParsePattern(pattern); err != nil || !p.Match(n) {
					continue
				}
				require.True(t, slices.ContainsFunc(x.Endpoints(), func(e *policy.Endpoint) bool {
					return strings.HasSuffix(e.Host.String(), suffix) && len(x.Match(nil, n, e.Port)) > 0
				}), "%s for %s", host, pattern)
				met++
			}
		}
	}
	require.Greater(t, met, 50)
}
