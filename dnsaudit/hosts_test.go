package dnsaudit

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

func TestParseHosts(t *testing.T) {
	byName := parseHosts("# 192.0.2.66 a\n" +
		"192.0.2.1\tA.Example  b.example. # c.example\r\n" +
		" 2001:db8::1 a.example\n::ffff:192.0.2.3 a.example\n192.0.2.1 a.example\n" +
		"fe80::1%eth0 zone.example\n192.0.2.4\nnonsense a.example\n127.1 a.example\n" +
		"192.0.2.5 b\u00fccher.example bad..name ok.example\n0.0.0.0 sink.example")
	require.Equal(t, addrs("192.0.2.1", "2001:db8::1", "192.0.2.3"), byName[policy.MustName("a.example")])
	require.Equal(t, addrs("192.0.2.1"), byName[policy.MustName("b.example")])
	require.Equal(t, addrs("192.0.2.5"), byName[policy.MustName("xn--bcher-kva.example")])
	require.Equal(t, addrs("192.0.2.5"), byName[policy.MustName("ok.example")])
	require.Equal(t, addrs("0.0.0.0"), byName[policy.MustName("sink.example")], "a block list's entry is evidence")
	require.Len(t, byName, 5)
}

func TestHostsBeatDNS(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(file, []byte("192.0.2.1 A.example\n2001:db8::1 a.example\n"), 0o600))
	at := server(t, mustNotBeAsked(t))
	r := resolver(t, ample, at)
	var err error
	r.hosts, err = openHosts(file)
	require.NoError(t, err)
	require.Equal(t, policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1", "2001:db8::1"), Upstream: "hosts"}, resolve(t, r))
	r.routes = fixedRoutes(true, true)
	require.Equal(t, addrs("2001:db8::1", "192.0.2.1"), resolve(t, r).Addrs)
}

func TestHostsEditsAreNoticed(t *testing.T) {
	dir := t.TempDir()
	file, name := filepath.Join(dir, "hosts"), policy.MustName("a.example")
	h, err := openHosts(file)
	require.NoError(t, err, "no hosts file is an empty one")
	clock := time.Unix(1e9, 0)
	h.now, h.checked = func() time.Time { return clock }, clock
	put := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	require.Nil(t, h.find(name))

	put("192.0.2.1 a.example\n")
	clock = clock.Add(hostsCheck - 1)
	require.Nil(t, h.find(name), "the file is looked at once a second")
	clock = clock.Add(1)
	require.Equal(t, addrs("192.0.2.1"), h.find(name), "it appeared")

	put("192.0.2.1 a.example\n192.0.2.2 a.example\n")
	clock = clock.Add(hostsCheck)
	require.Equal(t, addrs("192.0.2.1", "192.0.2.2"), h.find(name), "it grew")

	put("192.0.2.3 a.example\n192.0.2.4 a.example\n")
	require.NoError(t, os.Chtimes(file, time.Time{}, time.Unix(5e8, 0)))
	clock = clock.Add(hostsCheck)
	require.Equal(t, addrs("192.0.2.3", "192.0.2.4"), h.find(name), "same size, another time, even an older one")

	other := filepath.Join(dir, "other")
	require.NoError(t, os.WriteFile(other, []byte("192.0.2.5 a.example\n192.0.2.6 a.example\n"), 0o600))
	require.NoError(t, os.Chtimes(other, time.Time{}, time.Unix(5e8, 0)))
	require.NoError(t, os.Rename(other, file))
	clock = clock.Add(hostsCheck)
	require.Equal(t, addrs("192.0.2.5", "192.0.2.6"), h.find(name), "same size and time, another file")

	require.NoError(t, os.Remove(file))
	clock = clock.Add(hostsCheck)
	require.Nil(t, h.find(name), "it went away")
}

func TestUnreadableHosts(t *testing.T) {
	dir := t.TempDir()
	_, err := openHosts(dir)
	require.ErrorContains(t, err, "read hosts file: ")

	file, name := filepath.Join(dir, "hosts"), policy.MustName("a.example")
	require.NoError(t, os.WriteFile(file, []byte("192.0.2.1 a.example\n"), 0o600))
	h, err := openHosts(file)
	require.NoError(t, err)
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.Mkdir(file, 0o700))
	h.checked = time.Time{}
	require.Equal(t, addrs("192.0.2.1"), h.find(name), "the last content stays")
}
