package main

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/catalog"
	"github.com/egressaudit/egressaudit/policy/report"
	"github.com/egressaudit/egressaudit/proxy"
)

// required are the flags that say what is required.
type required struct {
	catalogs []string
	scopes   []string
	regions  []string
	set      []string
	// recorded says that the regions stand in a ledger: they were asked for when
	// it was made, whether a list knows them or not.
	recorded bool
	// recalled are "NAME=VALUE" of a ledger, likewise. Where the catalogs of now
	// have no such placeholder they say nothing.
	recalled []string
}

// defaultCatalogs are what is required where nothing is said.
var defaultCatalogs = []string{"azure-arc", "aml-extension"}

// register adds the flags; from is where the defaults come from, where that is
// not here.
func (r *required) register(c *cobra.Command, from string) {
	or := func(d string) string { return cmp.Or(from, d) }
	group(c, "What is required", func(f *pflag.FlagSet) {
		f.StringArrayVar(&r.catalogs, "catalog", nil, "a catalog: a `NAME` of 'egressaudit catalog list' or a file; repeatable (default "+or(strings.Join(defaultCatalogs, " and "))+")")
		f.StringArrayVar(&r.regions, "region", nil, "fills <region> with a `NAME` such as eastus; repeatable (default "+or("open: any, and the report says which were seen")+")")
		f.StringArrayVar(&r.set, "set", nil, "fills another placeholder: `NAME=VALUE`; repeatable (default open); --set region=NAME takes a region that no list knows")
	})
	c.RegisterFlagCompletionFunc("catalog", catalogNames)
	c.RegisterFlagCompletionFunc("region", fixed(regionNames()...))
	c.RegisterFlagCompletionFunc("set", cobra.NoFileCompletions)
}

// registerScope adds --scope, for the verbs that judge.
func (r *required) registerScope(c *cobra.Command, all string) {
	group(c, "What is required", func(f *pflag.FlagSet) {
		f.StringSliceVar(&r.scopes, "scope", nil, "only these `SCOPES` count as required, such as agent,connect (default "+all+")")
	})
	c.RegisterFlagCompletionFunc("scope", cobra.NoFileCompletions)
}

// catalogNames completes a catalog: the embedded ones, or else a file.
func catalogNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return catalog.Names(), cobra.ShellCompDirectiveDefault
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
	files, err := r.files()
	if err != nil {
		return nil, err
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

func (r *required) files() ([]*catalog.File, error) {
	names := r.catalogs
	if len(names) == 0 {
		names = defaultCatalogs
	}
	var files []*catalog.File
	for _, n := range names {
		f, err := catalog.Load(n)
		if err != nil {
			return nil, oneEach(err, "catalog", n)
		}
		if i := slices.IndexFunc(files, func(o *catalog.File) bool { return o.Name == f.Name }); i >= 0 {
			return nil, fmt.Errorf("--catalog %q: a catalog named %q was given already, by %q (name each once)", n, f.Name, names[i])
		}
		files = append(files, f)
	}
	return files, nil
}

func (r *required) values(files []*catalog.File) (catalog.Values, error) {
	v := catalog.Values{}
	for _, region := range r.regions {
		if err := catalog.CheckRegion(region); err != nil && !r.recorded {
			return nil, oneEach(fmt.Errorf("--region: %w", err), "region", region)
		}
		v["region"] = append(v["region"], region)
	}
	for _, s := range r.set {
		name, value, _ := strings.Cut(s, "=")
		if name == "" || value == "" {
			return nil, fmt.Errorf("--set %q: write NAME=VALUE, such as region=eastus", s)
		}
		if err := catalog.CheckPlaceholder(name, files...); err != nil {
			return nil, fmt.Errorf("--set %q: %w", s, err)
		}
		v[name] = append(v[name], value)
	}
	for _, s := range r.recalled {
		name, value, _ := strings.Cut(s, "=")
		v[name] = append(v[name], value)
	}
	return v, nil
}

// filled are the regions in force, by --region and by --set.
func (r *required) filled() []string {
	out := slices.Clone(r.regions)
	for _, s := range r.set {
		if region, ok := strings.CutPrefix(s, "region="); ok {
			out = append(out, region)
		}
	}
	return out
}

// others are the other placeholders that --set fills, as it is written.
func (r *required) others() []string {
	return slices.DeleteFunc(slices.Clone(r.set), func(s string) bool { return strings.HasPrefix(s, "region=") })
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
			return fmt.Errorf("--scope %q: no catalog in use has this scope (they have %s)", s, strings.Join(known, ", "))
		}
	}
	return nil
}

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
