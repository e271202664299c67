package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/egressaudit/egressaudit/test/lab/netns"
)

// side is one egressaudit beside that of the world's way: through another
// parent, or with other flags.
type side struct {
	worlds  []string // where it is played
	address string   // of its parent; "" is none
	user    string   // "name:password" for the parent
	flags   []string
}

const (
	dmzAddrs     = "10.9.3.2/24 10.9.3.10/24 10.9.3.20/24 10.9.3.30/24 10.9.3.40/24 10.9.3.53/24 10.9.3.66/24 10.9.3.67/24"
	resolverAddr = "10.9.3.53"
	rootAddr     = "192.0.2.53" // the internet's name server
	inspectPort  = 3130         // of the firewall's squid
)

// Where sides are played. What is ours is, on every way that ends with us.
var (
	inSquid     = []string{"squid"}
	inTinyproxy = []string{"tinyproxy"}
	inAll       = []string{"direct4", "redirect4", "redirect6", "tproxy4", "tproxy6"}
)

var sides = map[string]side{
	"squid":               {inSquid, "10.9.3.10:3128", "", nil},
	"squid-basic-right":   {inSquid, "10.9.3.10:3129", "alice:s3cret", nil},
	"squid-basic-wrong":   {inSquid, "10.9.3.10:3129", "alice:wrong", nil},
	"squid-basic-missing": {inSquid, "10.9.3.10:3129", "", nil},
	"squid-ntlm":          {inSquid, "10.9.3.10:3130", "alice:s3cret", nil},
	"squid-inspects":      {inSquid, "10.9.3.10:3131", "", nil},
	"squid-slow":          {inSquid, "10.9.3.30:3128", "", nil},

	"tinyproxy":               {inTinyproxy, "10.9.3.20:8888", "", nil},
	"tinyproxy-basic-right":   {inTinyproxy, "10.9.3.20:8889", "alice:s3cret", nil},
	"tinyproxy-basic-wrong":   {inTinyproxy, "10.9.3.20:8889", "alice:wrong", nil},
	"tinyproxy-basic-missing": {inTinyproxy, "10.9.3.20:8889", "", nil},
	"negotiate":               {inTinyproxy, "10.9.3.30:9001", "alice:s3cret", nil},
	"502":                     {inTinyproxy, "10.9.3.30:9002", "", nil},
	"503-dns":                 {inTinyproxy, "10.9.3.30:9008", "", nil},
	"504-dns":                 {inTinyproxy, "10.9.3.30:9003", "", nil},
	"closed-in-reply":         {inTinyproxy, "10.9.3.30:9004", "", nil},
	"reset-in-reply":          {inTinyproxy, "10.9.3.30:9005", "", nil},
	"silent":                  {inTinyproxy, "10.9.3.30:9006", "", []string{"--parent-timeout", "2s"}},
	"down":                    {inTinyproxy, "10.9.3.40:3128", "", nil},
	"dropped":                 {inTinyproxy, "10.9.3.66:3128", "", nil},
	"unroutable":              {inTinyproxy, "10.9.3.67:3128", "", nil},
	"loop":                    {inTinyproxy, "10.9.3.30:9007", "", nil},
	"unresolved":              {inTinyproxy, "proxy.nowhere.example.com:3128", "", nil},

	"enforce":       {inAll, "", "", []string{"--mode", "enforce"}},
	"limit":         {inAll, "", "", []string{"--max-client-tunnels", "1"}},
	"idle":          {inAll, "", "", []string{"--idle-timeout", "1s"}},
	"slow-to-judge": {inAll, "", "", []string{"--answer-timeout", "20s"}},
}

// device is a program of the network.
type device struct {
	in    *netns.Space
	files map[string]string // below the world's folder
	args  []string
	ready string // "tcp ADDRESS:PORT", "udp ADDRESS:PORT": listens there; or a file
}

// unbound is the company's resolver. Its policy has what it does to names; all
// else comes from the internet's name server.
func (b *built) unbound() device {
	var zones strings.Builder
	zone := func(host, kind string) { fmt.Fprintf(&zones, "  local-zone: %q %s\n", host+".", kind) }
	for _, c := range b.cells {
		switch {
		case c.dns == dnsRefused:
			zone(c.host, "always_refuse")
		case c.dns == nodata:
			zone(c.host, "always_nodata")
		case c.poisoned():
			zone(c.host, "static")
			for _, a := range c.addrs {
				fmt.Fprintf(&zones, "  local-data: \"%s. 60 IN %s %s\"\n", c.host, recordType(a), a)
			}
		}
	}
	conf := fmt.Sprintf(`server:
  interface: %s
  access-control: 10.9.0.0/16 allow
  do-daemonize: no
  username: ""
  chroot: ""
  directory: %q
  pidfile: ""
  use-syslog: no
  logfile: %q
  module-config: "iterator"
  do-ip6: no
  unblock-lan-zones: yes
  insecure-lan-zones: yes
%sforward-zone:
  name: "."
  forward-addr: %s
remote-control:
  control-enable: no
`, resolverAddr, b.dir, b.path("unbound.log"), zones.String(), rootAddr)
	return device{b.dmz, map[string]string{"unbound.conf": conf}, []string{"unbound", "-d", "-c", b.path("unbound.conf")}, "udp " + resolverAddr + ":53"}
}

// poisoned says that the company's resolver gives the name a false address.
func (c *cell) poisoned() bool {
	return c.fault.addrs != nil && c.dns == "" && c.fault.addrs[0] != own && c.fault.addrs[0] != closed
}

func recordType(address string) string {
	if netip.MustParseAddr(address).Is4() {
		return "A"
	}
	return "AAAA"
}

// dnsmasq is the internet's name server.
func (b *built) dnsmasq() device {
	conf := "no-resolv\nno-hosts\nno-daemon\nkeep-in-foreground\nbind-interfaces\nuser=root\ncache-size=0\nlocal=/example.com/\nlisten-address=" + rootAddr + "\n"
	for _, c := range b.cells {
		switch {
		case c.dns == nxdomain, c.dns == servfail, c.poisoned():
		case c.dns == privateLink:
			target := strings.Replace(c.host, ".", ".privatelink.", 1)
			conf += fmt.Sprintf("cname=%s,%s\nhost-record=%s,%s\n", c.host, target, target, strings.Join(c.addrs, ","))
		default:
			conf += fmt.Sprintf("host-record=%s,%s\n", c.host, strings.Join(c.addrs, ","))
		}
		if c.beside {
			conf += fmt.Sprintf("host-record=%s,%s\n", c.companion(), b.beside(c))
		}
	}
	return device{b.inet, map[string]string{"dnsmasq.conf": conf}, []string{"dnsmasq", "-k", "-C", b.path("dnsmasq.conf")}, "udp " + rootAddr + ":53"}
}

// squid is a squid with these lines of its own.
func (b *built) squid(in *netns.Space, name, program, lines, at string) device {
	conf := lines + fmt.Sprintf(`
visible_hostname %[1]s.corp.test
acl denied dstdomain "%[2]s"
http_access deny denied
acl tls port 443
acl CONNECT method CONNECT
http_access deny CONNECT !tls
http_access allow all
cache deny all
access_log none
cache_log %[3]s
cache_store_log none
pid_filename none
coredump_dir /tmp
pinger_enable off
hosts_file none
shutdown_lifetime 0 seconds
dns_nameservers %[4]s
dns_timeout 2 seconds
dns_retransmit_interval 1 second
connect_timeout 2 seconds
max_filedescriptors 4096
`, name, b.path("denied"), b.path(name+".log"), resolverAddr)
	return device{in, map[string]string{name + ".conf": conf}, []string{program, "-N", "-n", b.service(name), "-f", b.path(name + ".conf")}, "tcp " + at}
}

// service is a name of which squid makes those of its shared memory, which all
// namespaces share.
func (b *built) service(name string) string {
	return fmt.Sprintf("ea%d%s%s", os.Getpid(), b.name, strings.ReplaceAll(name, "-", ""))
}

const basicAuth = `http_port 10.9.3.10:3129
auth_param basic program /usr/lib/squid/basic_ncsa_auth %s
auth_param basic realm Example Corp
acl known proxy_auth REQUIRED
http_access deny !known
`

const ntlmAuth = `http_port 10.9.3.10:3130
auth_param ntlm program /usr/lib/squid/ntlm_fake_auth
acl known proxy_auth REQUIRED
http_access deny !known
`

// inspector is the squid that breaks TLS open: Debian's flavour with OpenSSL,
// which run.sh unpacks beside the other one.
func (b *built) inspector(in *netns.Space, name, port, at string) (device, error) {
	db := b.path(name + "-certs")
	helper := filepath.Join(b.inspectors, "usr/lib/squid/security_file_certgen")
	if out, err := exec.Command(helper, "-c", "-s", db, "-M", "4MB").CombinedOutput(); err != nil {
		return device{}, fmt.Errorf("certificate store of %q: %w: %s", name, err, out)
	}
	if out, err := exec.Command("chown", "-R", "proxy:proxy", db).CombinedOutput(); err != nil {
		return device{}, fmt.Errorf("certificate store of %q: %w: %s", name, err, out)
	}
	lines := fmt.Sprintf(`%s ssl-bump tls-cert=%s generate-host-certificates=on dynamic_cert_mem_cache_size=4MB
sslcrtd_program %s -s %s -M 4MB
sslcrtd_children 2 startup=1 idle=1
tls_outgoing_options cafile=%s
acl step1 at_step SslBump1
ssl_bump peek step1
ssl_bump bump all`, port, b.path("inspection.pem"), helper, db, b.path("ca.pem"))
	return b.squid(in, name, filepath.Join(b.inspectors, "usr/sbin/squid"), lines, at), nil
}

// tinyproxy reads the system's resolv.conf, so it gets one of its own.
func (b *built) tinyproxy(name, lines, at string) device {
	host, port, _ := strings.Cut(at, ":")
	conf := fmt.Sprintf("Listen %s\nPort %s\nTimeout 4\nAllow 10.9.0.0/16\nMaxClients 200\nViaProxyName \"%s\"\nConnectPort 443\nLogFile %q\n%s\n",
		host, port, name, b.path(name+".log"), lines)
	return device{
		b.dmz, map[string]string{name + ".conf": conf, "resolv.conf": "nameserver " + resolverAddr + "\noptions timeout:1 attempts:1\n"},
		[]string{"unshare", "-m", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec tinyproxy -d -c "$1"`, b.path("resolv.conf"), b.path(name + ".conf")},
		"tcp " + at,
	}
}

// devices are all that a world needs, in the order in which they need each other.
func (b *built) devices() ([]device, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	role := func(in *netns.Space, name string) device {
		return device{in, nil, append([]string{self, "-role", name, "-world", b.name, "-dir", b.dir}, b.again...), b.path(name + ".ready")}
	}
	out := []device{b.dnsmasq(), b.unbound(), role(b.inet, "internet")}
	fw, err := b.inspector(b.wall, "firewall-squid", fmt.Sprintf("http_port 127.0.0.1:3127\nhttps_port %d intercept", inspectPort), "127.0.0.1:3127")
	if err != nil {
		return nil, err
	}
	out = append(out, fw)
	switch b.name {
	case "squid":
		bump, err := b.inspector(b.dmz, "inspecting-squid", "http_port 10.9.3.10:3131", "10.9.3.10:3131")
		if err != nil {
			return nil, err
		}
		out = append(out, b.squid(b.dmz, "squid", "squid", "http_port 10.9.3.10:3128", "10.9.3.10:3128"),
			b.squid(b.dmz, "basic-squid", "squid", fmt.Sprintf(basicAuth, b.path("users")), "10.9.3.10:3129"),
			b.squid(b.dmz, "ntlm-squid", "squid", ntlmAuth, "10.9.3.10:3130"), bump, role(b.dmz, "parents"))
	case "tinyproxy":
		out = append(out, b.tinyproxy("tinyproxy", fmt.Sprintf("Filter %q\nFilterExtended On", b.path("denied.filter")), "10.9.3.20:8888"),
			b.tinyproxy("basic-tinyproxy", "BasicAuth alice s3cret", "10.9.3.20:8889"), role(b.dmz, "parents"))
	}
	return out, nil
}
