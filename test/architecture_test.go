package test

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/egressaudit/egressaudit/"

// may is the import table: which of our packages a package may import, and
// which libraries live in it alone. A package that is not here has no room.
var may = map[string][]string{
	"policy":         {},
	"policy/catalog": {"policy"},
	"policy/ledger":  {"policy"},
	"policy/report":  {"policy"},
	"policy/live":    {"policy", "policy/report"},
	// Design's row: who a client is, by Kubernetes; client-go lives in it alone.
	"policy/workload": {"policy"},
	"proxy":           {"policy", "proxy/hello", "proxy/capture"},
	"proxy/hello":     {},
	"proxy/capture":   {"policy", "proxy/hello"},
	// A package of its own: the namespace of one command is a contract (a protocol
	// between two processes of this program, rules, capabilities) that serve's
	// listeners have no part in.
	"proxy/capture/isolate": {"policy", "proxy/hello", "proxy/capture"},
	"dnsaudit":              {"policy"},
	"cmd/egressaudit":       {"*"},
	"deploy":                {},
	"deploy/nftables":       {},
	"deploy/systemd":        {}, // its tests alone
	// Reading which addresses lie inside a cluster is neither attribution (who it
	// was, and when) nor wiring: a few lists, once, for the settings to paste.
	"deploy/cluster":      {},
	"test":                {"*"},
	"test/lab":            {"policy"},
	"test/lab/cmd/lab":    {"test/lab"},
	"test/lab/netns":      {},
	"test/demo":           {"*"},
	"test/e2e":            {"*"},
	"test/suite":          {},
	"test/dns":            {"policy", "policy/ledger"},
	"test/matrix":         {"*"},
	"test/bench":          {},
	"test/bench/goproxy":  {},
	"test/bench/report":   {"policy", "policy/ledger"},
	"test/bench/relay":    {"proxy/capture"},
	"test/bench/capture":  {"test/lab/netns"}, // a gateway is a namespace
	"test/alerts":         {"test/suite"},
	"test/rolling":        {"policy", "policy/ledger"},
	"test/cluster":        {"test/lab/netns"}, // it holds the program against what it did, and uses nothing of it
	"test/cluster/client": {},
}

// only says in which packages a library may be used.
var only = map[string][]string{
	"github.com/elazarl/goproxy":                     {"proxy", "test/bench/goproxy"},
	"github.com/miekg/dns":                           {"dnsaudit", "test/lab", "test/e2e", "test/dns", "test/matrix", "test/cluster"},
	"github.com/spf13/cobra":                         {"cmd/egressaudit"},
	"github.com/prometheus/client_golang/prometheus": {"policy/live"},
	"github.com/goccy/go-yaml":                       {"policy/catalog", "cmd/egressaudit"},
	"golang.org/x/crypto/cryptobyte":                 {"proxy/hello"},
	"github.com/google/nftables":                     {"proxy/capture/isolate", "deploy/nftables"},
	"github.com/mdlayher/netlink":                    {"proxy/capture/isolate", "deploy/nftables"},
	"github.com/vishvananda/netlink":                 {"proxy/capture/isolate", "deploy/nftables"},
	"k8s.io/client-go":                               {"policy/workload", "deploy/cluster"},
	"k8s.io/api":                                     {"policy/workload"},
	"k8s.io/apimachinery":                            {"policy/workload"},
	"k8s.io/klog/v2":                                 {"policy/workload"},
}

// TestImports holds the table of design: the data flows one way.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "../...").Output()
	require.NoError(t, err)
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else {
			require.NoError(t, err)
		}
		seen++
		from := strings.TrimPrefix(p.ImportPath, module)
		allowed, ok := may[from]
		require.True(t, ok, "package %q is not in the table: give it a room in design and here, in one commit", from)
		for _, i := range p.Imports {
			if to, ours := strings.CutPrefix(i, module); ours {
				require.True(t, slices.Contains(allowed, to) || slices.Contains(allowed, "*"),
					"%s imports %s: the middle packages know each other only where the table says so; let cmd join them", from, to)
			}
			for library, rooms := range only {
				if i == library || strings.HasPrefix(i, library+"/") {
					require.Contains(t, rooms, from, "%s imports %s, which lives in %v alone", from, i, rooms)
				}
			}
		}
	}
	require.Greater(t, seen, 8)
}
