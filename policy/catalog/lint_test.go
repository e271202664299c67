package catalog

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

// day is the clock of these tests.
var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// lint is what Lint tells of the text, beside the embedded catalogs.
func lint(t *testing.T, text string) (lines []string) {
	f, err := Parse("x.yaml", []byte(text))
	require.NoError(t, err)
	for _, p := range Lint(f, loadAll(t), day) {
		lines = append(lines, p.String())
	}
	return lines
}

// with is a good catalog whose requirement has more keys, from line 13 on.
func with(keys string) string { return one("a.example.org") + "    " + keys + "\n" }

func TestLint(t *testing.T) {
	tests := []struct {
		why, text string
		want      []string
	}{
		{"nothing to say", one("a.example.org"), nil},
		{"placeholder unused", swap("requirements:", "placeholders:\n  acr: {description: d}\nrequirements:"), []string{
			`x.yaml:7: warning: placeholder <acr> is defined, but no host has it: a value for it has no effect; take it out, or put it into the host it is for`}},
		{"placeholder undefined", one("<regoin>.example.org"), []string{
			`x.yaml:9: error: requirement "a": host "<regoin>.example.org": placeholder <regoin> is used, but not defined: define it under "placeholders"`}},
		{"placeholder undefined, near", strings.Replace(one("<region>.example.org, <regoin>.example.org"), "requirements:", "placeholders: {region: {description: d}}\nrequirements:", 1), []string{
			`x.yaml:10: error: requirement "a": host "<regoin>.example.org": placeholder <regoin> is used, but not defined (did you mean "<region>"?): define it under "placeholders"`}},
		{"placeholder without brackets", strings.Replace(one("<region>.a.example.org, region.b.example.org"), "requirements:", "placeholders: {region: {description: d}}\nrequirements:", 1), []string{
			`x.yaml:10: warning: requirement "a": host "region.b.example.org": the label "region" is spelled like the placeholder and matches only itself (did you mean "<region>.b.example.org"?)`}},

		{"everything", one(`"*"`), []string{
			`x.yaml:9: error: requirement "a": host "*": the last label is open, so names of the whole internet match: with enforce nothing is kept in; write the domain out`}},
		{"open last label", one(`"example.*"`), []string{
			`x.yaml:9: error: requirement "a": host "example.*": the last label is open, so names of the whole internet match: with enforce nothing is kept in; write the domain out`}},
		{"ICANN suffix", one(`"*.com"`), []string{
			`x.yaml:9: error: requirement "a": host "*.com": "com" is a public suffix: anybody can register a name under it and take data out through this rule; write the domain out`}},
		{"ICANN suffix of two labels", one(`"*.co.uk"`), []string{
			`x.yaml:9: error: requirement "a": host "*.co.uk": "co.uk" is a public suffix: anybody can register a name under it and take data out through this rule; write the domain out`}},
		{"partial label on an ICANN suffix", one(`"quay*.io"`), []string{
			`x.yaml:9: error: requirement "a": host "quay*.io": "io" is a public suffix: anybody can register a name under it and take data out through this rule; write the domain out`,
			`x.yaml:9: warning: requirement "a": host "quay*.io": a * within a label stays within it; "aml-extension" has "*.quay.io" (did you mean that?)`}},
		{"placeholder on an ICANN suffix", strings.Replace(one("<host>.com"), "requirements:", "placeholders: {host: {description: d}}\nrequirements:", 1), []string{
			`x.yaml:10: warning: requirement "a": host "<host>.com": as long as the placeholder is open, this matches names that anybody can register: always give it a value with --set`}},
		{"private suffix", one(`"*.blob.core.windows.net"`), []string{
			`x.yaml:9: warning: requirement "a": host "*.blob.core.windows.net": any customer can have a name under "blob.core.windows.net", so data can leave to anybody's account: where the name is known, write it out, or use a placeholder ("<name>.blob.core.windows.net")`}},
		{"private suffix, partial label", one(`"azgn*.servicebus.windows.net"`), []string{
			`x.yaml:9: warning: requirement "a": host "azgn*.servicebus.windows.net": any customer can have a name under "servicebus.windows.net", so data can leave to anybody's account: where the name is known, write it out, or use a placeholder ("<name>.servicebus.windows.net")`}},
		{"shared, though in no suffix list", one(`"*.azurecr.io"`), []string{
			`x.yaml:9: warning: requirement "a": host "*.azurecr.io": any customer can have a name under "azurecr.io", so data can leave to anybody's account: where the name is known, write it out, or use a placeholder ("<name>.azurecr.io")`}},
		{"a name of one customer", one("mine.azurecr.io, mine.blob.core.windows.net"), nil},
		{"bare suffix: the mistake of the AKS page", one("vault.azure.net"), []string{
			`x.yaml:9: warning: requirement "a": host "vault.azure.net": every customer has a name of their own below "vault.azure.net", and an exact host meets none of those (did you mean "*.vault.azure.net", or better "<name>.vault.azure.net"?)`}},
		{"own last label", one(`"*.corp"`), []string{
			`x.yaml:9: note: requirement "a": host "*.corp": every name under "corp" matches; no public registry has it, so make sure that it is yours alone`}},
		{"below an own last label", one(`"*.registry.corp"`), []string{
			`x.yaml:9: note: requirement "a": host "*.registry.corp": this does not match "registry.corp" itself: where that is called too, list it beside`}},

		{"apex missing", one(`"*.example.org"`), []string{
			`x.yaml:9: note: requirement "a": host "*.example.org": this does not match "example.org" itself: where that is called too, list it beside`}},
		{"apex there", one(`"*.example.org", example.org`), nil},
		{"below a registrable domain", one(`"*.cdn.example.org"`), nil},
		{"companion of another catalog", one(`"*.data.mcr.microsoft.com"`), []string{
			`x.yaml:9: warning: requirement "a": host "*.data.mcr.microsoft.com": "mcr.microsoft.com" belongs to it and is not in this catalog, but in "aks-cluster-extensions", "azure-arc" and "azure-arc-usgov": use them together, or add it here`}},
		{"companion, whatever the name", one(`"*.cdn.quay.io"`), []string{
			`x.yaml:9: warning: requirement "a": host "*.cdn.quay.io": "quay.io" belongs to it and is not in this catalog, but in "aml-extension": use them together, or add it here`}},
		{"companion of a placeholder", strings.Replace(one("<region>.data.mcr.microsoft.com"), "requirements:", "placeholders: {region: {description: d}}\nrequirements:", 1), []string{
			`x.yaml:10: warning: requirement "a": host "<region>.data.mcr.microsoft.com": "mcr.microsoft.com" belongs to it and is not in this catalog, but in "aks-cluster-extensions", "azure-arc" and "azure-arc-usgov": use them together, or add it here`}},
		{"companion there", one(`"*.data.mcr.microsoft.com", mcr.microsoft.com`), nil},
		{"wildcard in the label before", one(`"guestnotificationservice*.azure.com"`), []string{
			`x.yaml:9: warning: requirement "a": host "guestnotificationservice*.azure.com": a * within a label stays within it; "azure-arc" has "*.guestnotificationservice.azure.com" (did you mean that?)`}},
		{"wildcard in an inner label", one(`"x.hcp*.example.org"`), []string{
			`x.yaml:9: note: requirement "a": host "x.hcp*.example.org": the * in "hcp*" stands for characters of that one label only`}},
		{"one letter off", one("mcr.micorsoft.com"), []string{
			`x.yaml:9: warning: requirement "a": host "mcr.micorsoft.com": domain "micorsoft.com" is in no other catalog, and one letter off "microsoft.com", which 5 have (did you mean that?)`}},

		{"twice in a row", one("a.example.org, A.example.org."), []string{
			`x.yaml:9: warning: requirement "a": host "a.example.org": a.example.org:443 stands in line 9 already: take one out`}},
		{"twice in a scope", one("a.example.org") + strings.TrimPrefix(strings.Replace(one("a.example.org"), "id: a", "id: b", 1), head), []string{
			`x.yaml:15: warning: requirement "b": host "a.example.org": a.example.org:443 stands in line 9 already, in requirement "a" of the same scope: it counts twice in every report; take one out`}},
		{"in two scopes", one("a.example.org") + strings.TrimPrefix(strings.NewReplacer("id: a", "id: b", "scope: s", "scope: t").Replace(one("a.example.org")), head), []string{
			`x.yaml:15: note: requirement "b": host "a.example.org": a.example.org:443 stands in line 9 too, in requirement "a" for scope "s": it counts twice where both scopes are required`}},
		{"on two ports", one("a.example.org") + strings.TrimPrefix(strings.NewReplacer("id: a", "id: b", "443", "8084").Replace(one("a.example.org")), head), nil},
		{"alone in its group", with("any_of: docker-blobs"), []string{
			`x.yaml:13: warning: requirement "a": any_of "docker-blobs": no other requirement of this catalog has it, so nothing can stand in for this one`}},
		{"group misspelt", with("any_of: docker-blobs") + strings.TrimPrefix(strings.NewReplacer("id: a", "id: b", "docker-blobs", "docker-blob", "a.example", "b.example").Replace(with("any_of: docker-blobs")), head), []string{
			`x.yaml:13: warning: requirement "a": any_of "docker-blobs": no other requirement of this catalog has it, so nothing can stand in for this one (did you mean "docker-blob"?)`,
			`x.yaml:20: warning: requirement "b": any_of "docker-blob": no other requirement of this catalog has it, so nothing can stand in for this one (did you mean "docker-blobs"?)`}},

		{"expired", with("valid: {until: 2026-03-01}"), []string{
			`x.yaml:13: warning: requirement "a": required until 2026-03-01 only, and that is over: reports leave it out; delete it, or correct "until"`}},
		{"last day", with("valid: {until: 2026-03-02}"), nil},
		{"not yet", with("valid: {from: 2026-03-02}"), []string{
			`x.yaml:13: note: requirement "a": required from 2026-03-02 only: reports leave it out until then`}},
		{"first day", with("valid: {from: 2026-03-01}"), nil},
		{"http on 443", swap("https\n", "http\n"), []string{
			`x.yaml:10: warning: requirement "a": http on port 443: mostly protocol https, or port 80, is meant`}},
		{"https on 80", swap("443", "80"), []string{
			`x.yaml:10: warning: requirement "a": https on port 80: mostly protocol http, or port 443, is meant`}},
		{"source that is no page", with("source: a colleague"), []string{
			`x.yaml:13: note: requirement "a": source "a colleague" is no address of a page, so nobody can look it up: give its https URL`}},
		{"source of the catalog", swap("https://example.org/", "..."), []string{
			`x.yaml:5: note: source "..." is no address of a page, so nobody can look it up: give its https URL`}},
	}
	for _, test := range tests {
		t.Run(test.why, func(t *testing.T) { require.Equal(t, test.want, lint(t, test.text)) })
	}
}

// Problems come in the order of the file, and a copy of an embedded catalog is
// not held against itself.
func TestLintOrderAndSelf(t *testing.T) {
	data, err := embedded.ReadFile("embedded/azure-arc.yaml")
	require.NoError(t, err)
	copied := strings.Replace(string(data), "mcr.microsoft.com, ", "", 1)
	f, err := Parse("copy.yaml", []byte(copied))
	require.NoError(t, err)
	arc, err := Load("azure-arc")
	require.NoError(t, err)
	last := 0
	for _, p := range Lint(f, []*File{arc}, day) {
		require.NotEqual(t, CompanionElsewhere, p.Kind, "its own older copy is no other catalog")
		require.GreaterOrEqual(t, p.Line, last)
		last = p.Line
	}
}

// The embedded catalogs say what their pages say, with what is wrong there: all
// findings are known. The seed's: a placeholder that no row uses, half of a
// registry, and five wildcards over names of customers.
func TestLintEmbedded(t *testing.T) {
	var b strings.Builder
	seed := map[string]int{}
	for _, f := range loadAll(t) {
		for _, p := range Lint(f, loadAll(t), day) {
			require.NotEqual(t, Mistake, p.Severity, p)
			b.WriteString(p.String() + "\n")
			if f.Name == "aml-extension" {
				seed[p.Kind]++
			}
		}
	}
	require.Equal(t, map[string]int{PlaceholderUnused: 1, CompanionElsewhere: 1, SharedSuffix: 5}, seed)
	const golden = "testdata/lint-embedded.golden"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(golden, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String())
}

// A catalog as large as one may be is looked through in a time that nobody
// notices twice.
func TestLintLarge(t *testing.T) {
	var hosts strings.Builder
	for i := 0; hosts.Len() < maxFile-1000; i++ {
		hosts.WriteString(`"*.h` + strings.Repeat("x", i%7) + time.Duration(i).String() + `.example.org", `)
	}
	f, err := Parse("x", []byte(one(hosts.String()+"z.example.org")))
	require.NoError(t, err)
	others := loadAll(t)
	start := time.Now()
	Lint(f, others, day)
	require.Less(t, time.Since(start), 20*time.Second)
	t.Logf("%d hosts in %v", len(f.rows[0].Hosts), time.Since(start))
}
