package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/catalog"
	"github.com/egressaudit/egressaudit/policy/report"
	"github.com/egressaudit/egressaudit/proxy"
)

func dirOf(path string) string { return filepath.Dir(path) }

// required are the flags that say what is required.
type required struct {
	catalogs []string
	scopes   []string
	regions  []string
	set      []string
}

// defaultCatalogs are what is required where nothing is said.
var defaultCatalogs = []string{"azure-arc", "aml-extension"}

func (r *required) register(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&r.catalogs, "catalog", nil, "what is required: a `NAME` of 'egressaudit catalog list' or a file; repeatable (default azure-arc and aml-extension)")
	f.StringSliceVar(&r.scopes, "scope", nil, "only these `SCOPES` count as required (default all)")
	f.StringArrayVar(&r.regions, "region", nil, "fills <region>; repeatable (default open: any, and the report says which were seen)")
	f.StringArrayVar(&r.set, "set", nil, "fills another placeholder: `NAME=VALUE`; repeatable (default open)")
	c.RegisterFlagCompletionFunc("catalog", fixed(catalog.Names()...))
	c.RegisterFlagCompletionFunc("region", fixed(regionNames()...))
}

func regionNames() []string {
	var out []string
	for _, r := range catalog.Regions() {
		out = append(out, r.Name)
	}
	return out
}

func fixed(words ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// load reads and fills the catalogs.
func (r *required) load() ([]*policy.Catalog, error) {
	names := r.catalogs
	if len(names) == 0 {
		names = defaultCatalogs
	}
	var files []*catalog.File
	for _, n := range names {
		f, err := catalog.Load(n)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(files, func(o *catalog.File) bool { return o.Name == f.Name }); i >= 0 {
			return nil, fmt.Errorf("two catalogs are named %q: %q and %q (name each once)", f.Name, files[i].Path, f.Path)
		}
		files = append(files, f)
	}
	values, err := r.values(files)
	if err != nil {
		return nil, err
	}
	var out []*policy.Catalog
	for _, f := range files {
		c, err := f.Catalog(values)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, r.checkScopes(out)
}

func (r *required) values(files []*catalog.File) (catalog.Values, error) {
	v := catalog.Values{}
	for _, region := range r.regions {
		if err := catalog.CheckRegion(region); err != nil {
			return nil, err
		}
		v["region"] = append(v["region"], region)
	}
	for _, s := range r.set {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" || value == "" {
			return nil, fmt.Errorf("--set %q: write NAME=VALUE", s)
		}
		if err := catalog.CheckPlaceholder(name, files...); err != nil {
			return nil, fmt.Errorf("--set %q: %w", s, err)
		}
		v[name] = append(v[name], value)
	}
	return v, nil
}

func (r *required) checkScopes(catalogs []*policy.Catalog) error {
	var known []string
	for _, c := range catalogs {
		for _, q := range c.Requirements {
			if !slices.Contains(known, q.Scope) {
				known = append(known, q.Scope)
			}
		}
	}
	slices.Sort(known)
	for _, s := range r.scopes {
		if !slices.Contains(known, s) {
			return fmt.Errorf("--scope %q: no catalog in use has it (they have %s)", s, strings.Join(known, ", "))
		}
	}
	return nil
}

// rendering are the flags of a report's shape.
type rendering struct {
	format string
	output string
	failOn string
}

func (r *rendering) register(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&r.format, "format", "text", "shape of the report: text or json")
	f.StringVarP(&r.output, "output", "o", "", "`FILE` for the report")
	f.StringVar(&r.failOn, "fail-on", "blocked,partial", "statuses and finding kinds that make the exit status 1, as a `LIST`")
	c.RegisterFlagCompletionFunc("format", fixed("text", "json"))
}

func (r *rendering) check() (report.FailOn, error) {
	if r.format != "text" && r.format != "json" {
		return report.FailOn{}, fmt.Errorf("--format %q: write text or json", r.format)
	}
	if r.output != "" {
		if i, err := os.Stat(r.output); err == nil && i.IsDir() {
			return report.FailOn{}, fmt.Errorf("-o %q: is a directory (name a file)", r.output)
		}
		if _, err := os.Stat(dirOf(r.output)); err != nil {
			return report.FailOn{}, fmt.Errorf("-o %q: %w", r.output, errors.Unwrap(err))
		}
	}
	on, err := report.ParseFailOn(r.failOn)
	if err != nil {
		return report.FailOn{}, fmt.Errorf("--fail-on: %w", err)
	}
	return on, nil
}

// path are the flags of the egress path: whom to ask, where to go through, how
// long to wait, how much to hold.
type path struct {
	parent   string
	resolver string
	mode     string
	allow    []string
	clients  []string
	noProxy  string
	probe    string
	trust    []string
	vantage  string
	trial    string
	ledger   string
	drain    time.Duration
	dnsWait  time.Duration
	limits   proxy.Limits
}

func (p *path) register(c *cobra.Command, parent, vantage string) {
	f := c.Flags()
	f.StringVar(&p.parent, "parent", parent, "the corporate proxy to go through: `URL`, env (HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the caller) or none")
	f.StringVar(&p.resolver, "resolver", "", "DNS servers to ask: `ADDR[,ADDR]` (default the system's)")
	f.StringVar(&p.ledger, "ledger", "", "`FILE` for the observations (default egressaudit-<UTC time>.jsonl)")
	f.StringVar(&p.mode, "mode", "observe", "observe lets everything pass but the guarded addresses; enforce passes only what a catalog lists")
	f.StringArrayVar(&p.allow, "allow-address", nil, "`CIDR` that is neither guarded nor taken for a sinkhole; repeatable")
	f.StringArrayVar(&p.clients, "clients", nil, "`CIDR` of those who may use the proxy, instead of loopback; repeatable")
	f.StringVar(&p.noProxy, "no-proxy", "", "names and ranges that clients are told to reach without us: a `LIST` as in NO_PROXY")
	f.StringVar(&p.probe, "probe-certificates", "suspect", "a handshake of our own to see who signed a certificate: never, suspect (the client refused it, or the endpoint must not be inspected) or always")
	f.StringArrayVar(&p.trust, "trust", nil, "PEM `FILE` of certificate authorities that count as publicly trusted, beside Mozilla's; repeatable")
	f.StringVar(&p.vantage, "vantage", vantage, "where the observing is done: pod, node, admin or any `LABEL`")
	f.StringVar(&p.trial, "trial", "", "`NAME` of the trial (default the host's name)")
	f.DurationVar(&p.drain, "drain", 30*time.Second, "how long open tunnels may finish after SIGTERM before they are cut")
	f.DurationVar(&p.dnsWait, "dns-timeout", 5*time.Second, "how long a look-up may take")
	d := proxy.DefaultLimits(openFiles())
	f.DurationVar(&p.limits.ConnectTimeout, "connect-timeout", d.ConnectTimeout, "how long a dial may take, over all addresses")
	f.DurationVar(&p.limits.ParentTimeout, "parent-timeout", d.ParentTimeout, "how long the parent may take to answer CONNECT")
	f.DurationVar(&p.limits.AnswerTimeout, "answer-timeout", d.AnswerTimeout, "a destination silent for longer counts as silent; nothing is cut")
	f.DurationVar(&p.limits.IdleTimeout, "idle-timeout", d.IdleTimeout, "a tunnel without a byte either way for this long is closed")
	f.IntVar(&p.limits.Header, "header-limit", d.Header, "`OCTETS` of a request's header")
	f.DurationVar(&p.limits.HeaderTimeout, "header-timeout", d.HeaderTimeout, "how long a request's header may take to arrive")
	f.IntVar(&p.limits.FirstBytes, "first-bytes-limit", d.FirstBytes, "`OCTETS` read for a client's first message")
	f.DurationVar(&p.limits.FirstTimeout, "first-bytes-timeout", d.FirstTimeout, "how long a client's first message is waited for, where it is held (enforce)")
	f.IntVar(&p.limits.Tunnels, "max-tunnels", d.Tunnels, "connections at once (default derived from the open files allowed)")
	f.IntVar(&p.limits.ClientTunnels, "max-client-tunnels", d.ClientTunnels, "connections at once of one client address")
	c.RegisterFlagCompletionFunc("parent", fixed("env", "none"))
	c.RegisterFlagCompletionFunc("mode", fixed("observe", "enforce"))
	c.RegisterFlagCompletionFunc("probe-certificates", fixed("never", "suspect", "always"))
	c.RegisterFlagCompletionFunc("vantage", fixed("admin", "node", "pod"))
}

// check refuses values that no other check sees.
func (p *path) check() error {
	if p.mode != "observe" && p.mode != "enforce" {
		return fmt.Errorf("--mode %q: write observe or enforce", p.mode)
	}
	if !slices.Contains([]string{"never", "suspect", "always"}, p.probe) {
		return fmt.Errorf("--probe-certificates %q: write never, suspect or always", p.probe)
	}
	for flag, d := range map[string]time.Duration{
		"connect-timeout": p.limits.ConnectTimeout, "parent-timeout": p.limits.ParentTimeout, "answer-timeout": p.limits.AnswerTimeout,
		"idle-timeout": p.limits.IdleTimeout, "header-timeout": p.limits.HeaderTimeout, "first-bytes-timeout": p.limits.FirstTimeout,
		"dns-timeout": p.dnsWait,
	} {
		if d <= 0 {
			return fmt.Errorf("--%s %s: write a time above zero, such as 5s", flag, d)
		}
	}
	for flag, n := range map[string]int{
		"header-limit": p.limits.Header, "first-bytes-limit": p.limits.FirstBytes,
		"max-tunnels": p.limits.Tunnels, "max-client-tunnels": p.limits.ClientTunnels,
	} {
		if n <= 0 {
			return fmt.Errorf("--%s %d: write a number above zero", flag, n)
		}
	}
	return nil
}

// prefixes reads a repeatable CIDR flag; a bare address stands for itself.
func prefixes(flag string, list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if a, bad := netip.ParseAddr(s); bad == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("--%s %q: not an address range (write it as 10.0.0.0/8 or fd00::/8)", flag, s)
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
			return nil, fmt.Errorf("--trust: %w", err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--trust %q: holds no certificate (a PEM file begins with -----BEGIN CERTIFICATE-----)", f)
		}
	}
	return pool, nil
}
