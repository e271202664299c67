package main

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
)

// Words for addresses in fault.addrs, beside literal ones.
const (
	own         = "own"          // the cell's, of the world's family
	own6        = "own6"         // the cell's IPv6 address, in a world of IPv4
	private     = "private"      // RFC 1918
	shared      = "shared"       // RFC 6598
	uniqueLocal = "unique-local" // RFC 4193
	portal      = "portal"       // the company's block page
	knownPortal = "known-portal" // one that egressaudit was told of
	closed      = "closed"       // nothing listens there
)

// cell is one client's one attempt at one host name.
type cell struct {
	fault
	n       int // of its world, from 1
	way     string
	host    string
	port    uint16
	get     bool   // plain HTTP, to a proxy in absolute form; else TLS, through a proxy by CONNECT
	direct  bool   // the client knows of no proxy: its traffic is captured
	client  string // curl, go, python, openssl
	tls     string // "1.2", "1.3"; "" for GET
	want    verdict
	addrs   []string // what its name resolves to
	through string   // a key of sides; "" is directly
}

// method is the cell's column of the translation table, without the way.
func (c *cell) method() string {
	switch {
	case c.get:
		return "GET"
	case c.direct:
		return "TLS"
	}
	return "CONNECT"
}

func (c *cell) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s, %s %s, %s %s", c.cause, c.way, c.method(), c.client, c.tls))
}

// url is what the client asks for.
func (c *cell) url() string {
	if c.get {
		return "http://" + c.host + c.pathOf()
	}
	return "https://" + c.host + c.pathOf()
}

func (c *cell) pathOf() string {
	switch {
	case c.path != "":
		return c.path
	case strings.HasSuffix(c.cause, "-in-data"):
		return "/bytes/100000"
	}
	return "/"
}

// world is what is built in one set of namespaces.
type world struct {
	name   string
	letter byte
	family int    // of the sites
	way    string // direct, squid, tinyproxy, redirect, tproxy
	thin   bool   // two clients instead of four
	sides  []string
	cells  []*cell
}

// captured says that the world's clients know of no proxy, and its gateway sends
// their traffic to one.
func (w *world) captured() bool { return w.way == "redirect" || w.way == "tproxy" }

// column is where the translation table has the way.
func (w *world) column(way string) string {
	if w.captured() {
		return "captured" // what is to be said does not depend on how
	}
	return way
}

// worlds are those of the matrix.
func worlds() []*world {
	return []*world{
		{name: "direct4", letter: 'a', family: 4, way: "direct"},
		{name: "direct6", letter: 'b', family: 6, way: "direct", thin: true},
		{name: "squid", letter: 'c', family: 4, way: "squid"},
		{name: "tinyproxy", letter: 'd', family: 4, way: "tinyproxy", thin: true},
		{name: "redirect4", letter: 'e', family: 4, way: "redirect"},
		{name: "redirect6", letter: 'f', family: 6, way: "redirect", thin: true},
		{name: "tproxy4", letter: 'g', family: 4, way: "tproxy", thin: true},
		{name: "tproxy6", letter: 'h', family: 6, way: "tproxy", thin: true},
	}
}

// plan fills the worlds with their cells. It gives the same for the same seed, in
// every process.
func plan(t *tables, seed uint64, only string) ([]*world, error) {
	all := worlds()
	for _, w := range all {
		if err := w.fill(t, only); err != nil {
			return nil, err
		}
		h := fnv.New64a()
		h.Write([]byte(w.name))
		order := rand.New(rand.NewPCG(seed, h.Sum64()))
		order.Shuffle(len(w.cells), func(i, j int) { w.cells[i], w.cells[j] = w.cells[j], w.cells[i] })
	}
	return all, nil
}

func (w *world) fill(t *tables, only string) error {
	var todo []fault
	for i, f := range faults {
		todo = append(todo, f)
		if i%4 == 0 {
			todo = append(todo, fault{cause: "works"})
		}
	}
	for _, f := range todo {
		if w.family == 6 && !f.plays6() || !strings.Contains(f.cause, only) {
			continue
		}
		if err := w.add(t, f, w.way, ""); err != nil {
			return err
		}
	}
	for _, f := range sideFaults {
		if !slices.Contains(sides[f.side].worlds, w.name) || !strings.Contains(f.cause, only) {
			continue
		}
		if err := w.add(t, f, "", f.side); err != nil {
			return err
		}
	}
	for _, c := range w.cells {
		if c.through != "" && !slices.Contains(w.sides, c.through) {
			w.sides = append(w.sides, c.through)
		}
	}
	return nil
}

// plays6 leaves out what has nothing to do with the family.
func (f fault) plays6() bool {
	return f.dns == "" && len(f.addrs) == 0 && f.path == ""
}

// add makes the cells of one fault on one way.
func (w *world) add(t *tables, f fault, way, parent string) error {
	if parent == "" && way != "direct" && !w.captured() {
		parent = way
	}
	for _, get := range []bool{false, true} {
		c := cell{fault: f, way: way, get: get, direct: w.captured(), through: parent}
		column := strings.TrimSpace(w.column(way) + " " + c.method())
		for _, who := range w.clients(&c) {
			c := c
			c.client, c.tls, _ = strings.Cut(who, " ")
			want, plays, err := t.expect(f.cause, column, c.client, c.tls)
			if err != nil {
				return err
			}
			if plays && (f.only == "" || get || f.only == c.tls) {
				c.want = want
				w.place(&c)
			}
		}
	}
	return nil
}

// clients are who tries a cell's fault, as "curl 1.3": all in both versions of
// TLS where it shows in what they say, else some by turns.
func (w *world) clients(c *cell) []string {
	turn := len(w.cells)
	pick := func(from []string, n int) (out []string) {
		for i := range n {
			out = append(out, from[(turn+i)%len(from)])
		}
		return out
	}
	tunnelled := []string{"curl 1.3", "go 1.2", "python 1.3", "openssl 1.2", "curl 1.2", "go 1.3", "python 1.2", "openssl 1.3"}
	switch {
	case c.raw:
		return []string{"go"}
	case c.inTunnel:
		return []string{"curl"}
	case c.sni != "":
		return []string{"curl 1.2", "curl 1.3"}
	case c.get:
		return pick([]string{"curl", "go", "python"}, 1)
	case c.before() || c.side != "" && c.side != "squid-inspects" || c.cause == "works":
		return pick(tunnelled, 2)
	case w.thin:
		return []string{"curl 1.2", "curl 1.3", "go 1.2", "go 1.3"}
	}
	return tunnelled
}

// place gives the cell its number, name and addresses.
func (w *world) place(c *cell) {
	c.n = len(w.cells) + 1
	c.host = fmt.Sprintf("%c%04d-%s.%s", w.letter, c.n, c.cause, zone(c.dns))
	c.port = 443
	if c.get {
		c.port = 80
	}
	words := c.fault.addrs
	if words == nil {
		words = []string{own}
	}
	c.addrs = nil
	for _, word := range words {
		c.addrs = append(c.addrs, w.address(word, c.n))
	}
	w.cells = append(w.cells, c)
}

// companion is another name, with an address of its own: of server-first
// protocols that are captured the address is all there is.
func (c *cell) companion() string { return "beside-" + c.host }

func (w *world) beside(c *cell) string { return w.address(own, 10000+c.n) }

// zone is the domain of a name: dnsmasq knows all of example.com, and refuses
// what it does not know, of which unbound makes SERVFAIL.
func zone(a answer) string {
	if a == servfail {
		return "example.net"
	}
	return "example.com"
}

// Where the company's block pages are.
const (
	portalAddr      = "198.19.255.254"
	knownPortalAddr = "198.19.255.253" // --block-page
)

// address is a word's address for the cell n; a literal one is itself.
func (w *world) address(word string, n int) string {
	v4 := func(a, b int) string { return fmt.Sprintf("%d.%d.%d.%d", a, b, n/250, n%250+1) }
	switch word {
	case own:
		if w.family == 6 {
			return fmt.Sprintf("2001:db8:1::%x", n)
		}
		return v4(198, 18)
	case own6:
		return fmt.Sprintf("2001:db8:1::%x", n)
	case private:
		return v4(10, 66)
	case shared:
		return v4(100, 65)
	case uniqueLocal:
		return fmt.Sprintf("fd66::%x", n)
	case portal:
		return portalAddr
	case knownPortal:
		return knownPortalAddr
	case closed:
		return v4(198, 19)
	}
	return word
}
