package dnsaudit

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func ports(list ...string) []netip.AddrPort {
	var ps []netip.AddrPort
	for _, s := range list {
		ps = append(ps, netip.MustParseAddrPort(s))
	}
	return ps
}

// overUDP are servers asked over UDP, as those of resolv.conf are.
func overUDP(list ...netip.AddrPort) []Upstream {
	us := []Upstream{}
	for _, at := range list {
		us = append(us, Upstream{Addr: at, Transport: "udp"})
	}
	return us
}

func TestParsePlainServers(t *testing.T) {
	tests := []struct {
		list string
		want []netip.AddrPort
		err  string
	}{
		{"192.0.2.1", ports("192.0.2.1:53"), ""},
		{"192.0.2.1:5353, 2001:db8::1 ,[2001:db8::2],[2001:db8::3]:54", ports("192.0.2.1:5353", "[2001:db8::1]:53", "[2001:db8::2]:53", "[2001:db8::3]:54"), ""},
		{"fe80::1%eth0,[fe80::1%eth0]:54", ports("[fe80::1%eth0]:53", "[fe80::1%eth0]:54"), ""},
		{"192.0.2.1,192.0.2.1:53,::ffff:192.0.2.1", ports("192.0.2.1:53"), ""},
		{"::1:53", ports("[::1:53]:53"), ""}, // an address too, and the port is never guessed
		{"", nil, `resolver "": an address is missing`},
		{"192.0.2.1,", nil, `resolver "": an address is missing`},
		{"dns.example", nil, `resolver "dns.example": a name server is given by its address, not by a name (192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53)`},
		{"dns.example:53", nil, "not by a name"},
		{"ldap://192.0.2.1", nil, "udp://, tcp:// or tls://"},
		{"192.0.2.1:0", nil, "port 0"},
		{"192.0.2.1:65536", nil, "from 1 to 65535"},
		{"192.0.2.256", nil, "not an IPv4 address"},
		{"127.1", nil, "not an IPv4 address"},
		{"2001:db8:::1", nil, "not an IPv6 address"},
		{"[192.0.2.1]", nil, "not an IPv6 address"},
		{"[2001:db8::1", nil, "not an IPv6 address"},
		{"0.0.0.0", nil, "not the address of one server"},
		{"[ff02::fb]:5353", nil, "not the address of one server"},
	}
	for _, tt := range tests {
		got, err := ParseUpstreams(tt.list)
		if tt.err != "" {
			require.ErrorContains(t, err, tt.err, tt.list)
			continue
		}
		require.NoError(t, err, tt.list)
		require.Equal(t, overUDP(tt.want...), got, tt.list)
	}
}

func FuzzParseUpstreams(f *testing.F) {
	f.Add("192.0.2.1:5353,[2001:db8::1%a]:53,::1")
	f.Add("[[::1]]:0,")
	f.Add("tls://192.0.2.1:853#dns.example,tcp://[::1]")
	f.Fuzz(func(t *testing.T, list string) {
		servers, err := ParseUpstreams(list)
		require.Equal(t, err == nil, len(servers) > 0)
		for _, s := range servers {
			require.True(t, s.Addr.IsValid() && s.Addr.Port() != 0 && !s.Addr.Addr().Is4In6())
		}
	})
}

func TestResolvConf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	conf := func(text string) ([]netip.AddrPort, error) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		r, err := New(Config{ResolvConf: file})
		if err != nil {
			return nil, err
		}
		return r.Servers(), nil
	}
	got, err := conf("# nameserver 192.0.2.66\n; x\nsearch example.org\nnameserver  192.0.2.1 \n\tnameserver\tfe80::1%lo\n" +
		"nameserver dns.example\nnameserver 192.0.2.1\nnameserver\nnameserver 192.0.2.3\nnameserver 192.0.2.4\noptions ndots:5\n")
	require.NoError(t, err)
	require.Equal(t, ports("192.0.2.1:53", "[fe80::1%lo]:53", "192.0.2.3:53"), got)

	_, err = conf("search example.org\n")
	require.ErrorIs(t, err, ErrNoServers)
	require.ErrorContains(t, err, "names none")
	_, err = New(Config{ResolvConf: file + ".not"})
	require.ErrorIs(t, err, ErrNoServers)
	_, err = New(Config{ResolvConf: t.TempDir()})
	require.ErrorContains(t, err, "read name servers: ")
}

func TestNew(t *testing.T) {
	given := overUDP(ports("[::ffff:192.0.2.1]:53", "192.0.2.1:53")...)
	r, err := New(Config{Servers: given})
	require.NoError(t, err)
	require.Equal(t, ports("192.0.2.1:53"), r.Servers())
	require.Equal(t, overUDP(ports("[::ffff:192.0.2.1]:53", "192.0.2.1:53")...), given, "the caller's slice is left alone")
	r.Servers()[0] = netip.AddrPort{}
	require.Equal(t, ports("192.0.2.1:53"), r.Servers())
	require.Equal(t, 5*time.Second, r.timeout)

	_, err = New(Config{Servers: []Upstream{}})
	require.ErrorIs(t, err, ErrNoServers)
	_, err = New(Config{Servers: []Upstream{{}}})
	require.ErrorContains(t, err, "not an address and port of a server")
	_, err = New(Config{Servers: given, Timeout: -1})
	require.ErrorContains(t, err, "less than nothing")
}
