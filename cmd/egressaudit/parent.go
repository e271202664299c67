package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/egressaudit/egressaudit/proxy"
)

// upstream is the parent in force: which proxy leads to a URL, and what to write
// into the ledger about it.
type upstream struct {
	choose func(*url.URL) (*url.URL, error) // nil: none
	shown  string                           // without password
	ways   string                           // shown, and what does not go through it
	urls   []*url.URL
	byName bool // names lead around it
}

// parentOf reads --parent.
func parentOf(flag string, env environ) (upstream, error) {
	switch strings.ToLower(flag) {
	case "none":
		return upstream{}, nil
	case "env":
		return parentFromEnv(env)
	}
	if !strings.ContainsAny(flag, ":/") { // a word, mostly env or none with a slip
		return upstream{}, fmt.Errorf("--parent %q: write env, none, or the proxy with its port, such as http://proxy.example.org:3128", flag)
	}
	u, err := parseParent("--parent", flag)
	if err != nil {
		return upstream{}, err
	}
	c := httpproxy.Config{HTTPProxy: u.String(), HTTPSProxy: u.String()}
	return upstream{choose: c.ProxyFunc(), shown: u.Redacted(), ways: u.Redacted(), urls: []*url.URL{u}}, nil
}

// parentFromEnv makes the caller's own proxy the parent, with the caller's
// NO_PROXY for the destinations that go around it.
func parentFromEnv(env environ) (upstream, error) {
	var up upstream
	take := func(name string) (string, error) {
		variable, v := either(env, name)
		if v == "" {
			return "", nil
		}
		u, err := parseParent(variable, v)
		if err != nil {
			return "", hinted(err, "or leave it out: --parent none")
		}
		up.urls = append(up.urls, u)
		return u.String(), nil
	}
	var c httpproxy.Config
	var err error
	if c.HTTPSProxy, err = take("HTTPS_PROXY"); err != nil {
		return upstream{}, err
	}
	if c.HTTPProxy, err = take("HTTP_PROXY"); err != nil {
		return upstream{}, err
	}
	if len(up.urls) == 0 {
		if name, v := either(env, "ALL_PROXY"); v != "" {
			say(env, "%s is not taken for the parent; if the install needs it, write --parent \"$%s\"", name, name)
		}
		return upstream{}, nil
	}
	_, c.NoProxy = either(env, "NO_PROXY")
	up.choose, up.shown, up.ways = c.ProxyFunc(), up.urls[0].Redacted(), ways(c, up.urls)
	up.byName = slices.ContainsFunc(split(c.NoProxy), isName)
	return up, nil
}

// isName says whether an entry of NO_PROXY can hold for a name alone: neither an
// address, nor a range of them, nor all.
func isName(entry string) bool {
	if host, _, err := net.SplitHostPort(entry); err == nil {
		entry = host
	}
	_, notAddr := netip.ParseAddr(entry)
	_, notRange := netip.ParsePrefix(entry)
	return notAddr != nil && notRange != nil && entry != "*" && entry != "localhost"
}

// ways says for people what goes through which of the parents.
func ways(c httpproxy.Config, urls []*url.URL) string {
	first, last := urls[0].Redacted(), urls[len(urls)-1].Redacted()
	switch {
	case c.HTTPSProxy == "":
		return first + " for plain HTTP alone (TLS goes around it, for HTTPS_PROXY is not set)"
	case c.HTTPProxy == "":
		return first + " for all but plain HTTP (which goes around it, for HTTP_PROXY is not set)"
	case c.HTTPSProxy != c.HTTPProxy:
		return first + " (plain HTTP through " + last + ")"
	}
	return first
}

// either looks a variable up as curl does: the lower-case form first.
func either(env environ, upper string) (name, value string) {
	lower := strings.ToLower(upper)
	if v := env.lookup(lower); v != "" {
		return lower, v
	}
	return upper, env.lookup(upper)
}

const proxyForm = "write http://[USER:PASSWORD@]HOST:PORT, with special characters of the password as %%XX"

// parseParent reads a proxy as curl does: the scheme may be missing. Its errors
// do not repeat a password.
func parseParent(where, s string) (*url.URL, error) {
	full := s
	if !strings.Contains(s, "://") {
		full = "http://" + s
	}
	u, err := url.Parse(full)
	if err != nil {
		return nil, fmt.Errorf("%s: not the URL of a proxy ("+proxyForm+")", where)
	}
	// First, for a password with a slash in it would stand in the path.
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%s: something follows host and port ("+proxyForm+")", where)
	}
	if err := proxy.CheckParent(u); err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || n == 0) {
		return nil, fmt.Errorf("%s: %q: the port is not a number from 1 to 65535", where, u.Redacted())
	}
	return u, nil
}

// checkLoop refuses a parent that is the listener itself.
func (up upstream) checkLoop(listener string) error {
	own, err := netip.ParseAddrPort(listener)
	for _, u := range up.urls {
		a, bad := netip.ParseAddrPort(u.Host)
		if err == nil && bad == nil && a.Port() == own.Port() && (a == own || own.Addr().IsUnspecified() && a.Addr().IsLoopback()) {
			return errors.New("the parent is our own listener: every connection would come back (name the proxy beyond it)")
		}
	}
	return nil
}
