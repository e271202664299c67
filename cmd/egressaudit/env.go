package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/policy"
)

// envFlags are the flags of env.
type envFlags struct {
	format, proxy string
	insideFlags
	dns              string
	redirect, tproxy uint16
	uid              uint32
	cgroup           string
}

func newEnv(env environ) *cobra.Command {
	var e envFlags
	c := &cobra.Command{
		Use:   "env [flags]",
		Short: "The settings to paste: shell, az, nodes, pods, DNS, firewall",
		Long: `env prints the settings that send a client through 'egressaudit serve':

  shell       export lines, for eval
  az          az connectedk8s connect, for the agents of Azure Arc
  containerd  a systemd drop-in, for the images that nodes pull
  systemd     a drop-in for any other unit
  pod         env of a container
  kubernetes  a ConfigMap for envFrom, and for workloads that run already
  coredns     the forward stanza of a cluster's Corefile (look-ups)
  nftables    rules for what ignores all of these

NO_PROXY has what must be reached without a proxy: this host, the metadata
services, names inside the cluster, and what --pods, --services, --nodes,
--api-server and --skip say, or --kubeconfig reads from a cluster; a flag wins
over what is read. Notes stand in the output as comments.

nftables: on a gateway the rules take what it forwards for pods and nodes;
without these, what this host sends itself, but for --uid or --cgroup, which is
whom egressaudit runs as. Load them with nft -f.`,
		Example: `  eval "$(egressaudit env --proxy 10.0.0.5:3128)"
  egressaudit env --format az --proxy 10.0.0.5:3128 --kubeconfig ~/.kube/config
  egressaudit env --format kubernetes --proxy egressaudit.audit.svc:3128 \
    --pods 10.244.0.0/16 --services 10.96.0.0/12 | kubectl apply -n ml -f -
  egressaudit env --format coredns --dns 10.96.0.53
  egressaudit env --format nftables --redirect 3129 --pods 10.244.0.0/16 \
    --nodes 10.0.0.0/24 --services 10.96.0.0/12 | nft -f -`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return e.run(c, env.stdout) },
	}
	e.register(c)
	return c
}

func (e *envFlags) register(c *cobra.Command) {
	group(c, "Flags", func(f *pflag.FlagSet) {
		f.StringVar(&e.format, "format", "shell", "`FORMAT`: "+strings.Join(envFormats(), ", "))
		f.StringVar(&e.proxy, "proxy", proxyDoor.example, "`HOST:PORT` of the proxy, as clients reach it")
		f.StringVar(&e.dns, "dns", "", "where serve --dns is asked: `ADDRESS[:PORT]` for coredns, its port for nftables (default none)")
	})
	e.insideFlags.register(c)
	group(c, "For nftables", func(f *pflag.FlagSet) {
		f.Uint16Var(&e.redirect, "redirect", 0, "`PORT` of serve --redirect, 0 for none")
		f.Uint16Var(&e.tproxy, "tproxy", 0, "`PORT` of serve --tproxy, 0 for none")
		f.Uint32Var(&e.uid, "uid", 0, "`NUMBER` of the user that egressaudit runs as, 0 for none; on a host")
		f.StringVar(&e.cgroup, "cgroup", "", "`PATH` of the cgroup that egressaudit runs in, below /sys/fs/cgroup; on a host (default none)")
	})
	c.RegisterFlagCompletionFunc("format", fixed(envFormats()...))
}

// run prints the settings, all or nothing.
func (e *envFlags) run(c *cobra.Command, w io.Writer) error {
	p, ok := pasteOf(e.format)
	if !ok {
		return fmt.Errorf("--format %q: write %s", e.format, strings.Join(envFormats(), ", "))
	}
	if err := meant(c, p); err != nil {
		return err
	}
	if p.afar && !c.Flags().Changed("proxy") {
		return fmt.Errorf("--proxy: %s is this host, and pods would look for it in themselves (give the HOST:PORT that they reach, such as 10.0.0.5:3128)", e.proxy)
	}
	var b bytes.Buffer
	if err := e.print(c.Context(), &b, p); err != nil {
		return err
	}
	_, err := b.WriteTo(w)
	return err
}

func (e *envFlags) print(ctx context.Context, w io.Writer, p paste) error {
	at, err := reachable(e.proxy)
	if err != nil {
		return err
	}
	in, err := e.gather(ctx)
	if err != nil {
		return err
	}
	return p.print(w, settingsToPaste{envFlags: e, url: "http://" + at, inside: in})
}

// meant refuses flags that say nothing in a format.
func meant(c *cobra.Command, p paste) (err error) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if err == nil && f.Name != "format" && !slices.Contains(p.flags, f.Name) {
			err = fmt.Errorf("--%s: it means nothing for --format %s (leave it out; it is for %s)", f.Name, p.format, strings.Join(readers(f.Name), ", "))
		}
	})
	return err
}

// readers are the formats in which a flag means something.
func readers(flag string) (out []string) {
	for _, p := range pastes {
		if slices.Contains(p.flags, flag) {
			out = append(out, p.format)
		}
	}
	return out
}

// reachable is the address of a proxy in its normal form.
func reachable(address string) (string, error) {
	n, port, err := policy.ParseTarget(address)
	if a, ok := n.Addr(); err != nil || ok && a.IsUnspecified() {
		return "", fmt.Errorf("--proxy %q: write the HOST:PORT that clients reach, such as 10.0.0.5:3128", address)
	}
	return policy.JoinPort(n.String(), port), nil
}

// nameServer is --dns as CoreDNS takes it.
func (e *envFlags) nameServer() (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(e.dns)
	if a, bare := netip.ParseAddr(e.dns); bare == nil {
		at, err = netip.AddrPortFrom(a, 53), nil
	}
	if err != nil || at.Port() == 0 || at.Addr().IsUnspecified() || at.Addr().Zone() != "" {
		return at, fmt.Errorf("--dns %q: write the ADDRESS[:PORT] at which CoreDNS reaches serve --dns, such as 10.96.0.53; it takes no name", e.dns)
	}
	return at, nil
}
