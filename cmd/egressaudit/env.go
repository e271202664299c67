package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/deploy/nftables"
	"github.com/egressaudit/egressaudit/policy"
)

// pasted are the renderings of what sends a client to the proxy, by format.
var pasted = map[string]func(w io.Writer, proxy, noProxy string){
	"shell": func(w io.Writer, proxy, noProxy string) {
		for _, v := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
			fmt.Fprintf(w, "export %s=%s\n", v, proxy)
		}
		fmt.Fprintf(w, "export NO_PROXY=%s\nexport no_proxy=%s\n", noProxy, noProxy)
	},
	"az": func(w io.Writer, proxy, noProxy string) {
		fmt.Fprintf(w, "az connectedk8s connect --proxy-https %s --proxy-http %s --proxy-skip-range %s\n", proxy, proxy, noProxy)
	},
	"containerd": func(w io.Writer, proxy, noProxy string) {
		fmt.Fprintf(w, "# /etc/systemd/system/containerd.service.d/egressaudit.conf, then: systemctl daemon-reload && systemctl restart containerd\n")
		fmt.Fprintf(w, "[Service]\nEnvironment=\"HTTPS_PROXY=%s\" \"HTTP_PROXY=%s\" \"NO_PROXY=%s\"\n", proxy, proxy, noProxy)
	},
	"pod": func(w io.Writer, proxy, noProxy string) {
		fmt.Fprintln(w, "env:")
		for _, v := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
			fmt.Fprintf(w, "  - {name: %s, value: %q}\n", v, proxy)
		}
		fmt.Fprintf(w, "  - {name: NO_PROXY, value: %q}\n  - {name: no_proxy, value: %q}\n", noProxy, noProxy)
	},
}

var envFormats = []string{"shell", "az", "containerd", "pod", "nftables"}

// envFlags are the flags of env.
type envFlags struct {
	proxy, format         string
	pods, services, skip  []string
	nodes                 []string
	redirect, tproxy, dns uint16
	uid                   uint32
	cgroup                string
}

func newEnv(env environ) *cobra.Command {
	var e envFlags
	c := &cobra.Command{
		Use:   "env [flags]",
		Short: "The settings to paste: shell, az, containerd, pod, nftables",
		Long: `env prints the settings that send a client through 'egressaudit serve': for a
shell, for az connectedk8s, for containerd, or for a pod. --pods, --services and
--skip go around the proxy; curl and Python ignore ranges there, Go honours
them.

--format nftables prints the rules that send traffic to the transparent
listeners without the clients' help: on a gateway what it forwards for --pods
and --nodes; without these, what this host sends itself, but for --uid or
--cgroup, which is whom egressaudit runs as. Load them with nft -f.`,
		Example: `  eval "$(egressaudit env --proxy 10.0.0.5:3128)"
  egressaudit env --format az --pods 10.244.0.0/16 --services 10.96.0.0/12
  egressaudit env --format nftables --redirect 3129 --pods 10.244.0.0/16 \
    --nodes 10.0.0.0/24 --services 10.96.0.0/12 | nft -f -`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return e.print(env.stdout) },
	}
	group(c, "Flags", func(f *pflag.FlagSet) {
		f.StringVar(&e.format, "format", "shell", "`FORMAT`: "+strings.Join(envFormats, ", "))
		f.StringVar(&e.proxy, "proxy", proxyDoor.example, "`HOST:PORT` of the proxy, as clients reach it")
		f.StringArrayVar(&e.pods, "pods", nil, "`CIDR` of pods; repeatable (default none)")
		f.StringArrayVar(&e.services, "services", nil, "`CIDR` of services; repeatable (default none)")
		f.StringArrayVar(&e.skip, "skip", nil, "`CIDR` of what else goes around us; repeatable (default none)")
	})
	group(c, "For nftables", func(f *pflag.FlagSet) {
		f.StringArrayVar(&e.nodes, "nodes", nil, "`CIDR` of nodes whose forwarded traffic is captured, beside --pods; repeatable (default none)")
		f.Uint16Var(&e.redirect, "redirect", 0, "`PORT` of serve --redirect, 0 for none")
		f.Uint16Var(&e.tproxy, "tproxy", 0, "`PORT` of serve --tproxy, 0 for none")
		f.Uint16Var(&e.dns, "dns", 0, "`PORT` of serve --dns, 0 for none")
		f.Uint32Var(&e.uid, "uid", 0, "`NUMBER` of the user that egressaudit runs as, 0 for none; on a host")
		f.StringVar(&e.cgroup, "cgroup", "", "`PATH` of the cgroup that egressaudit runs in, below /sys/fs/cgroup; on a host (default none)")
	})
	c.RegisterFlagCompletionFunc("format", fixed(envFormats...))
	return c
}

func (e *envFlags) print(w io.Writer) error {
	at, err := reachable(e.proxy)
	if err != nil {
		return err
	}
	around, err := e.around()
	if err != nil {
		return err
	}
	if e.format == "nftables" {
		return e.rules(w, around)
	}
	render, ok := pasted[e.format]
	if !ok {
		return fmt.Errorf("--format %q: write %s", e.format, strings.Join(envFormats, ", "))
	}
	noProxy := childNoProxy
	for _, p := range around {
		noProxy += "," + p.String()
	}
	render(w, "http://"+at, noProxy)
	return nil
}

// around are the ranges that go around us.
func (e *envFlags) around() (all []netip.Prefix, err error) {
	for _, f := range []struct {
		flag string
		list []string
	}{{"pods", e.pods}, {"services", e.services}, {"skip", e.skip}} {
		some, err := prefixes(f.flag, f.list)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// rules prints the rule set, and in comments the routes that TPROXY needs.
func (e *envFlags) rules(w io.Writer, around []netip.Prefix) error {
	clients, err := prefixes("nodes", e.nodes)
	if err != nil {
		return err
	}
	pods, err := prefixes("pods", e.pods)
	if err != nil {
		return err
	}
	p := nftables.Params{
		Clients: append(clients, pods...), Skip: append(around, clients...), Redirect: e.redirect, TProxy: e.tproxy, DNS: e.dns, UID: e.uid, Cgroup: e.cgroup,
	}
	var rules, routes strings.Builder
	if err := errors.Join(nftables.Render(&rules, p), nftables.Routes(&routes, p)); err != nil {
		return fmt.Errorf("--format nftables: %w", err)
	}
	if routes.Len() > 0 {
		fmt.Fprintln(w, "# TPROXY needs routes; run first:")
		for line := range strings.Lines(routes.String()) {
			fmt.Fprint(w, "#   ", line)
		}
	}
	_, err = io.WriteString(w, rules.String())
	return err
}

// reachable is the address of a proxy in its normal form.
func reachable(address string) (string, error) {
	n, port, err := policy.ParseTarget(address)
	if a, ok := n.Addr(); err != nil || ok && a.IsUnspecified() {
		return "", fmt.Errorf("--proxy %q: write the HOST:PORT that clients reach, such as 10.0.0.5:3128", address)
	}
	return policy.JoinPort(n.String(), port), nil
}
