package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/test/lab"
)

// fault is how one cause of the translation table is provoked. The zero fault is
// a site that works.
type fault struct {
	cause string // its row in the table

	site     lab.Behaviour // what answers at the address; nil: lab.Site{}
	dns      answer        // what the resolver says
	addrs    []string      // it says these: addresses, or words of plan.address; nil: the cell's own
	block    string        // what the firewall does to connections to the address: a key of rejects
	block6   string        // the same for the IPv6 address alone
	route    string        // type of a route for the address in the namespace that dials: "blackhole"
	byName   string        // what the firewall does to packets that hold the name: a target of iptables
	inspect  bool          // the firewall breaks TLS open
	needs    string        // of the endpoint
	path     string        // asked for in absolute form; "" is "/"
	insecure bool          // the client takes any certificate
	wait     time.Duration // how long the client waits, where nothing comes; 0: patience
	only     string        // this version of TLS alone
	lives    bool          // the client is content although the connection is not
	dies     bool          // the client is not content although all was well
	denied   bool          // by the parent's list

	inTunnel bool          // the client asks for plain HTTP through CONNECT
	raw      bool          // the client reads the first line that comes, without a word of its own
	holds    time.Duration // and stays for as long
	beside   bool          // the client has another connection already, to a name of its own
	sni      string        // the client says this name in its hello
	unlisted bool          // the name is in no catalog

	side string // the egressaudit that it goes through: a key of sides; "" is that of its way
}

// answer is what the resolver does for a name.
type answer string

const (
	nxdomain    answer = "nxdomain"
	servfail    answer = "servfail"
	dnsRefused  answer = "refused"
	nodata      answer = "nodata"
	dnsSilence  answer = "silence"
	privateLink answer = "privatelink"
)

const (
	resetName = "REJECT --reject-with tcp-reset"
	dropName  = "DROP"
)

// faults are played directly, through squid and through tinyproxy, as far as the
// translation table says.
var faults = []fault{
	{cause: "nxdomain", dns: nxdomain},
	{cause: "servfail", dns: servfail},
	{cause: "dns-refused", dns: dnsRefused},
	{cause: "nodata", dns: nodata},
	{cause: "dns-silent", dns: dnsSilence},
	{cause: "sinkhole-zero", addrs: []string{"0.0.0.0"}},
	{cause: "sinkhole-zero6", addrs: []string{"::"}},
	{cause: "sinkhole-loopback", addrs: []string{"127.0.0.1"}},
	{cause: "sinkhole-loopback6", addrs: []string{"::1"}},
	{cause: "sinkhole-link-local", addrs: []string{"169.254.7.7"}},
	{cause: "sinkhole-private-dropped", addrs: []string{private}, block: "drop"},
	{cause: "sinkhole-private-refused", addrs: []string{private}, block: "tcp-reset"},
	{cause: "sinkhole-private-unroutable", addrs: []string{private}, block: "host-unreachable"},
	{cause: "sinkhole-private-reset", addrs: []string{private}, site: lab.AfterHello(lab.Reset)},
	{cause: "sinkhole-private-silent", addrs: []string{private}, site: lab.AfterHello(lab.Silence), wait: impatience},
	{cause: "sinkhole-private-alert", addrs: []string{private}, site: lab.AccessDenied},
	{cause: "sinkhole-private-block-page", addrs: []string{private}, site: lab.BlockPage{}},
	{cause: "sinkhole-private-foreign-ca", addrs: []string{private}, site: lab.ForeignCA},
	{cause: "sinkhole-shared-dropped", addrs: []string{shared}, block: "drop"},
	{cause: "sinkhole-unique-local-dropped", addrs: []string{uniqueLocal}, block: "drop"},
	{cause: "private-works", addrs: []string{private}},
	{cause: "private-link-works", addrs: []string{private}, dns: privateLink},
	{cause: "private-link-dropped", addrs: []string{private}, dns: privateLink, block: "drop"},
	{cause: "private-link-refused", addrs: []string{private}, dns: privateLink, block: "tcp-reset"},
	{cause: "private-link-inspected", addrs: []string{private}, dns: privateLink, inspect: true, insecure: true, needs: "no-tls-inspection", lives: true},
	{cause: "guarded-metadata", addrs: []string{"169.254.169.254"}},
	{cause: "guarded-multicast", addrs: []string{"224.0.0.1"}},
	{cause: "block-page-address", addrs: []string{portal}, lives: true},
	{cause: "block-page-configured", addrs: []string{knownPortal}, lives: true},

	{cause: "port-closed", addrs: []string{closed}},
	{cause: "tcp-reset", block: "tcp-reset"},
	{cause: "port-unreachable", block: "port-unreachable"},
	{cause: "dropped", block: "drop"},
	{cause: "host-unreachable", block: "host-unreachable"},
	{cause: "net-unreachable", block: "net-unreachable"},
	{cause: "host-prohibited", block: "host-prohibited"},
	{cause: "net-prohibited", block: "net-prohibited"},
	{cause: "admin-prohibited", block: "admin-prohibited"},
	{cause: "route-unreachable", route: "unreachable"},
	{cause: "route-prohibited", route: "prohibit"},
	{cause: "route-blackhole", route: "blackhole"},
	{cause: "ipv6-dropped-ipv4-works", addrs: []string{own, own6}, block6: "drop"},
	{cause: "ipv6-unroutable-ipv4-dropped", addrs: []string{own, own6}, block: "drop", block6: "no-route"},

	{cause: "closed-at-once", site: lab.AtOnce(lab.Close)},
	{cause: "reset-after-hello", site: lab.AfterHello(lab.Reset)},
	{cause: "closed-after-hello", site: lab.AfterHello(lab.Close)},
	{cause: "silent-after-hello", site: lab.AfterHello(lab.Silence), wait: impatience},
	{cause: "name-reset", byName: resetName},
	{cause: "name-dropped", byName: dropName, wait: impatience},
	{cause: "alert-handshake-failure", site: lab.HandshakeFailure},
	{cause: "alert-access-denied", site: lab.AccessDenied},
	{cause: "alert-unrecognized-name", site: lab.UnrecognizedName},
	{cause: "block-page-in-tls", site: lab.BlockPage{}},
	{cause: "ssh-in-tls", site: lab.Func(says("SSH-2.0-OpenSSH_9.2p1\r\n"))},
	{cause: "reset-after-server-hello", site: lab.AfterServerHello{End: lab.Reset}},
	{cause: "closed-after-server-hello", site: lab.AfterServerHello{End: lab.Close}},
	{cause: "silent-after-server-hello", site: lab.AfterServerHello{End: lab.Silence}, wait: impatience},
	{cause: "alert-after-server-hello", site: lab.AfterServerHello{Alert: lab.InternalError}, only: "1.2"},
	{cause: "server-speaks-first", site: lab.SSH, raw: true},
	{cause: "other-group", site: lab.Site{Retry: true}, only: "1.3"},
	{cause: "foreign-ca", site: lab.ForeignCA},
	{cause: "inspected", inspect: true},
	{cause: "inspected-accepted", inspect: true, insecure: true},
	{cause: "inspected-needs-none", inspect: true, insecure: true, needs: "no-tls-inspection", lives: true},
	{cause: "needs-no-inspection", needs: "no-tls-inspection"},
	{cause: "expired", site: lab.Site{Expired: true}},
	{cause: "other-name", site: lab.Site{WrongName: true}},
	{cause: "reset-in-data", site: lab.MidStream{After: 5, End: lab.Reset}, dies: true},
	{cause: "closed-in-data", site: lab.MidStream{After: 5, End: lab.Close}, dies: true},

	{cause: "origin-401", path: "/status/401"},
	{cause: "origin-403", path: "/status/403"},
	{cause: "origin-404", path: "/status/404"},
	{cause: "origin-451", path: "/status/451"},
	{cause: "origin-503", path: "/status/503"},
	{cause: "redirect-within", site: lab.Site{Location: "https://www.example.com"}},
	{cause: "redirect-to-portal", site: lab.Site{Location: "http://portal.corp.test"}, lives: true},
	{cause: "status-511", path: "/status/511", lives: true},
	{cause: "tunnelled-http-works", inTunnel: true},
	{cause: "tunnelled-http-origin-404", inTunnel: true, path: "/status/404"},
	{cause: "tunnelled-http-reset-after-hello", inTunnel: true, site: lab.AfterHello(lab.Reset)},
	{cause: "tunnelled-http-silent", inTunnel: true, site: lab.AfterHello(lab.Silence), wait: impatience},
	{cause: "tunnelled-http-status-511", inTunnel: true, path: "/status/511"},
	{cause: "tunnelled-http-marked-403", inTunnel: true, site: marked(403)},
	{cause: "tunnelled-http-redirect-to-portal", inTunnel: true, site: lab.Site{Location: "http://portal.corp.test"}},
	{cause: "marked-403", site: marked(403), lives: true},
	{cause: "marked-451", site: marked(451), lives: true},
}

// sideFaults are played once, through the side that each names.
var sideFaults = []fault{
	{cause: "squid-acl", side: "squid", denied: true},
	{cause: "squid-basic-right", side: "squid-basic-right"},
	{cause: "squid-basic-wrong", side: "squid-basic-wrong"},
	{cause: "squid-basic-missing", side: "squid-basic-missing"},
	{cause: "squid-ntlm", side: "squid-ntlm"},
	{cause: "squid-inspects", side: "squid-inspects"},
	{cause: "squid-slow", side: "squid-slow"},
	{cause: "tinyproxy-filter", side: "tinyproxy", denied: true},
	{cause: "tinyproxy-basic-right", side: "tinyproxy-basic-right"},
	{cause: "tinyproxy-basic-wrong", side: "tinyproxy-basic-wrong"},
	{cause: "tinyproxy-basic-missing", side: "tinyproxy-basic-missing"},
	{cause: "parent-negotiate", side: "negotiate"},
	{cause: "parent-502", side: "502"},
	{cause: "parent-503-dns", side: "503-dns"},
	{cause: "parent-504-dns", side: "504-dns"},
	{cause: "parent-closed-in-reply", side: "closed-in-reply"},
	{cause: "parent-reset-in-reply", side: "reset-in-reply"},
	{cause: "parent-silent", side: "silent", wait: impatience},
	{cause: "parent-down", side: "down"},
	{cause: "parent-dropped", side: "dropped"},
	{cause: "parent-unroutable", side: "unroutable"},
	{cause: "parent-loop", side: "loop"},
	{cause: "parent-unresolved", side: "unresolved"},

	{cause: "enforce-listed", side: "enforce"},
	{cause: "enforce-unlisted", side: "enforce", unlisted: true},
	{cause: "enforce-other-server-name", side: "enforce", sni: "elsewhere.example.org"},
	{cause: "limit-reached", side: "limit", site: lab.SSH, raw: true, beside: true},
	{cause: "idle-limit", side: "idle", site: lab.SSH, raw: true, holds: patience},
	{cause: "client-leaves-early", side: "slow-to-judge", site: lab.AfterHello(lab.Silence), wait: 400 * time.Millisecond},
}

// scripted are the parents that the lab plays in the dmz.
var scripted = map[string]lab.Behaviour{
	"502":             lab.ParentStatus{Code: http.StatusBadGateway},
	"503-dns":         lab.ParentStatus{Code: http.StatusServiceUnavailable, SquidError: "ERR_DNS_FAIL 0"},
	"504-dns":         lab.ParentStatus{Code: http.StatusGatewayTimeout, ProxyStatus: "gw.corp.test; error=dns_timeout"},
	"closed-in-reply": lab.ParentCut(lab.Close),
	"reset-in-reply":  lab.ParentCut(lab.Reset),
	"silent":          lab.ParentSilence{},
}

// says answers whatever comes first with a text, and closes.
func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := c.Read(make([]byte, 4096)); err == nil {
			io.WriteString(c, text)
			c.(interface{ CloseWrite() error }).CloseWrite()
			io.Copy(io.Discard, c)
		}
	}
}

// marked is the refusal of a device that gives its name.
func marked(status int) lab.Behaviour {
	text := "HTTP/1.1 " + map[int]string{403: "403 Forbidden", 451: "451 Unavailable For Legal Reasons"}[status] +
		"\r\nServer: Zscaler/6.2\r\nContent-Type: text/html\r\nContent-Length: 7\r\nConnection: close\r\n\r\nblocked"
	return lab.Func(says(text))
}

// before says that the fault is met before the client's first bytes, so that it
// does not matter who the client is.
func (f fault) before() bool {
	return f.dns != "" && f.dns != privateLink || f.block != "" || f.route != "" ||
		strings.HasPrefix(f.cause, "guarded-") || strings.HasPrefix(f.cause, "sinkhole-") && f.site == nil || len(f.addrs) > 0 && f.addrs[0] == closed
}
