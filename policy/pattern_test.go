package policy

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParsePatternBringsPatternsIntoNormalForm(t *testing.T) {
	for in, want := range map[string]string{
		"MCR.Microsoft.com.":                   "mcr.microsoft.com",
		"*.Quay.IO":                            "*.quay.io",
		"*":                                    "*",
		"azgn*.servicebus.windows.net":         "azgn*.servicebus.windows.net",
		"*.hcp.*.azmk8s.io":                    "*.hcp.*.azmk8s.io",
		"<region>.obo.arc.azure.com":           "<region>.obo.arc.azure.com",
		"San-AF-<region>-Prod.example.org":     "san-af-<region>-prod.example.org",
		"*.<region>.arcdataservices.com.":      "*.<region>.arcdataservices.com",
		"*.bücher.example":                     "*.xn--bcher-kva.example",
		"*.bücher\u3002example":                "*.xn--bcher-kva.example",
		"*.xn--99999999.example":               "*.xn--99999999.example", // no punycode, but ASCII: as ParseName
		"<host>":                               "<host>",
		"192.0.2.1":                            "192.0.2.1",
		"[2001:DB8::1]":                        "2001:db8::1",
		"a." + strings.Repeat("b", 62) + "*.c": "a." + strings.Repeat("b", 62) + "*.c",
		"*." + name253[2:]:                     "*." + name253[2:],
	} {
		p, err := ParsePattern(in)
		require.NoError(t, err, in)
		require.Equal(t, want, p.String())
		again, err := ParsePattern(p.String())
		require.NoError(t, err, "the normal form of %q", in)
		require.Equal(t, p, again)
	}
}

// TestParsePatternRefusesWithAHint: each mistake has its own words, and what an
// error proposes is a pattern.
func TestParsePatternRefusesWithAHint(t *testing.T) {
	for _, row := range []struct{ in, why string }{
		{"*foo.com", `a wildcard is a whole first label (did you mean "*.foo.com"?)`},
		{"*cdn.Example.org", `a wildcard is a whole first label (did you mean "*.cdn.example.org"?)`},
		{"*<region>.example.org", `a wildcard is a whole first label (did you mean "*.<region>.example.org"?)`},
		{"**.foo.com", `one * after another says no more than one (did you mean "*.foo.com"?)`},
		{"a**.foo.com", `one * after another says no more than one (did you mean "a*.foo.com"?)`},
		{".foo.com", `a name does not begin with a dot (did you mean "*.foo.com"?)`},
		{"https://foo.com", `a host without scheme and path (did you mean "foo.com"?)`},
		{"https://*.foo.com:443/v2/", `a host without scheme and path (did you mean "*.foo.com"?)`},
		{"foo.com/v2/", `a host without scheme and path (did you mean "foo.com"?)`},
		{"https://[::1]:443/", `a host without scheme and path (did you mean "::1"?)`},
		{"*.foo.com:443", `the port goes into its own key (did you mean "*.foo.com"?)`},
		{"[::1]:443", `the port goes into its own key (did you mean "::1"?)`},
		{"foo.com:", `the port goes into its own key (did you mean "foo.com"?)`},
		{"10.0.0.0/8", "an address range is no host (list the addresses one by one)"},
		{"2001:db8::/32", "an address range is no host (list the addresses one by one)"},
		{"10.0.0.*", "a wildcard cannot stand in an IP address (list the addresses one by one)"},
		{"*.0.0.1", "a wildcard cannot stand in an IP address (list the addresses one by one)"},
		{"10.<net>.0.1", "a wildcard cannot stand in an IP address (list the addresses one by one)"},
		{"{region}.foo.com", `a placeholder is written in angle brackets (did you mean "<region>.foo.com"?)`},
		{"${region}.foo.com", `a placeholder is written in angle brackets (did you mean "<region>.foo.com"?)`},
		{"{{region}}.foo.com", `a placeholder is written in angle brackets (did you mean "<region>.foo.com"?)`},
		{"san-af-[region]-prod.foo.com", `a placeholder is written in angle brackets (did you mean "san-af-<region>-prod.foo.com"?)`},
		{"<Region>.foo.com", `placeholder <Region>: a name is a lower-case letter, then letters, digits, - or _ (did you mean "<region>.foo.com"?)`},
		{"<your region>.foo.com", `placeholder <your region>: a name is a lower-case letter, then letters, digits, - or _ (did you mean "<your-region>.foo.com"?)`},
		{"<1>.foo.com", "placeholder <1>: a name is a lower-case letter, then letters, digits, - or _"},
		{"<>.foo.com", "placeholder <>: a name is a lower-case letter"},
		{"<region.foo.com", "a placeholder is written <name>"},
		{"region>.foo.com", "a placeholder is written <name>"},
		{"foo.com bar.com", "one host an entry, without blanks"},
		{"foo.com,bar.com", "one host an entry, without blanks"},
		{" foo.com,", `one host an entry, without blanks (did you mean "foo.com"?)`},
		{"bü*.example", "a label with a wildcard is plain ASCII"},
		{"*.\u202e.example", "not a name that punycode can carry"},
		{"a_b.f/o*.com", "a host without scheme and path"},
		{"f$o*.com", "the character '$' cannot stand in a host name"},
		{"fe80::1%eth0", "zone identifier"},
		{"user@foo.com", "the character '@' cannot stand in a host name"},
		{"127.1", "an IPv4 address is four decimal numbers"},
		{"", "a host name is missing"},
		{"*..foo.com", "empty label between dots"},
		{"*.\u00ad.foo.com", "empty label between dots"},
		{"*..", "empty label between dots"},
		{"*." + label63 + "a.com", "label longer than 63 octets"},
		{"<p>" + label63 + ".com", "label longer than 63 octets"},
		{"*." + name253[1:], "longer than 253 octets"},
		{"a*." + name253[1:], "longer than 253 octets"},
		{strings.Repeat("*", 10_000), "longer than 253 octets"},
	} {
		t.Run(row.in, func(t *testing.T) {
			p, err := ParsePattern(row.in)
			require.ErrorIs(t, err, ErrPattern, "it is %q", p)
			require.ErrorContains(t, err, row.why)
			require.True(t, p.IsZero())
			if len(row.in) < maxName {
				require.Equal(t, 1, strings.Count(err.Error(), "bad host pattern"))
			}
			requireHint(t, err)
		})
	}
	_, err := ParsePattern("quay..io")
	require.EqualError(t, err, `bad host pattern "quay..io": empty label between dots`)
	require.Panics(t, func() { MustPattern("*foo.com") })
}

// requireHint: what the error proposes is a pattern in normal form.
func requireHint(t *testing.T, err error) {
	t.Helper()
	_, hint, ok := strings.Cut(err.Error(), "(did you mean \"")
	if !ok {
		return
	}
	hint = strings.TrimSuffix(hint, "\"?)")
	p, err := ParsePattern(hint)
	require.NoError(t, err, "a hint leads astray")
	require.Equal(t, hint, p.String())
}

func TestPatternMatch(t *testing.T) {
	for _, row := range []struct {
		pattern, name string
		want          bool
		why           string
	}{
		{"*.quay.io", "cdn.quay.io", true, "one label"},
		{"*.quay.io", "a.b.quay.io", true, "more labels"},
		{"*.quay.io", "quay.io", false, "none"},
		{"*.quay.io", "evilquay.io", false, "another domain"},
		{"*.quay.io", "quay.io.evil.example", false, "another domain"},
		{"azgn*.servicebus.windows.net", "azgn1.servicebus.windows.net", true, ""},
		{"azgn*.servicebus.windows.net", "azgn.servicebus.windows.net", true, "none or more characters"},
		{"azgn*.servicebus.windows.net", "azgn1.x.servicebus.windows.net", false, "stays within its label"},
		{"azgn*.servicebus.windows.net", "x.azgn1.servicebus.windows.net", false, "one label"},
		{"*.hcp.*.azmk8s.io", "x.hcp.eastus.azmk8s.io", true, ""},
		{"*.hcp.*.azmk8s.io", "x.y.hcp.eastus.azmk8s.io", true, ""},
		{"*.hcp.*.azmk8s.io", "x.hcp.a.b.azmk8s.io", false, "an inner * is one label"},
		{"*.hcp.*.azmk8s.io", "hcp.eastus.azmk8s.io", false, "the first is one at the least"},
		{"<region>.obo.arc.azure.com", "eastus.obo.arc.azure.com", true, "open: one label"},
		{"<region>.obo.arc.azure.com", "a.b.obo.arc.azure.com", false, "no more"},
		{"san-af-<region>-prod.example.org", "san-af-eastus-prod.example.org", true, ""},
		{"san-af-<region>-prod.example.org", "san-af--prod.example.org", false, "one character at the least"},
		{"san-af-<region>-prod.example.org", "san-af-prod.example.org", false, "head and tail do not overlap"},
		{"a.*", "a.com", true, "at the end too"},
		{"*", "localhost", true, "any name"},
		{"*", "192.0.2.1", false, "an address has no labels"},
		{"a.*.*.*", "192.0.2.1", false, ""},
		{"192.0.2.1", "192.0.2.1", true, "a literal address"},
		{"192.0.2.1", "::ffff:192.0.2.1", true, "in either spelling"},
		{"2001:db8::1", "[2001:DB8:0::1]", true, ""},
	} {
		require.Equal(t, row.want, MustPattern(row.pattern).Match(MustName(row.name)), "%s against %s: %s", row.pattern, row.name, row.why)
	}
	require.False(t, Pattern{}.Match(Name{}))
	require.False(t, Pattern{}.Match(MustName("a")))
	require.False(t, MustPattern("*").Match(Name{}))
}

func TestPatternParts(t *testing.T) {
	for _, row := range []struct{ pattern, literal, base, suffix string }{
		{"mcr.microsoft.com", "mcr.microsoft.com", "", "mcr.microsoft.com"},
		{"*.quay.io", "", "quay.io", "quay.io"},
		{"azgn*.servicebus.windows.net", "", "", "servicebus.windows.net"},
		{"*.hcp.*.azmk8s.io", "", "", "azmk8s.io"},
		{"*.<region>.example.org", "", "", "example.org"},
		{"a.b.<tld>", "", "", ""},
		{"*", "", "", ""},
		{"192.0.2.1", "192.0.2.1", "", "192.0.2.1"},
	} {
		p := MustPattern(row.pattern)
		literal, ok := p.Literal()
		require.Equal(t, row.literal, literal.String())
		require.Equal(t, row.literal != "", ok)
		base, ok := p.Base()
		require.Equal(t, row.base, base.String())
		require.Equal(t, row.base != "", ok)
		require.Equal(t, row.suffix, p.Suffix())
	}
}

func TestFillMakesAPlaceholderLiteral(t *testing.T) {
	for _, row := range []struct{ pattern, value, want string }{
		{"<region>.obo.arc.azure.com", "EastUS", "eastus.obo.arc.azure.com"},
		{"san-af-<region>-prod.example.org", "westus", "san-af-westus-prod.example.org"},
		{"*.<region>.example.org", "eastus", "*.eastus.example.org"},
		{"<region>.<region>-x.org", "a", "a.a-x.org"},
		{"<region>", "my.registry.example", "my.registry.example"},
		{"<region>", "192.0.2.1", "192.0.2.1"},
		{"x-<region>.example.org", "a.b", "x-a.b.example.org"},
		{"<other>.example.org", "eastus", "<other>.example.org"},
	} {
		p, err := MustPattern(row.pattern).Fill("region", row.value)
		require.NoError(t, err)
		require.Equal(t, row.want, p.String())
	}
	for _, value := range []string{"", "*", "<x>", "a b", "a/b", "a:1", ".", "a..b", "\u202e", strings.Repeat("a", 64)} {
		_, err := MustPattern("<region>.example.org").Fill("region", value)
		require.ErrorIs(t, err, ErrPattern, "%q", value)
	}
}

func TestPlaceholdersAndTheirValues(t *testing.T) {
	for _, row := range []struct {
		pattern, name string
		placeholders  []string
		values        map[string]string
	}{
		{"<region>.obo.arc.azure.com", "eastus.obo.arc.azure.com", []string{"region"}, map[string]string{"region": "eastus"}},
		{"*.<a>.x-<b>-y.org", "p.q.one.x-two-y.org", []string{"a", "b"}, map[string]string{"a": "one", "b": "two"}},
		{"<a><b>.org", "xy.org", []string{"a", "b"}, nil},
		{"<a>.<a>.org", "x.x.org", []string{"a"}, map[string]string{"a": "x"}},
		{"*.org", "x.org", nil, nil},
		{"<region>.obo.arc.azure.com", "x.org", []string{"region"}, nil},
		{"192.0.2.1", "192.0.2.1", nil, nil},
	} {
		p := MustPattern(row.pattern)
		require.Equal(t, row.placeholders, p.Placeholders())
		require.Equal(t, row.values, p.Values(MustName(row.name)))
	}
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{
		"*.quay.io", "azgn*.servicebus.windows.net", "*.hcp.*.azmk8s.io", "san-af-<region>-prod.example.org", "a*b*a.<p><q>", "*foo.com",
		"**.a", "https://x.org:443/y", "192.0.2.1", "[::1]:80", "*.bücher\u3002example", "{region}.x", "<Region>.x", "*", "*.", "a.<p>*", "*.\u00ad.a",
	} {
		f.Add(s, "a.b.quay.io")
		f.Add(s, "abba.ab")
	}
	f.Fuzz(func(t *testing.T, s, host string) {
		p, err := ParsePattern(s)
		if err != nil {
			require.ErrorIs(t, err, ErrPattern)
			require.True(t, p.IsZero())
			requireHint(t, err)
			return
		}
		again, err := ParsePattern(p.String())
		require.NoError(t, err, "the normal form of %q", s)
		require.Equal(t, p, again)
		if literal, ok := p.Literal(); ok {
			require.True(t, p.Match(literal))
			requireNormal(t, literal)
		}
		if strings.Count(p.String(), "*")+strings.Count(p.String(), "<") > 8 {
			return // the oracle tries every way to cut a label
		}
		x := NewIndex(&Catalog{Requirements: []*Requirement{{Hosts: []Pattern{p}, Port: 443}}})
		for _, s := range []string{host, strings.NewReplacer("*", "a", "<", "", ">", "").Replace(p.String())} {
			n, err := ParseName(s)
			if err != nil {
				continue
			}
			want := p.String() == n.String()
			if _, isAddr := n.Addr(); !want && !isAddr {
				want = oracle(p.String(), n.String())
			}
			require.Equal(t, want, p.Match(n), "%q against %q", p, n)
			require.Equal(t, want, len(x.Match(nil, n, 443)) == 1, "the index: %q against %q", p, n)
			x.Near(n, 443)
			p.Values(n)
		}
	})
}
