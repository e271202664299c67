package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/policy"
)

// settingsTo are the renderings of env, by format.
var settingsTo = map[string]func(w io.Writer, proxy, noProxy string){
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

var envFormats = []string{"shell", "az", "containerd", "pod"}

func newEnv(env environ) *cobra.Command {
	var address, format string
	var ranges []string
	c := &cobra.Command{
		Use:   "env [flags]",
		Short: "The proxy settings to paste: shell, az, containerd, pod",
		Long: `env prints the settings that send a client through 'egressaudit serve': for a
shell, for az connectedk8s, for containerd, or for a pod. --skip adds the
cluster's pod and service ranges to what goes around the proxy; curl and Python
ignore ranges in NO_PROXY, Go honours them.`,
		Example: `  eval "$(egressaudit env --proxy 10.0.0.5:3128)"
  egressaudit env --format az --skip 10.244.0.0/16 --skip 10.96.0.0/12`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			return printSettings(env.stdout, address, format, ranges)
		},
	}
	group(c, "Flags", func(f *pflag.FlagSet) {
		f.StringVar(&address, "proxy", proxyDoor.example, "`HOST:PORT` of the proxy, as clients reach it")
		f.StringVar(&format, "format", "shell", "`FORMAT`: "+strings.Join(envFormats, ", "))
		f.StringArrayVar(&ranges, "skip", nil, "`CIDR` of pods or services that go around the proxy; repeatable (default none)")
	})
	c.RegisterFlagCompletionFunc("format", fixed(envFormats...))
	return c
}

func printSettings(w io.Writer, address, format string, ranges []string) error {
	at, err := reachable(address)
	if err != nil {
		return err
	}
	render, ok := settingsTo[format]
	if !ok {
		return fmt.Errorf("--format %q: write %s", format, strings.Join(envFormats, ", "))
	}
	skip, err := prefixes("skip", ranges)
	if err != nil {
		return err
	}
	noProxy := childNoProxy
	for _, p := range skip {
		noProxy += "," + p.String()
	}
	render(w, "http://"+at, noProxy)
	return nil
}

// reachable is the address of a proxy in its normal form.
func reachable(address string) (string, error) {
	n, port, err := policy.ParseTarget(address)
	if a, ok := n.Addr(); err != nil || ok && a.IsUnspecified() {
		return "", fmt.Errorf("--proxy %q: write the HOST:PORT that clients reach, such as 10.0.0.5:3128", address)
	}
	return policy.JoinPort(n.String(), port), nil
}
