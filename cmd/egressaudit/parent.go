package main

import (
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/egressaudit/egressaudit/proxy"
)

// upstream is the parent in force: which proxy leads to a URL, and what to write
// into the ledger about it.
type upstream struct {
	choose func(*url.URL) (*url.URL, error) // nil: none
	shown  string                           // without password
	urls   []*url.URL
}

// parentOf reads --parent.
func parentOf(flag string, env environ) (upstream, error) {
	switch flag {
	case "", "none":
		return upstream{}, nil
	case "env":
		return parentFromEnv(env)
	}
	u, err := parseParent("--parent", flag)
	if err != nil {
		return upstream{}, err
	}
	c := httpproxy.Config{HTTPProxy: u.String(), HTTPSProxy: u.String()}
	return upstream{c.ProxyFunc(), u.Redacted(), []*url.URL{u}}, nil
}

// parentFromEnv makes the caller's own proxy the parent, with the caller's
// NO_PROXY for the destinations that go around it.
func parentFromEnv(env environ) (upstream, error) {
	either := func(upper string) (string, string) {
		lower := strings.ToLower(upper)
		if v := env.lookup(lower); v != "" {
			return lower, v
		}
		return upper, env.lookup(upper)
	}
	var up upstream
	var c httpproxy.Config
	for name, into := range map[string]*string{"HTTPS_PROXY": &c.HTTPSProxy, "HTTP_PROXY": &c.HTTPProxy} {
		variable, v := either(name)
		if v == "" {
			continue
		}
		u, err := parseParent(variable, v)
		if err != nil {
			return upstream{}, err
		}
		*into = u.String()
		up.urls = append(up.urls, u)
		if name == "HTTPS_PROXY" || up.shown == "" {
			up.shown = u.Redacted()
		}
	}
	if len(up.urls) == 0 {
		return upstream{}, nil
	}
	_, c.NoProxy = either("NO_PROXY")
	up.choose = c.ProxyFunc()
	return up, nil
}

// parseParent reads a proxy as curl does: the scheme may be missing.
func parseParent(where, s string) (*url.URL, error) {
	full := s
	if !strings.Contains(s, "://") {
		full = "http://" + s
	}
	u, err := url.Parse(full)
	if err != nil {
		// the error would repeat the text, and with it a password
		return nil, fmt.Errorf("%s: not the URL of a proxy (write http://[USER:PASSWORD@]HOST:PORT)", where)
	}
	if err := proxy.CheckParent(u); err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	return u, nil
}
