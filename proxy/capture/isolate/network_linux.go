package isolate

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
)

// plug gives the namespace its loopback, an address of each family, and a route by
// which every destination is there: without one, nothing could even be sent to
// where the rules catch it.
func plug(c Config) error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err == nil {
		err = route(lo, Address4)
	}
	if err != nil {
		return fmt.Errorf("set up the loopback interface: %w", err)
	}
	if c.NoIPv6 {
		return nil
	}
	if err := route(lo, Address6); err != nil && !sixless(err) {
		return fmt.Errorf("set up IPv6 on the loopback interface: %w", err)
	}
	return nil
}

// sixless says that the kernel has no IPv6, so that nothing can leave by it either.
func sixless(err error) bool {
	errno, ok := err.(syscall.Errno)
	return ok && (errno == syscall.EOPNOTSUPP || errno == syscall.EAFNOSUPPORT || errno == syscall.EACCES || errno == syscall.EPERM)
}

func route(lo netlink.Link, own netip.Addr) error {
	bits := own.BitLen()
	ip := own.AsSlice()
	address := &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)}, Flags: syscall.IFA_F_NODAD}
	if err := netlink.AddrAdd(lo, address); err != nil {
		return err
	}
	all := &net.IPNet{IP: make(net.IP, len(ip)), Mask: net.CIDRMask(0, bits)}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: all, Src: ip, Type: syscall.RTN_LOCAL, Scope: netlink.SCOPE_HOST})
}
