//go:build linux

package dns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	bignum "math/big"
	randv2 "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// Addresses of this run, so that a second one finds the ports free.
var (
	ours = [2]byte{byte(64 + randv2.N(180)), byte(randv2.N(256))}
	last atomic.Uint32
)

// address is a loopback address that nobody else uses.
func address() string {
	n := last.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", ours[0], ours[1]+byte(n/250), 1+n%250)
}

// zoneText is the authority's zone lab.example, with the address of a web site. It
// is signed by the server.
func zoneText(site string) string {
	var z strings.Builder
	z.WriteString(`$ORIGIN lab.example.
$TTL 300
@      SOA   ns admin 1 3600 600 86400 60
@      NS    ns
ns     A     192.0.2.53
www    A     192.0.2.1
www    AAAA  2001:db8::1
fast   A     192.0.2.2
slow   A     192.0.2.3
chain  CNAME c1
c1     CNAME c2
c2     CNAME c3
c3     CNAME c4
c4     CNAME end
end    A     192.0.2.4
odd    TYPE65280 \# 4 0A000001
svc    HTTPS 1 . alpn="h3,h2" ech=AEX+DQBBpQAgACAH
text   TXT   "one" "two three"
here   A     127.0.0.1
*.any  A     192.0.2.9
`)
	for i := range 750 {
		fmt.Fprintf(&z, "big A 198.51.%d.%d\n", i/250, i%250)
	}
	for i := range 50 {
		fmt.Fprintf(&z, "mid A 203.0.113.%d\n", i)
	}
	fmt.Fprintf(&z, "site A %s\n*.sites A %s\n", site, site)
	return z.String()
}

// servers are the name servers that all tests share.
type servers struct {
	once      sync.Once
	dir       string
	knot      *daemon
	unbound   *daemon
	authority string // knot's ADDRESS:PORT
	resolver  string // unbound's, and
	secure    string // the one where it speaks TLS, as dns.lab.example
	ca        string // file of the certificate's issuer
	site      string // address of the site in the zone; serveSite serves it
	err       error
}

var shared servers

// network starts the servers, once.
func network(t *testing.T) *servers {
	t.Helper()
	shared.once.Do(func() { shared.err = shared.start() })
	require.NoError(t, shared.err)
	return &shared
}

func (s *servers) start() (err error) {
	if s.dir, err = os.MkdirTemp("", "egressaudit-dns-servers-"); err != nil {
		return err
	}
	s.authority = address() + ":53"
	s.site = address()
	if s.knot, err = s.startKnot(); err != nil {
		return err
	}
	anchor, err := s.anchor()
	if err != nil {
		return err
	}
	host := address()
	s.resolver, s.secure, s.ca = host+":53", host+":853", filepath.Join(s.dir, "ca.pem")
	if err := s.certificate(host); err != nil {
		return err
	}
	s.unbound, err = s.startUnbound(s.dir, host, anchor, true)
	return err
}

// end ends them all.
func (s *servers) end() {
	for _, d := range []*daemon{s.knot, s.unbound} {
		if d != nil {
			d.stop(syscall.SIGTERM)
		}
	}
	if s.dir != "" {
		os.RemoveAll(s.dir)
	}
}

// startKnot serves lab.example, signed, and bogus.example, which is not though
// unbound is told that it is. Whoever asks may transfer and update: what refuses
// that is not knot.
func (s *servers) startKnot() (*daemon, error) {
	dir, at := s.dir, s.authority
	conf := filepath.Join(dir, "knot.conf")
	texts := map[string]string{
		"lab.example.zone":   zoneText(s.site),
		"bogus.example.zone": "$ORIGIN bogus.example.\n$TTL 300\n@ SOA ns admin 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\nwww A 192.0.2.66\n",
		"knot.conf": fmt.Sprintf(`server:
    rundir: %[1]q
    listen: %[2]s
    nsid: knot-of-the-test
    udp-workers: 1
    tcp-workers: 2
    background-workers: 1
database:
    storage: %[1]q
log:
  - target: stderr
    any: warning
acl:
  - id: all
    action: [transfer, notify, update]
mod-cookies:
  - id: demanding
    badcookie-slip: 1
template:
  - id: default
    storage: %[1]q
    file: "%%s.zone"
    zonefile-sync: -1
    acl: all
    global-module: mod-cookies/demanding
zone:
  - domain: lab.example
    dnssec-signing: on
  - domain: bogus.example
`, dir, strings.Replace(at, ":", "@", 1)),
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return launch(at, "/usr/sbin/knotd", "-c", conf)
}

// anchor is the DNSKEY of the zone that unbound is to trust.
func (s *servers) anchor() (string, error) {
	q := new(dns.Msg).SetQuestion("lab.example.", dns.TypeDNSKEY)
	m, _, err := (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(q, s.authority)
	if err != nil {
		return "", err
	}
	for _, rr := range m.Answer {
		if k, ok := rr.(*dns.DNSKEY); ok && k.Flags&dns.SEP != 0 {
			return strings.ReplaceAll(k.String(), "\t", " "), nil
		}
	}
	return "", fmt.Errorf("knot has no key: %v", m)
}

// startUnbound recurses to knot and validates. It keeps nothing, so that each
// question goes all the way.
func (s *servers) startUnbound(dir, host, anchor string, secure bool) (*daemon, error) {
	port := s.authority[strings.Index(s.authority, ":")+1:]
	at := strings.TrimSuffix(s.authority, ":"+port) + "@" + port
	tls := ""
	if secure {
		tls = fmt.Sprintf("    interface: %s@853\n    tls-port: 853\n    tls-service-pem: %q\n    tls-service-key: %q\n",
			host, filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	}
	conf := filepath.Join(dir, "unbound-"+host+".conf")
	text := fmt.Sprintf(`server:
    interface: %s@53
%s    access-control: 127.0.0.0/8 allow
    username: ""
    chroot: ""
    directory: %q
    pidfile: ""
    use-syslog: no
    logfile: ""
    verbosity: 0
    num-threads: 1
    do-not-query-localhost: no
    ede: yes
    max-udp-size: 4096
    module-config: "validator iterator"
    trust-anchor: %q
    trust-anchor: %q
    cache-max-ttl: 0
    cache-max-negative-ttl: 0
    local-zone: cluster.local. always_nxdomain
remote-control:
    control-enable: no
stub-zone:
    name: lab.example
    stub-addr: %s
stub-zone:
    name: bogus.example
    stub-addr: %s
`, host, tls, dir, anchor, strings.Replace(anchor, "lab.example.", "bogus.example.", 1), at, at)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return launch(host+":53", "/usr/sbin/unbound", "-d", "-p", "-c", conf)
}

// certificate makes an authority, and a server's certificate of it.
func (s *servers) certificate(host string) error {
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: bignum.NewInt(1), Subject: pkix.Name{CommonName: "Lab root"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: bignum.NewInt(2), Subject: pkix.Name{CommonName: "dns.lab.example"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		DNSNames: []string{"dns.lab.example"}, IPAddresses: []net.IP{net.ParseIP(host)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &rootKey.PublicKey, rootKey)
	if err != nil {
		return err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, &leafKey.PublicKey, rootKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalECPrivateKey(leafKey)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		s.ca:                               {Type: "CERTIFICATE", Bytes: rootDER},
		filepath.Join(s.dir, "server.pem"): {Type: "CERTIFICATE", Bytes: leafDER},
		filepath.Join(s.dir, "server.key"): {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}
