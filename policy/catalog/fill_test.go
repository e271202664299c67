package catalog

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// hostsOf are the hosts of all requirements of c, as written.
func hostsOf(c *policy.Catalog) (out []string) {
	for _, r := range c.Requirements {
		for _, h := range r.Hosts {
			out = append(out, h.String())
		}
	}
	return out
}

func TestFill(t *testing.T) {
	f, err := Parse("x", []byte(one(`"*.<region>.example.org", <acr>.<region>.data.example.org, af-<region>-prod.example.org, fixed.example.org`)))
	require.NoError(t, err)
	tests := []struct {
		why    string
		values Values
		want   []string
	}{
		{"nothing given: all open", nil,
			[]string{"*.<region>.example.org", "<acr>.<region>.data.example.org", "af-<region>-prod.example.org", "fixed.example.org"}},
		{"the rest stays open", Values{"region": {"eastus"}},
			[]string{"*.eastus.example.org", "<acr>.eastus.data.example.org", "af-eastus-prod.example.org", "fixed.example.org"}},
		{"several values make several endpoints", Values{"region": {"eastus", "westeurope"}, "acr": {"reg"}},
			[]string{"*.eastus.example.org", "*.westeurope.example.org", "reg.eastus.data.example.org", "reg.westeurope.data.example.org",
				"af-eastus-prod.example.org", "af-westeurope-prod.example.org", "fixed.example.org"}},
		{"each with each", Values{"region": {"r1", "r2"}, "acr": {"a1", "a2"}},
			[]string{"*.r1.example.org", "*.r2.example.org", "a1.r1.data.example.org", "a2.r1.data.example.org", "a1.r2.data.example.org", "a2.r2.data.example.org",
				"af-r1-prod.example.org", "af-r2-prod.example.org", "fixed.example.org"}},
		{"a value twice is one", Values{"region": {"eastus", "EastUS"}, "acr": {"a"}},
			[]string{"*.eastus.example.org", "a.eastus.data.example.org", "af-eastus-prod.example.org", "fixed.example.org"}},
		{"a value may have dots, or be digits", Values{"region": {"a.b"}, "acr": {"12"}},
			[]string{"*.a.b.example.org", "12.a.b.data.example.org", "af-a.b-prod.example.org", "fixed.example.org"}},
		{"a value for nothing", Values{"colour": {"not a host!"}, "region": nil},
			[]string{"*.<region>.example.org", "<acr>.<region>.data.example.org", "af-<region>-prod.example.org", "fixed.example.org"}},
	}
	for _, test := range tests {
		c, err := f.Catalog(test.values)
		require.NoError(t, err, test.why)
		require.Equal(t, test.want, hostsOf(c), test.why)
	}
	again, err := f.Catalog(nil)
	require.NoError(t, err)
	require.Equal(t, tests[0].want, hostsOf(again), "filling does not change the file")
}

func TestFillErrors(t *testing.T) {
	f, err := Parse("x", []byte(one(`<region>.example.org`)))
	require.NoError(t, err)
	for value, want := range map[string]string{
		"":                      `value "" is empty`,
		"East US":               `value "East US": one host an entry, without blanks`,
		"*":                     `value "*": a value is literal, without wildcard and placeholder`,
		"<acr>":                 `value "<acr>": a value is literal, without wildcard and placeholder`,
		"eastus.":               `value "eastus." ends with a dot`,
		"east..us":              `value "east..us": empty label between dots`,
		"https://eastus":        `value "https://eastus": a host without scheme and path (did you mean "eastus"?)`,
		"eastus:443":            `value "eastus:443": the port goes into its own key (did you mean "eastus"?)`,
		"east+us":               `value "east+us": the character '+' cannot stand in a host name`,
		"a.b.c\x1b[2J":          `value "a.b.c\x1b[2J": the character '\x1b' cannot stand in a host name`,
		strings.Repeat("x", 64): `value "` + strings.Repeat("x", 64) + `": label longer than 63 octets`,
	} {
		_, err := f.Catalog(Values{"region": {"westus", value}})
		require.EqualError(t, err, `fill catalog "x": placeholder <region>: `+want)
	}
	many := make([]string, 400)
	for i := range many {
		many[i] = string(rune('a'+i%26)) + string(rune('a'+i/26))
	}
	f, err = Parse("x", []byte(one(`<a>.<b>.<c>.example.org`)))
	require.NoError(t, err)
	_, err = f.Catalog(Values{"a": many, "b": many, "c": many})
	require.EqualError(t, err, `fill catalog "x": host "<a>.<b>.<c>.example.org": its placeholders make more than 100000 hosts`)
}

func TestCheckPlaceholder(t *testing.T) {
	aml, err := Load("aml-kubernetes")
	require.NoError(t, err)
	arc, err := Load("azure-arc")
	require.NoError(t, err)
	policies, err := Load("azure-policy")
	require.NoError(t, err)
	old, err := Load("aml-extension")
	require.NoError(t, err)
	require.NoError(t, CheckPlaceholder("region", arc))
	require.NoError(t, CheckPlaceholder("storage-account", arc, aml))
	require.EqualError(t, CheckPlaceholder("storage_account", arc, aml), `placeholder "storage_account": no host of the catalogs has it (did you mean "storage-account"?)`)
	require.EqualError(t, CheckPlaceholder("vault", arc), `placeholder "vault": no host of the catalogs has it (they have "region")`)
	require.EqualError(t, CheckPlaceholder("region", policies), `placeholder "region": no host of the catalogs has one`)
	require.Error(t, CheckPlaceholder("region-code", old), "defined is not used")
}

func TestCheckRegion(t *testing.T) {
	for _, r := range Regions() {
		require.NoError(t, CheckRegion(r.Name))
	}
	require.NoError(t, CheckRegion("EastUS2"))
	for name, want := range map[string]string{
		"eastsu":          `region "eastsu": not in the list of known regions (did you mean "eastus", "eastus2" or "eastus3"?); --set region=eastsu takes it all the same`,
		"East US":         `region "East US": not in the list of known regions (did you mean "eastus"?)`,
		"South East Asia": `region "South East Asia": not in the list of known regions (did you mean "southeastasia"?)`,
		"west-europe":     `region "west-europe": not in the list of known regions (did you mean "westeurope"?); --set region=west-europe takes it all the same`,
		"weu":             `region "weu": not in the list of known regions (did you mean "westeurope"?); --set region=weu takes it all the same`,
		"atlantis":        `region "atlantis": not in the list of known regions; --set region=atlantis takes it all the same`,
		"":                `region "": no name (write one such as eastus)`,
		" -":              `region " -": no name (write one such as eastus)`,
	} {
		require.EqualError(t, CheckRegion(name), want)
	}
}
