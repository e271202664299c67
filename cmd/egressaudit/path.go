package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/egressaudit/egressaudit/dnsaudit"
	"github.com/egressaudit/egressaudit/policy/report"
	"github.com/egressaudit/egressaudit/proxy"
)

// path are the flags of the egress path: whom to ask, where to go through, how
// long to wait, how much to hold.
type path struct {
	parent     string
	resolver   string
	mode       string
	allow      []string
	blockPages []string
	clients    []string // of serve
	noProxy    string
	bypass     time.Duration
	probe      string
	trust      []string
	vantage    string
	trial      string
	ledger     string
	drain      time.Duration
	dnsWait    time.Duration
	limits     proxy.Limits
}

// register adds the flags; parent and vantage are the defaults of a verb.
func (p *path) register(c *cobra.Command, parent, vantage string) {
	group(c, "The way out", func(f *pflag.FlagSet) {
		f.StringVar(&p.parent, "parent", parent, "the corporate proxy to go through: `URL`, env (HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the caller) or none")
		f.StringVar(&p.resolver, "resolver", "", "DNS servers to ask: `ADDR[:PORT][,...]`, also as tcp://ADDR or tls://ADDR#NAME (default the system's)")
		f.StringVar(&p.mode, "mode", "observe", "`MODE`: observe lets everything pass but the guarded addresses; enforce passes only what a catalog lists")
		f.StringArrayVar(&p.allow, "allow-address", nil, "`CIDR` that is neither guarded nor taken for a sinkhole; repeatable (default none)")
		f.StringArrayVar(&p.blockPages, "block-page", nil, "`CIDR` of your block page: a name that resolves into it is told as dns_sinkhole, and not dialled; repeatable (default none)")
		f.StringVar(&p.probe, "probe-certificates", string(proxy.ProbeSuspect), "a handshake of our own to see who signed a certificate: `WHEN` is never, suspect (the client refused it, or the endpoint must not be inspected) or always")
		f.StringArrayVar(&p.trust, "trust", nil, "PEM `FILE` of certificate authorities that count as publicly trusted, beside Mozilla's; repeatable (default none)")
	})
	group(c, "The recording", func(f *pflag.FlagSet) {
		f.StringVar(&p.ledger, "ledger", "", "`FILE` for the observations; one that is there goes on (default egressaudit-<UTC time>.jsonl)")
		f.StringVar(&p.vantage, "vantage", vantage, "where the observing is done: pod, node, admin or any `LABEL`")
		f.StringVar(&p.trial, "trial", "", "`NAME` of the trial (default the host's name)")
		f.StringVar(&p.noProxy, "no-proxy", "", "names and ranges that clients are told elsewhere to reach without us: a `LIST` as in NO_PROXY (default none)")
		f.DurationVar(&p.bypass, "bypass-window", report.DefaultBypassWindow, "`TIME` after a look-up by which a connection must come, or it went around us")
	})
	p.registerLimits(c)
	c.RegisterFlagCompletionFunc("parent", fixed("env", "none"))
	c.RegisterFlagCompletionFunc("mode", fixed("observe", "enforce"))
	c.RegisterFlagCompletionFunc("probe-certificates", fixed(probeModes...))
	c.RegisterFlagCompletionFunc("vantage", fixed("admin", "node", "pod"))
}

func (p *path) registerLimits(c *cobra.Command) {
	d := proxy.DefaultLimits(openFiles())
	group(c, "Limits", func(f *pflag.FlagSet) {
		f.DurationVar(&p.dnsWait, "dns-timeout", 5*time.Second, "`TIME` that a look-up may take")
		f.DurationVar(&p.limits.ConnectTimeout, "connect-timeout", d.ConnectTimeout, "`TIME` that a dial may take, over all addresses")
		f.DurationVar(&p.limits.ParentTimeout, "parent-timeout", d.ParentTimeout, "`TIME` that the parent may take to answer CONNECT")
		f.DurationVar(&p.limits.AnswerTimeout, "answer-timeout", d.AnswerTimeout, "`TIME` after which a destination counts as silent; nothing is cut")
		f.DurationVar(&p.limits.IdleTimeout, "idle-timeout", d.IdleTimeout, "`TIME` without a byte either way after which a tunnel is closed")
		f.DurationVar(&p.drain, "drain", 30*time.Second, "`TIME` that open tunnels may take to finish after the end, before they are cut")
		f.DurationVar(&p.limits.HeaderTimeout, "header-timeout", d.HeaderTimeout, "`TIME` that a request's header may take to arrive")
		f.DurationVar(&p.limits.FirstTimeout, "first-bytes-timeout", d.FirstTimeout, "`TIME` that a client's first message is waited for, where it is held (enforce)")
		f.IntVar(&p.limits.Header, "header-limit", d.Header, "`OCTETS` of a request's header")
		f.IntVar(&p.limits.FirstBytes, "first-bytes-limit", d.FirstBytes, "`OCTETS` read of a client's first message")
		f.IntVar(&p.limits.Tunnels, "max-tunnels", d.Tunnels, "`NUMBER` of connections at once; its default follows from the open files allowed")
		f.IntVar(&p.limits.ClientTunnels, "max-client-tunnels", d.ClientTunnels, "`NUMBER` of connections at once of one client address")
	})
}

var probeModes = []string{string(proxy.ProbeNever), string(proxy.ProbeSuspect), string(proxy.ProbeAlways)}

// check refuses values that no other check sees.
func (p *path) check() error {
	if p.mode != "observe" && p.mode != "enforce" {
		return fmt.Errorf("--mode %q: write observe or enforce", p.mode)
	}
	if !slices.Contains(probeModes, p.probe) {
		return fmt.Errorf("--probe-certificates %q: write never, suspect or always", p.probe)
	}
	if p.drain < 0 {
		return fmt.Errorf("--drain %s: write a time such as 30s, or 0s to cut at once", p.drain)
	}
	if err := checkNoProxy(split(p.noProxy)); err != nil {
		return err
	}
	return p.checkLimits()
}

// checkNoProxy refuses a word that would lead nobody around us.
func checkNoProxy(list []string) error {
	if word, bad := report.BadNoProxy(list); bad {
		return fmt.Errorf("--no-proxy %q: write names (.corp.example), addresses and ranges as in NO_PROXY, with commas between them", word)
	}
	return nil
}

func (p *path) checkLimits() error {
	for _, t := range []struct {
		flag string
		time time.Duration
	}{
		{"dns-timeout", p.dnsWait}, {"bypass-window", p.bypass}, {"connect-timeout", p.limits.ConnectTimeout}, {"parent-timeout", p.limits.ParentTimeout},
		{"answer-timeout", p.limits.AnswerTimeout}, {"idle-timeout", p.limits.IdleTimeout},
		{"header-timeout", p.limits.HeaderTimeout}, {"first-bytes-timeout", p.limits.FirstTimeout},
	} {
		if t.time <= 0 {
			return fmt.Errorf("--%s %s: write a time above zero, such as 5s", t.flag, t.time)
		}
	}
	for _, n := range []struct {
		flag                string
		number, least, most int
	}{
		{"header-limit", p.limits.Header, leastOctets, mostOctets}, {"first-bytes-limit", p.limits.FirstBytes, leastOctets, mostOctets},
		{"max-tunnels", p.limits.Tunnels, 1, math.MaxInt32}, {"max-client-tunnels", p.limits.ClientTunnels, 1, math.MaxInt32},
	} {
		if n.number < n.least || n.number > n.most {
			return fmt.Errorf("--%s %d: write a number from %d to %d", n.flag, n.number, n.least, n.most)
		}
	}
	return nil
}

// Limits in octets: with less no usual client gets through, and more, of each of
// thousands of clients, bounds nothing.
const leastOctets, mostOctets = 1 << 12, 1 << 20

// prefixes reads a repeatable CIDR flag; a bare address stands for itself.
func prefixes(flag string, list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if a, bad := netip.ParseAddr(s); bad == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, oneEach(fmt.Errorf("--%s %q: not an address range (write it as 10.0.0.0/8 or fd00::/8)", flag, s), flag, s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// roots are who the public trusts: Mozilla's list, built in, and --trust. The
// system's store does not count, for a corporate authority sits just there.
func roots(files []string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for c := range bundle.Roots() {
		one, err := x509.ParseCertificate(c.Certificate)
		if err != nil {
			return nil, fmt.Errorf("built-in certificate authorities: %w", err)
		}
		if c.Constraint == nil {
			pool.AddCert(one)
		} else {
			pool.AddCertWithConstraint(one, c.Constraint)
		}
	}
	for _, f := range files {
		pem, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("--trust %q: %w", f, cause(err))
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--trust %q: holds no certificate (a PEM file begins with -----BEGIN CERTIFICATE-----)", f)
		}
	}
	return pool, nil
}

// limitMap is the limits as they stand in the ledger.
func (p *path) limitMap() map[string]any {
	m := p.limits.Map()
	m[bypassLimit] = p.bypass.Milliseconds()
	return m
}

// bypassLimit is the key of --bypass-window among the limits of a session.
const bypassLimit = "bypass_window_ms"

// config is the proxy's, as far as flags say it.
func (p *path) config(env environ) (c proxy.Config, up upstream, err error) {
	c = proxy.Config{Enforce: p.mode == "enforce", Probe: proxy.ProbeMode(p.probe), Limits: p.limits}
	if c.Allowed, err = prefixes("allow-address", p.allow); err != nil {
		return c, up, err
	}
	if c.BlockPages, err = prefixes("block-page", p.blockPages); err != nil {
		return c, up, err
	}
	if c.Clients, err = prefixes("clients", p.clients); err != nil {
		return c, up, err
	}
	if c.Roots, err = roots(p.trust); err != nil {
		return c, up, err
	}
	if up, err = parentOf(p.parent, env); err != nil {
		return c, up, err
	}
	c.Parent, c.ParentByName = up.choose, up.byName
	resolver, err := p.resolve(up.choose != nil, dnsaudit.Config{Timeout: p.dnsWait, Roots: c.Roots})
	if err != nil {
		return c, up, err
	}
	c.Resolve = resolver.Resolve
	return c, up, nil
}

// localServer is whom resolv.conf(5) asks where it names no server.
var localServer = dnsaudit.Upstream{Addr: netip.MustParseAddrPort("127.0.0.1:53")}

// resolve asks --resolver, or the system's servers. That none is known does no
// harm behind a parent, which looks names up itself: only the look-ups of what
// goes around it fail.
func (p *path) resolve(behindParent bool, c dnsaudit.Config) (*dnsaudit.Resolver, error) {
	var err error
	if c.Servers, err = p.serversBehind(behindParent, c.ResolvConf); err != nil {
		return nil, err
	}
	return dnsaudit.New(c)
}

func (p *path) serversBehind(parent bool, conf string) ([]dnsaudit.Upstream, error) {
	servers, err := p.servers(conf)
	if errors.Is(err, dnsaudit.ErrNoServers) && parent {
		return []dnsaudit.Upstream{localServer}, nil
	}
	return servers, err
}
