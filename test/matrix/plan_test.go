package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func tablesOf(t *testing.T) *tables {
	t.Helper()
	out, err := readTables(readme)
	require.NoError(t, err)
	return out
}

// TestTables: what is documented is played, and what is played is documented.
func TestTables(t *testing.T) {
	table := tablesOf(t)
	played := map[string]bool{}
	for _, f := range append([]fault{{cause: "works"}}, append(faults, sideFaults...)...) {
		require.Contains(t, table.ways, f.cause, "a fault without a row")
		require.False(t, played[f.cause], "cause %q is played twice", f.cause)
		played[f.cause] = true
	}
	for cause := range table.ways {
		require.True(t, played[cause], "row %q is played by nobody", cause)
	}
	said := map[string]bool{}
	for _, ways := range table.ways {
		for _, entry := range ways {
			for _, part := range strings.Split(entry, ";") {
				_, key, special := strings.Cut(part, ":")
				if !special {
					key = part
				}
				said[strings.TrimSuffix(strings.TrimSpace(key), "*")] = true
			}
		}
	}
	for key := range table.verdicts {
		require.True(t, said[key], "verdict %q is demanded of no cause", key)
	}
}

// TestExpect: the words of a table's cell.
func TestExpect(t *testing.T) {
	table := tablesOf(t)
	for _, c := range []struct{ cause, way, client, version, key, confidence string }{
		{"nxdomain", "direct CONNECT", "curl", "1.3", "nxdomain", "likely"},
		{"foreign-ca", "direct CONNECT", "go", "1.2", "intercepted", "certain"},
		{"foreign-ca", "direct CONNECT", "go", "1.3", "intercepted-likely", "likely"},
		{"foreign-ca", "squid CONNECT", "curl", "1.3", "intercepted*", "likely"},
		{"redirect-to-portal", "squid GET", "curl", "", "block-page-guess*", "guess"},
	} {
		v, plays, err := table.expect(c.cause, c.way, c.client, c.version)
		require.NoError(t, err)
		require.True(t, plays)
		require.Equal(t, c.key, v.key)
		require.Equal(t, c.confidence, v.confidence)
	}
	v, _, _ := table.expect("reset-after-hello", "squid CONNECT", "curl", "1.3")
	require.Equal(t, []string{"proxy", "firewall behind it"}, v.ask)
	_, plays, err := table.expect("origin-404", "direct CONNECT", "curl", "1.3")
	require.NoError(t, err)
	require.False(t, plays)
	_, err = readTables("| cause | direct CONNECT |\n|---|---|\n| `x` | nothing |\n")
	require.ErrorContains(t, err, `no verdict "nothing"`)
	_, err = readTables("| cause | direct CONNECT |\n|---|---|\n| `x` |\n")
	require.ErrorContains(t, err, "1 cells under 2 headings")
}

// TestPlan: the cells are enough, each has a name of its own, and every process
// plans the same.
func TestPlan(t *testing.T) {
	table := tablesOf(t)
	all, err := plan(table, 7, "")
	require.NoError(t, err)
	again, err := plan(table, 7, "")
	require.NoError(t, err)
	hosts, ways := map[string]bool{}, map[string]int{}
	for i, w := range all {
		used := 0
		for j, c := range w.cells {
			require.False(t, hosts[c.host], c.host)
			hosts[c.host] = true
			same := again[i].cells[j]
			require.Equal(t, []any{c.host, c.addrs, c.String(), c.through, c.want}, []any{same.host, same.addrs, same.String(), same.through, same.want})
			require.NotEmpty(t, c.want.status)
			ways[c.client+" "+c.tls]++
			if c.want.status == "used" {
				used++
			}
		}
		require.Greater(t, used, len(w.cells)/10, "connections that work, among the faults of %q", w.name)
	}
	require.Greater(t, len(hosts), 250)
	for _, who := range []string{"curl 1.2", "curl 1.3", "go 1.2", "go 1.3", "python 1.2", "python 1.3", "openssl 1.2", "openssl 1.3", "curl ", "go ", "python "} {
		require.Greater(t, ways[who], 10, who)
	}
}

// TestJudge: each thing that can be wrong about a cell is seen.
func TestJudge(t *testing.T) {
	v, _, err := tablesOf(t).expect("tcp-reset", "direct CONNECT", "curl", "1.3")
	require.NoError(t, err)
	c := &cell{fault: fault{cause: "tcp-reset"}, host: "x.example.com", port: 443, client: "curl", want: v}
	right := `{"host": "x.example.com", "port": 443, "status": "blocked", "hosts": [{"attempts": 1}], "cause": {"stage": "connect", "error": "connection_refused",
		"by": "network", "confidence": "certain", "detail": {"errno": "ECONNREFUSED"}, "ask": "On the firewall, allow TCP port 443 to x.example.com: refused."}}`
	for was, is := range map[string]string{
		"":                  "",
		"blocked":           "used",
		"\"connect\"":       "\"hello\"",
		"_refused":          "_timeout",
		"\"network\"":       "\"parent\"",
		"certain":           "likely",
		"ECONNREFUSED":      "EPERM",
		"On the firewall":   "On the proxy",
		"port 443":          "port 80",
		"\"port\": 443":     "\"port\": 80",
		"to x.example.com":  "to it",
		"\"attempts\": 1":   "\"attempts\": 2",
		"[{\"attempts\": 1": "[{\"attempts\": 1}, {\"attempts\": 1",
	} {
		r, err := readReport([]byte(`{"endpoints": [` + strings.Replace(right, was, is, 1) + `]}`))
		require.NoError(t, err)
		require.NotEmpty(t, judge(c, r, nil).off, "the client was content")
		failed := judge(c, r, errFailed)
		require.Equal(t, was == "", len(failed.off) == 0, "%q for %q: %v", is, was, failed.off)
		require.NotEmpty(t, judge(c, r, errNotRun).off)
	}
}

type failure string

func (f failure) Error() string { return string(f) }

const errFailed = failure("exit status 7")
