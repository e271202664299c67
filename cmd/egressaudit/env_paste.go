package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/egressaudit/egressaudit/deploy/nftables"
)

// settingsToPaste are what a format prints.
type settingsToPaste struct {
	*envFlags
	inside inside
	url    string // of the proxy
}

// paste is a format of env.
type paste struct {
	format string
	flags  []string // that mean something in it
	print  func(w io.Writer, s settingsToPaste) error
	afar   bool // its clients are elsewhere: the default of --proxy, which is this host, would be themselves
}

// pastes are the formats, in the order of the help. Notes come last: a shell that
// reads all in one line loses nothing but them.
var pastes = []paste{
	{format: "shell", flags: proxied, print: exports},
	{format: "az", flags: proxied, print: connectedk8s, afar: true},
	{format: "containerd", flags: proxied, print: func(w io.Writer, s settingsToPaste) error {
		return dropIn(w, s, "containerd", "Pulls are made by nodes. Their images come through the proxy when containerd has started again; containerd is a Go program, so ranges count.")
	}},
	{format: "systemd", flags: proxied, print: func(w io.Writer, s settingsToPaste) error {
		return dropIn(w, s, "NAME", "NAME is the unit. It takes effect when the unit has started again.")
	}},
	{format: "pod", flags: proxied, print: podEnv, afar: true},
	{format: "kubernetes", flags: proxied, print: configMap, afar: true},
	{format: "coredns", flags: []string{"dns"}, print: corefile},
	{format: "nftables", flags: append([]string{"redirect", "tproxy", "dns", "uid", "cgroup"}, insideNames...), print: rules},
}

// proxied are the flags of formats that name a proxy.
var proxied = append([]string{"proxy"}, insideNames...)

func envFormats() (out []string) {
	for _, p := range pastes {
		out = append(out, p.format)
	}
	return out
}

func pasteOf(format string) (paste, bool) {
	for _, p := range pastes {
		if p.format == format {
			return p, true
		}
	}
	return paste{}, false
}

// variable is a setting with its value.
type variable struct{ name, value string }

// variables are the settings that clients read; curl reads http_proxy in lower
// case alone, others in upper case.
func (s settingsToPaste) variables() []variable {
	none := s.inside.noProxy()
	return []variable{
		{"HTTPS_PROXY", s.url}, {"https_proxy", s.url}, {"HTTP_PROXY", s.url}, {"http_proxy", s.url}, {"NO_PROXY", none}, {"no_proxy", none},
	}
}

// whoReads is what clients make of NO_PROXY, as seen with Go's x/net 0.62, curl
// 7.88, requests 2.34, and urllib and wget of Debian 12.
const whoReads = "NO_PROXY: names such as .svc, and single addresses, are read by all clients. Ranges are honoured by Go programs; " +
	"those of IPv4 by curl (7.86 and later) and Python's requests, too. Older curl, Python's urllib and wget ignore them."

// notes writes comments: the first line of each wrapped, those behind it, which are
// to be typed, as they are.
func notes(w io.Writer, list ...string) {
	for _, n := range list {
		prose, typed, _ := strings.Cut(n, "\n")
		line := "#"
		for _, word := range strings.Fields(prose) {
			if len(line)+1+len(word) > helpWidth {
				fmt.Fprintln(w, line)
				line = "#  "
			}
			line += " " + word
		}
		fmt.Fprintln(w, line)
		for line := range strings.Lines(typed) {
			fmt.Fprintln(w, "#    ", strings.TrimSpace(line))
		}
	}
}

// tell writes the notes of a format behind those that all have.
func (s settingsToPaste) tell(w io.Writer, own ...string) error {
	notes(w, append(append([]string{whoReads}, s.inside.notes...), own...)...)
	return nil
}

// shellWord is s as one word of a shell, to which the brackets of an IPv6 address are a
// pattern. The rest of our values has nothing else that means something there.
func shellWord(s string) string {
	if strings.ContainsAny(s, "[]") {
		return "'" + s + "'"
	}
	return s
}

func exports(w io.Writer, s settingsToPaste) error {
	for _, v := range s.variables() {
		fmt.Fprintf(w, "export %s=%s\n", v.name, shellWord(v.value))
	}
	return s.tell(w)
}

func connectedk8s(w io.Writer, s settingsToPaste) error {
	fmt.Fprintf(w, "az connectedk8s connect --proxy-https %s --proxy-http %s --proxy-skip-range %s\n", shellWord(s.url), shellWord(s.url), s.inside.noProxy())
	return s.tell(w,
		"Add --name and --resource-group. az connectedk8s update takes the same, for a cluster that is connected.",
		"az itself, and the helm that it starts, read HTTPS_PROXY of this shell (--format shell).",
		"Do not add the word Arc to the skip range: az makes of it the suffixes of Arc's own endpoints, which then go around egressaudit unseen.",
		"--proxy-cert is needed only where a device behind egressaudit inspects TLS.")
}

func dropIn(w io.Writer, s settingsToPaste, unit, note string) error {
	fmt.Fprintf(w, "# /etc/systemd/system/%[1]s.service.d/egressaudit.conf, then:\n# systemctl daemon-reload && systemctl restart %[1]s\n[Service]\n", unit)
	for _, v := range s.variables() {
		fmt.Fprintf(w, "Environment=\"%s=%s\"\n", v.name, v.value)
	}
	return s.tell(w, note)
}

func podEnv(w io.Writer, s settingsToPaste) error {
	fmt.Fprintln(w, "env:")
	for _, v := range s.variables() {
		fmt.Fprintf(w, "  - {name: %s, value: %q}\n", v.name, v.value)
	}
	return s.tell(w, "It belongs into each container, init containers too. --format kubernetes has the same for envFrom.")
}

// proxyMap is the ConfigMap that containers take the settings from.
const proxyMap = "egressaudit-proxy"

func configMap(w io.Writer, s settingsToPaste) error {
	fmt.Fprintf(w, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\ndata:\n", proxyMap)
	for _, v := range s.variables() {
		fmt.Fprintf(w, "  %s: %q\n", v.name, v.value)
	}
	return s.tell(w,
		"It belongs into each namespace, and this into each container, init containers too:\nenvFrom: [{configMapRef: {name: "+proxyMap+"}}]",
		"A workload that runs needs no ConfigMap (set env --from would lose the names in lower case). Its pods start again:\n"+
			"egressaudit env FLAGS | sed -n 's/^export //p' | kubectl set env -n NAMESPACE deployment/NAME --env -")
}

func corefile(w io.Writer, s settingsToPaste) error {
	at, err := s.nameServer()
	if err != nil {
		return err
	}
	notes(w, "In the block .:53 of the Corefile, in place of the lines of forward . /etc/resolv.conf:\nkubectl -n kube-system edit configmap coredns")
	fmt.Fprintf(w, "forward . %s {\n    max_concurrent 1000\n}\n", at)
	notes(w,
		"The names of the cluster stay with the plugin kubernetes of that block: CoreDNS asks it before forward, whatever the order of the lines.",
		"No second upstream: CoreDNS takes one at random, and we would see half. No force_tcp and no prefer_udp: we record the transport that the client took.",
		"serve --dns needs --clients with the range of CoreDNS's pods, and --resolver with the servers of the nodes' /etc/resolv.conf. Never CoreDNS itself: questions would go in a circle.",
		"Look-ups come from CoreDNS's address, so which pod asked is not known; and what CoreDNS has cached is not asked again.",
		"After an error CoreDNS asks us for . NS until that is answered.")
	return nil
}

// rules prints the rule set, and in comments the routes that TPROXY needs.
func rules(w io.Writer, s settingsToPaste) error {
	around, err := s.inside.around()
	if err != nil {
		return fmt.Errorf("--format nftables: %w", err)
	}
	port, err := strconv.ParseUint(s.dns, 10, 16)
	if err != nil && s.dns != "" {
		return fmt.Errorf("--dns %q: write the PORT of serve --dns for --format nftables, such as 53", s.dns)
	}
	p := nftables.Params{
		Clients: append(s.inside.nodes, s.inside.pods...), Skip: around, Redirect: s.redirect, TProxy: s.tproxy, DNS: uint16(port), UID: s.uid, Cgroup: s.cgroup,
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
	io.WriteString(w, rules.String())
	notes(w, s.inside.notes...)
	return nil
}
