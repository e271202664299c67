package lab

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// maxHomes bounds the addresses: names under a wildcard get theirs when they
// are first asked for.
const maxHomes = 4096

// settle chooses the stand-ins of the ports, and gives every name of the script
// its address.
func (w *World) settle() error {
	for _, port := range w.rules.ports() {
		stand, err := w.standIn()
		if err != nil {
			return fmt.Errorf("find a stand-in for port %d: %w", port, err)
		}
		w.ports[port] = stand
	}
	for t := range w.rules {
		if strings.HasPrefix(t.host, "*") || !w.rules.answer(t.host).own() {
			continue
		}
		if _, err := w.home(t.host); err != nil {
			return err
		}
	}
	return nil
}

// standIn finds a port that is free in the lab's block, under those that the
// kernel gives to clients (net.ipv4.ip_local_port_range).
func (w *World) standIn() (uint16, error) {
	var errs []error
	for range 50 {
		port := uint16(20000 + rand.IntN(12000))
		l, err := net.Listen("tcp4", netip.AddrPortFrom(w.address(1), port).String())
		if err == nil {
			w.own(l) // so that a lab with the same block takes another port
			return port, nil
		}
		errs = append(errs, err)
	}
	return 0, errors.Join(errs...)
}

// address is the nth of the lab's block.
func (w *World) address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, w.block, byte(n >> 8), byte(n)})
}

// home is the address of a name. With the first call its listeners open.
func (w *World) home(name string) (netip.Addr, error) {
	w.homing.Lock()
	defer w.homing.Unlock()
	if a, ok := w.homes[name]; ok {
		return a, nil
	}
	if len(w.homes) >= maxHomes {
		return netip.Addr{}, fmt.Errorf("site %q: more than %d have an address", name, maxHomes)
	}
	a := w.address(len(w.homes) + 2)
	for port, stand := range w.ports {
		if err := w.listen(name, port, netip.AddrPortFrom(a, stand)); err != nil {
			return a, fmt.Errorf("site %q: %w", name, err)
		}
	}
	w.homes[name] = a
	return a, nil
}

// listen opens the site name:port at addr, as its rule has it; without a rule
// the port stays closed.
func (w *World) listen(name string, port uint16, addr netip.AddrPort) error {
	switch w.rule(name, port).(type) {
	case nil, Refuse:
		return nil
	case Drop:
		l, err := deaf(addr)
		if err != nil {
			return err
		}
		w.own(l)
		return nil
	}
	l, err := net.Listen("tcp4", addr.String())
	if err != nil {
		return err
	}
	w.accept(l, func(c *conn) {
		c.name, c.port = name, port
		c.saw("accept")
		w.behaviour(name, port).serve(c)
	})
	return nil
}

// Port is the stand-in at which every site listens directly that the script has
// at this port: 443, 80 and those of its targets have one, others 0.
func (w *World) Port(port uint16) uint16 { return w.ports[port] }

// Address is where the site of a name and port listens directly. It is not
// valid for a name that the script does not know or gives other addresses, or a
// port without a stand-in.
func (w *World) Address(name string, port uint16) netip.AddrPort {
	name = normal(name)
	stand, ok := w.ports[port]
	if !ok || !w.answer(name).own() {
		return netip.AddrPort{}
	}
	a, err := w.home(name)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, stand)
}

// Shell is what to connect to, one KEY='VALUE' a line for a shell: PARENT, DNS,
// CA where ca is not "", and PORT_n with the stand-in of each port.
func (w *World) Shell(ca string) string {
	var b strings.Builder
	line := func(key, value string) {
		fmt.Fprintf(&b, "%s='%s'\n", key, strings.ReplaceAll(value, "'", `'\''`))
	}
	line("PARENT", w.Parent().String())
	line("DNS", w.DNS().String())
	if ca != "" {
		line("CA", ca)
	}
	for _, port := range slices.Sorted(maps.Keys(w.ports)) {
		line(fmt.Sprintf("PORT_%d", port), fmt.Sprint(w.ports[port]))
	}
	return b.String()
}
