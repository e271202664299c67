package dnsaudit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
)

const dnsPort = 53

// maxConf is how many servers of resolv.conf count: MAXNS of resolv.conf(5).
const maxConf = 3

// ErrNoServers is what New's error can be tested for where no name server is
// known: none configured and none in resolv.conf, or no such file.
var ErrNoServers = errors.New("no name server is known (name one with --resolver ADDR[:PORT])")

// parseServer reads "ADDR[:PORT]".
func parseServer(s string, port uint16) (netip.AddrPort, error) {
	host, bracketed := strings.CutPrefix(s, "[")
	host, closed := strings.CutSuffix(host, "]")
	if bracketed == closed {
		if a, err := netip.ParseAddr(host); err == nil && (!bracketed || a.Is6()) {
			return usable(netip.AddrPortFrom(a, port))
		}
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return usable(ap)
	}
	return netip.AddrPort{}, errors.New(serverHint(s))
}

// usable refuses what cannot be a server's address, and takes an IPv4 address
// out of its IPv6 mapping.
func usable(s netip.AddrPort) (netip.AddrPort, error) {
	a := s.Addr().Unmap()
	switch {
	case s.Port() == 0:
		return s, errors.New("port 0 is nobody's")
	case a.IsUnspecified() || a.IsMulticast():
		return s, errors.New("not the address of one server")
	}
	return netip.AddrPortFrom(a, s.Port()), nil
}

func serverHint(s string) string {
	switch {
	case s == "":
		return "an address is missing"
	case strings.Contains(s, "]") || strings.Count(s, ":") > 1:
		return "not an IPv6 address (with a port it stands in brackets: [2001:db8::1]:53)"
	case strings.Trim(s, "0123456789.:") == "":
		return "not an IPv4 address with an optional port from 1 to 65535 (192.0.2.1:53)"
	}
	return "a name server is given by its address, not by a name (192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53)"
}

// SystemServers are the first name servers of a resolv.conf(5), "" being the
// system's. A file that is missing or names none is ErrNoServers.
func SystemServers(file string) ([]Upstream, error) {
	if file == "" {
		if runtime.GOOS == "windows" {
			return nil, fmt.Errorf("%w: Windows has no resolv.conf", ErrNoServers)
		}
		file = "/etc/resolv.conf"
	}
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%w: there is no %q", ErrNoServers, file)
	case err != nil:
		return nil, fmt.Errorf("read name servers: %w", err)
	}
	servers := confServers(text)
	if len(servers) == 0 {
		return nil, fmt.Errorf("%w: %q names none", ErrNoServers, file)
	}
	return servers, nil
}

// confServers skips lines it cannot read, as the C library does.
func confServers(text []byte) []Upstream {
	var servers []Upstream
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() && len(servers) < maxConf {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		a, err := netip.ParseAddr(words[1])
		if err != nil {
			continue
		}
		s, err := Upstream{Addr: netip.AddrPortFrom(a, dnsPort)}.check()
		if err == nil && !slices.Contains(servers, s) {
			servers = append(servers, s)
		}
	}
	return servers
}
