package policy

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	label63 = strings.Repeat("a", 63)
	name253 = strings.Repeat(label63+".", 3) + strings.Repeat("b", 61)
)

func TestParseNameBringsNamesIntoNormalForm(t *testing.T) {
	for _, row := range []struct{ why, in, want string }{
		{"a normal name stays", "mcr.microsoft.com", "mcr.microsoft.com"},
		{"upper case", "MCR.Microsoft.COM", "mcr.microsoft.com"},
		{"one final dot", "quay.io.", "quay.io"},
		{"a single label", "localhost", "localhost"},
		{"underscores exist", "_acme-challenge.example.org", "_acme-challenge.example.org"},
		{"hyphens in the third and fourth place exist", "r4---sn-4g5e6nz7.googlevideo.com", "r4---sn-4g5e6nz7.googlevideo.com"},
		{"labels that begin with a hyphen exist", "-container.supertms.com", "-container.supertms.com"},
		{"punycode stays", "xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"punycode in upper case", "XN--BCHER-KVA.example", "xn--bcher-kva.example"},
		{"Unicode becomes punycode", "bücher.example", "xn--bcher-kva.example"},
		{"decomposed and in upper case too", "BU\u0308CHER.example.", "xn--bcher-kva.example"},
		{"ideographic dots", "example\u3002com", "example.com"},
		{"an ideographic final dot", "bücher\u3002", "xn--bcher-kva"},
		{"fullwidth letters", "\uff45xample.com", "example.com"},
		{"a soft hyphen is not seen", "exam\u00adple.com", "example.com"},
		{"sharp s is a letter (IDNA 2008)", "straße.example", "xn--strae-oqa.example"},
		{"digits are a label, but not the last one", "1.2.3.example", "1.2.3.example"},
		{"hexadecimal digits are one too", "0xab.example", "0xab.example"},
		{"the last label only begins like a number", "a.0xyz", "a.0xyz"},
		{"a label of 63 octets", label63 + ".org", label63 + ".org"},
		{"a name of 253 octets", name253, name253},
		{"and its final dot", name253 + ".", name253},
		{"IPv4", "192.0.2.1", "192.0.2.1"},
		{"IPv4 with a final dot", "192.0.2.1.", "192.0.2.1"},
		{"IPv4 in fullwidth digits", "１９２.0.2.1", "192.0.2.1"},
		{"IPv6 as RFC 5952 writes it", "2001:DB8:0:0::0001", "2001:db8::1"},
		{"IPv6 in brackets", "[2001:db8::1]", "2001:db8::1"},
		{"an IPv4 address mapped into IPv6 is that address", "::ffff:192.0.2.1", "192.0.2.1"},
		{"NAT64 is not: it is dialed as IPv6", "64:ff9b::c000:201", "64:ff9b::c000:201"},
	} {
		t.Run(row.why, func(t *testing.T) {
			n, err := ParseName(row.in)
			require.NoError(t, err)
			require.Equal(t, row.want, n.String())
			again, err := ParseName(n.String())
			require.NoError(t, err)
			require.Equal(t, n, again, "not the normal form")
		})
	}
}

func TestParseNameRefuses(t *testing.T) {
	const (
		missing = "a host name is missing"
		empty   = "empty label between dots"
		ipv4    = "an IPv4 address is four decimal numbers from 0 to 255, without leading zeros"
		zone    = "an address with a zone identifier has no meaning for a proxy"
		neither = "neither a host name nor an IP address (give the port apart)"
		bracket = "brackets belong around an IPv6 address"
		puny    = "not a name that punycode can carry"
	)
	char := func(c string) string { return "the character " + c + " cannot stand in a host name" }
	for _, row := range []struct{ in, why string }{
		{"", missing},
		{".", missing},
		{"\u00ad", missing},
		{"..", empty},
		{".quay.io", empty},
		{"quay..io", empty},
		{"quay.io..", empty},
		{"bücher\u3002.", empty},
		{"a.\u00ad.b", empty},
		{label63 + "a.org", "label longer than 63 octets"},
		{strings.Repeat("ü", 63) + ".org", "label longer than 63 octets"},
		{name253 + "c", "longer than 253 octets"},
		{strings.Repeat("ü.", 10_000), "longer than 253 octets"},

		{"user@quay.io", char("'@'")},
		{"user:secret@quay.io", neither},
		{"quay.io:443", neither},
		{"https://quay.io", neither},
		{"quay.io/path", char("'/'")},
		{"quay.io?x", char("'?'")},
		{"quay.io#x", char("'#'")},
		{`quay.io\x`, char(`'\\'`)},
		{"*.quay.io", char("'*'")},
		{"<region>.quay.io", char("'<'")},
		{"quay io", char("' '")},
		{" quay.io", char("' '")},
		{"quay.io\n", char(`'\n'`)},
		{"quay.io\x00.evil.example", char(`'\x00'`)},
		{"quay%2eio", char("'%'")},
		{"quay,io", char("','")},
		{"a\u2028b.example", puny},         // line separator
		{"\u202egro.elpmaxe", puny},        // right-to-left override
		{"a\u05d0.example", puny},          // a label of both directions
		{"a\xffb.example", puny},           // no UTF-8
		{"\u2100.example", char("'/'")},    // account of: maps to a/c
		{"bü cher.example", char("' '")},   // mapped, and still a blank
		{"xn--\u00fc.example", puny},       // punycode of punycode
		{"quay.io\uff0fpath", char("'/'")}, // fullwidth solidus
		{"quay.io\uff1a443", char("':'")},  // fullwidth colon
		{"user\uff20quay.io", char("'@'")}, // fullwidth @
		{"\uff3b::1\uff3d", neither},       // fullwidth brackets

		{"127.1", ipv4},
		{"１２７.1", ipv4},
		{"127\u30021", ipv4},
		{"2130706433", ipv4},
		{"0x7f.1", ipv4},
		{"0x7f000001", ipv4},
		{"0X7F.0.0.0X1", ipv4},
		{"127.0.0.0x", ipv4},
		{"0177.0.0.1", ipv4},
		{"127.0.0.01", ipv4},
		{"256.0.0.1", ipv4},
		{"1.2.3.4.5", ipv4},
		{"quay.io.1", ipv4},
		{"1", ipv4},

		{"fe80::1%eth0", zone},
		{"::1%25.blob.core.windows.net", zone},
		{"[::1%25.blob.core.windows.net]", zone},
		{"::ffff:127.0.0.1%x", zone},
		{"[::1", bracket},
		{"[quay.io]", bracket},
		{"[192.0.2.1]", bracket},
		{"[]", bracket},
		{"[[::1]]", neither},
		{"[::1]:443", bracket},
		{"::1]", neither},
		{"1:2:3", neither},
		{"::127.1", neither},
		{"::1.", neither},
	} {
		t.Run(row.in, func(t *testing.T) {
			n, err := ParseName(row.in)
			require.ErrorIs(t, err, ErrName, "it is %q", n)
			require.ErrorContains(t, err, row.why)
			require.Zero(t, n)
			require.Less(t, len(err.Error()), 2000)
		})
	}
}

func TestParseTarget(t *testing.T) {
	for _, row := range []struct {
		in   string
		name string
		port uint16
	}{
		{"mcr.microsoft.com:443", "mcr.microsoft.com", 443},
		{"Quay.IO.:8443", "quay.io", 8443},
		{"192.0.2.1:1", "192.0.2.1", 1},
		{"[2001:db8::1]:65535", "2001:db8::1", 65535},
		{"[::ffff:192.0.2.1]:443", "192.0.2.1", 443},
		{"quay.io:0443", "quay.io", 443},
	} {
		n, port, err := ParseTarget(row.in)
		require.NoError(t, err, row.in)
		require.Equal(t, row.name, n.String())
		require.Equal(t, row.port, port)
	}
	const (
		noPort  = "a target is HOST:PORT, and the port is missing"
		noURL   = "a target is HOST:PORT, without scheme and path"
		number  = "the port is not a number from 1 to 65535"
		bracket = "an IPv6 address in a target stands in brackets"
	)
	for _, row := range []struct{ in, why string }{
		{"", noPort},
		{"quay.io", noPort},
		{"[::1]", noPort},
		{"https://quay.io", noURL},
		{"https://quay.io:443/", noURL},
		{"quay.io:443/", noURL},
		{"quay.io:", number},
		{"quay.io:https", number},
		{"quay.io:0", number},
		{"quay.io:65536", number},
		{"quay.io:+443", number},
		{"quay.io:-1", number},
		{"quay.io: 443", number},
		{"quay.io:4_4_3", number},
		{"quay.io:４４３", number},
		{"quay.io:443\r\nX: y", bracket},
		{"::1:443", bracket},
		{"a:b:443", bracket},
		{"user@quay.io:443", "the character '@' cannot stand in a host name"},
		{"user:secret@quay.io:443", bracket},
		{":443", "a host name is missing"},
		{"[]:443", "brackets belong around an IPv6 address"},
		{"[quay.io]:443", "brackets belong around an IPv6 address"},
		{"[::1:443", "brackets belong around an IPv6 address"},
		{"[::1%25eth0]:443", "zone identifier"},
		{"0x7f.1:443", "an IPv4 address is four decimal numbers"},
	} {
		n, port, err := ParseTarget(row.in)
		require.ErrorIs(t, err, ErrName, row.in)
		require.ErrorContains(t, err, row.why, row.in)
		require.Zero(t, n)
		require.Zero(t, port)
	}
}

func TestRegistrable(t *testing.T) {
	for _, row := range []struct{ in, want, why string }{
		{"docker.com", "docker.com", ""},
		{"production.cloudflare.docker.com", "docker.com", ""},
		{"x.blob.core.windows.net", "windows.net", "blob.core.windows.net is a private suffix"},
		{"blob.core.windows.net", "windows.net", "so is the suffix itself"},
		{"x.azurewebsites.net", "azurewebsites.net", "a private suffix right below net"},
		{"bucket.s3.amazonaws.com", "amazonaws.com", ""},
		{"me.github.io", "github.io", ""},
		{"a.b.example.co.uk", "example.co.uk", "two labels of public suffix"},
		{"co.uk", "", "a public suffix"},
		{"uk", "", "a public suffix"},
		{"b.ck", "", "*.ck is a public suffix"},
		{"www.ck", "www.ck", "but for this one"},
		{"x.corp.internal", "corp.internal", "a top label that nobody registered"},
		{"localhost", "", "a single label"},
		{"192.0.2.1", "", "an address"},
		{"2001:db8::1", "", "an address"},
	} {
		require.Equal(t, row.want, MustName(row.in).Registrable(), "%s: %s", row.in, row.why)
	}
	require.Empty(t, Name{}.Registrable())
}

func TestWithin(t *testing.T) {
	for _, row := range []struct {
		name, domain string
		want         bool
	}{
		{"quay.io", "quay.io", true},
		{"cdn.quay.io", "quay.io", true},
		{"evilquay.io", "quay.io", false},
		{"quay.io", "cdn.quay.io", false},
		{"192.0.2.1", "2.1", false},
	} {
		require.Equal(t, row.want, MustName(row.name).Within(row.domain), row)
	}
}

func TestAddrName(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "fe80::1%eth0": "fe80::1", "::ffff:192.0.2.1": "192.0.2.1",
	} {
		n := AddrName(netip.MustParseAddr(in))
		require.Equal(t, want, n.String())
		require.Equal(t, MustName(want), n, "names compare with ==")
		a, ok := n.Addr()
		require.True(t, ok)
		require.Equal(t, want, a.String())
	}
	require.True(t, AddrName(netip.Addr{}).IsZero())
	_, ok := MustName("quay.io").Addr()
	require.False(t, ok)
}

func TestNameStandsInJSONAsAString(t *testing.T) {
	var got struct{ A, B Name }
	require.NoError(t, json.Unmarshal([]byte(`{"A": "Quay.IO.", "B": ""}`), &got))
	require.Equal(t, MustName("quay.io"), got.A)
	require.True(t, got.B.IsZero())
	b, err := json.Marshal(got)
	require.NoError(t, err)
	require.JSONEq(t, `{"A": "quay.io", "B": ""}`, string(b))
	require.ErrorIs(t, json.Unmarshal([]byte(`{"A": "127.1"}`), &got), ErrName)
	require.Panics(t, func() { MustName("127.1") })
}

// TestParseNameTakesRealNames: what resolvers are asked every day is accepted,
// and is in normal form but for its case.
func TestParseNameTakesRealNames(t *testing.T) {
	refused := 0
	for _, s := range realNames(t) {
		n, err := ParseName(s)
		if err != nil {
			refused++
			t.Log(err)
			continue
		}
		require.Equal(t, strings.ToLower(s), n.String())
	}
	require.Zero(t, refused)
}

// realNames are host names of public top lists.
func realNames(tb testing.TB) []string {
	tb.Helper()
	dir := os.Getenv("EGRESSAUDIT_CORPORA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "corpora")
	}
	b, err := os.ReadFile(filepath.Join(dir, "catalogs", "bench-names.txt"))
	if err != nil {
		tb.Skipf("no foreign host names to read (set EGRESSAUDIT_CORPORA): %v", err)
	}
	return strings.Fields(string(b))
}

func FuzzName(f *testing.F) {
	for _, s := range []string{
		"mcr.microsoft.com", "Quay.IO.", "bücher.example", "[::1]", "::ffff:1.2.3.4", "fe80::1%eth0", "127.1", "0x7f.1",
		"１２７.1", "a\u3002b", "xn--bcher-kva.example", "a@b", "", ".", "a..b", name253, "\u00ad", "1.2.3.4.", "a\x00b", "اب.example",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		_, _, _ = ParseTarget(s)
		if a, no := netip.ParseAddr(s); no == nil && a.Zone() == "" {
			require.NoError(t, err, "an address for netip")
			require.Equal(t, AddrName(a), n)
		}
		if err != nil {
			require.ErrorIs(t, err, ErrName)
			require.Zero(t, n)
			return
		}
		requireNormal(t, n)
		m, port, err := ParseTarget(JoinPort(n.String(), 443))
		require.NoError(t, err)
		require.Equal(t, n, m)
		require.Equal(t, uint16(443), port)
	})
}

// requireNormal holds n against what the type promises.
func requireNormal(t *testing.T, n Name) {
	t.Helper()
	again, err := ParseName(n.String())
	require.NoError(t, err)
	require.Equal(t, n, again, "the normal form is not its own")
	a, isAddr := n.Addr()
	b, err := netip.ParseAddr(n.String())
	require.Equal(t, err == nil, isAddr, "netip takes %q for something else", n)
	if isAddr {
		require.Equal(t, b, a)
		require.Equal(t, AddrName(a), n)
		return
	}
	require.LessOrEqual(t, len(n.String()), 253)
	for _, l := range strings.Split(n.String(), ".") {
		require.NotEmpty(t, l)
		require.LessOrEqual(t, len(l), 63)
		require.Empty(t, strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_"))
	}
}

func TestPrivateLink(t *testing.T) {
	require.True(t, PrivateLink([]string{"x.blob.core.windows.net", "x.privatelink.blob.core.windows.net"}))
	require.True(t, PrivateLink([]string{"privatelink.example.com"}))
	require.False(t, PrivateLink([]string{"x.notprivatelink.example.com", "privatelinks.example.com"}))
	require.False(t, PrivateLink(nil))
}
