package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/test/lab/netns"
)

// prefix begins the names of namespaces and cgroups of ours.
const prefix = "eacluster"

// squid is where the corporate proxy listens.
const squid = "10.1.3.2:3128"

// network is everything around the node:
//
//	node ── wall ── internet
//	         │
//	        dmz (squid)
type network struct {
	net                     *netns.Net
	node, wall, dmz, beyond *netns.Space
	out                     *internet
}

// lay makes the namespaces, the cables, and the firewall's rules.
func lay() (*network, error) {
	w := &network{net: netns.New(prefix, "w")}
	for _, s := range []struct {
		to   **netns.Space
		name string
	}{{&w.node, "node"}, {&w.wall, "wall"}, {&w.dmz, "dmz"}, {&w.beyond, "inet"}} {
		var err error
		if *s.to, err = w.net.Add(s.name); err != nil {
			return w, err
		}
	}
	return w, errors.Join(
		w.node.Router(), w.wall.Router(),
		w.net.Link(w.node, nodeAddr+"/24", w.wall, "10.1.0.1/24"),
		w.net.Link(w.wall, "10.1.3.1/24", w.dmz, "10.1.3.2/24"),
		w.net.Link(w.wall, "192.0.2.1/24", w.beyond, nameServer+"/24"),
		w.node.Route("default", "10.1.0.1"), w.dmz.Route("default", "10.1.3.1"), w.beyond.Route("default", "192.0.2.1"),
		w.wall.Route(podRange, nodeAddr), w.wall.Route("198.18.0.0/15", nameServer), w.beyond.Own("198.18.0.0/15"),
		w.wall.Nft(firewall()), w.wall.Iptables(4, inspection()),
	)
}

// verdicts are what the firewall does to a SYN, in nft's language.
var verdicts = map[fault]string{
	dropped:    "drop",
	refused:    "meta l4proto tcp reject with tcp reset",
	prohibited: "reject with icmp type admin-prohibited",
}

// firewall lets the parent out, and nodes and pods to the parent, the name server
// and what may be reached directly. What else they try is dropped and counted.
func firewall() string {
	var faults, open strings.Builder
	for i, d := range destinations {
		if v := verdicts[d.fault]; v != "" {
			fmt.Fprintf(&faults, "    ip daddr %s tcp dport %d counter %s;\n", at(i), d.port, v)
		} else if d.way == direct {
			fmt.Fprintf(&open, "    ip daddr %s tcp dport %d accept;\n", at(i), d.port)
		}
	}
	return fmt.Sprintf(`table ip wall {
  set astray { type ipv4_addr . ipv4_addr . inet_service; flags dynamic; size 1000; }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ct state established,related accept;
%s    ip saddr != { %s, %s } accept;
    ip daddr %s meta l4proto { tcp, udp } th dport 53 accept;
    ip daddr %s tcp dport 3128 accept;
%s    ip daddr %s tcp dport %s accept;
    meta l4proto { tcp, udp } update @astray { ip saddr . ip daddr . th dport };
    drop;
  }
}
`, &faults, nodeAddr, podRange, nameServer, strings.TrimSuffix(squid, ":3128"), &open, rollingAddr, rollingPort)
}

// inspection are the firewall's rules by what a packet holds, for iptables.
func inspection() string {
	var b strings.Builder
	b.WriteString("*filter\n")
	for _, d := range destinations {
		if target := map[fault]string{nameReset: "REJECT --reject-with tcp-reset", nameSilent: "DROP"}[d.fault]; target != "" {
			fmt.Fprintf(&b, "-A FORWARD -p tcp --dport %d -m string --algo bm --string %q -j %s\n", d.port, d.host, target)
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// astray is what nodes and pods sent out that the plan knows nothing of: "from . to .
// port", one after the other.
func (w *network) astray() (string, error) {
	var b strings.Builder
	c := exec.Command("nft", "list", "set", "ip", "wall", "astray")
	c.Stdout, c.Stderr = &b, &b
	if err := errors.Join(w.wall.Start(c), c.Wait()); err != nil {
		return "", fmt.Errorf("read the firewall: %w: %s", err, b.String())
	}
	_, list, _ := strings.Cut(b.String(), "elements = {")
	list, _, _ = strings.Cut(list, "}")
	return strings.Join(strings.Fields(list), " "), nil
}

// people starts the internet and the parent.
func (w *network) people(ctx context.Context, dir string) error {
	ca, err := newAuthority("Lab Public Root CA")
	if err != nil {
		return err
	}
	w.out = &internet{space: w.beyond, ca: ca, sites: sites(), names: map[string]netip.Addr{}, lies: map[string]fault{}}
	for i, d := range destinations {
		w.out.names[d.host], w.out.lies[d.host] = at(i), d.fault
	}
	w.out.names[rollingHost] = netip.MustParseAddr(rollingAddr)
	if err := os.WriteFile(dir+"/ca.pem", ca.pem(), 0o644); err != nil {
		return err
	}
	return errors.Join(w.out.open(ctx, dir), w.parent(ctx, dir))
}

// parent starts squid.
func (w *network) parent(ctx context.Context, dir string) error {
	var denied []string
	for _, d := range destinations {
		if d.fault == parentDenied {
			denied = append(denied, d.host)
		}
	}
	conf := dir + "/squid.conf"
	if err := os.WriteFile(conf, fmt.Appendf(nil, squidSettings, squid, strings.Join(denied, " "), dir, nameServer), 0o644); err != nil {
		return err
	}
	if err := w.dmz.Start(exec.Command("squid", "-N", "-n", fmt.Sprint(prefix, os.Getpid()), "-f", conf)); err != nil {
		return err
	}
	return until(ctx, "squid", 20*time.Second, func() error {
		return w.dmz.Do(func() error {
			c, err := net.Dial("tcp4", squid)
			if err == nil {
				c.Close()
			}
			return err
		})
	})
}

const squidSettings = `http_port %s
visible_hostname proxy.corp.test
acl denied dstdomain %s
http_access deny denied
http_access allow all
cache deny all
access_log none
cache_log %s/logs/squid.log
cache_store_log none
pid_filename none
coredump_dir /tmp
pinger_enable off
hosts_file none
shutdown_lifetime 0 seconds
dns_nameservers %s
connect_timeout 2 seconds
max_filedescriptors 4096
`
