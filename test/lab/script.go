package lab

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Script says what happens to whom.
type Script struct {
	// Rules maps a target to what happens there. A target is "host:port",
	// "host", "*.suffix:port", "*.suffix", "*:port" or "*"; without a port it
	// means every port. The most specific one wins: an exact host before a
	// wildcard, a longer suffix before a shorter, with port before without. A
	// target that no rule meets does not exist (NXDOMAIN).
	Rules map[string]Behaviour
	// Credentials, unless nil, are demanded by the parent as HTTP Basic.
	Credentials *url.Userinfo
}

// target is a key of Script.Rules; port 0 is every port.
type target struct {
	host string // "*", "*.suffix" or a name
	port uint16
}

func parseTarget(s string) (target, error) {
	host, port := s, ""
	if strings.Contains(s, ":") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return target{}, fmt.Errorf("target %q: %w", s, err)
		}
	}
	t := target{host: normal(host)}
	if t.host == "" || strings.Contains(strings.TrimPrefix(t.host, "*"), "*") {
		return target{}, fmt.Errorf("target %q: want a host, \"*.suffix\" or \"*\", and perhaps a port", s)
	}
	if port == "" {
		return t, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return target{}, fmt.Errorf("target %q: port %q is no number from 1 to 65535", s, port)
	}
	t.port = uint16(n)
	return t, nil
}

// normal is a name as the rules have it: lower case, no final dot.
func normal(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// forms are the hosts of rules that name meets, the most specific first.
func forms(name string) []string {
	out := []string{name}
	for rest := name; ; {
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			return append(out, "*")
		}
		out = append(out, "*."+parent)
		rest = parent
	}
}

// rules is a compiled Script.Rules.
type rules map[target]Behaviour

func compile(s Script) (rules, error) {
	rs := rules{}
	for key, b := range s.Rules {
		t, err := parseTarget(key)
		if err != nil {
			return nil, err
		}
		if b == nil {
			return nil, fmt.Errorf("target %q: no behaviour", key)
		}
		if _, dup := rs[t]; dup {
			return nil, fmt.Errorf("target %q: stands there twice", key)
		}
		rs[t] = b
	}
	return rs, nil
}

// find is the rule for a host and port.
func (rs rules) find(name string, port uint16) (target, Behaviour, bool) {
	for _, host := range forms(name) {
		for _, t := range []target{{host, port}, {host, 0}} {
			if b, ok := rs[t]; ok {
				return t, b, true
			}
		}
	}
	return target{}, nil, false
}

// answer is what DNS says of a name: the Answer that one of its rules is, the
// name's own address where they are other behaviours, NXDOMAIN where there is
// none.
func (rs rules) answer(name string) Answer {
	for _, host := range forms(name) {
		found := false
		for t, b := range rs {
			if t.host != host {
				continue
			}
			if a, ok := b.(Answer); ok {
				return a
			}
			found = true
		}
		if found {
			return Answer{}
		}
	}
	return NXDOMAIN
}

// ports are those that rules mention, with those of HTTPS and HTTP.
func (rs rules) ports() []uint16 {
	out := []uint16{443, 80}
	seen := map[uint16]bool{0: true, 443: true, 80: true}
	for t := range rs {
		if !seen[t.port] {
			seen[t.port] = true
			out = append(out, t.port)
		}
	}
	return out
}
