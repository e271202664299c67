package nftables

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routes give marked packets to local sockets, in both families. nil is none.
type routes struct{ handle *netlink.Handle }

// layRoutes makes them, in place of those that a killed process left behind.
func layRoutes() (*routes, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("make routes for TPROXY: %w", err)
	}
	r := &routes{h}
	lo, err := h.LinkByName("lo")
	if err == nil {
		err = errors.Join(r.lay(lo, unix.AF_INET), sixless(r.lay(lo, unix.AF_INET6)))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make routes for TPROXY: %w", err), r.close())
	}
	return r, nil
}

// sixless forgives that the kernel has no IPv6: nothing comes by it either.
func sixless(err error) error {
	for _, none := range []error{syscall.EOPNOTSUPP, syscall.EAFNOSUPPORT, syscall.EACCES, syscall.ENODEV} {
		if errors.Is(err, none) {
			return nil
		}
	}
	return err
}

func (r *routes) lay(lo netlink.Link, family int) error {
	if err := r.handle.RouteReplace(local(lo, family)); err != nil {
		return err
	}
	for r.handle.RuleDel(marked(family)) == nil { // the kernel would take it twice
	}
	return r.handle.RuleAdd(marked(family))
}

// marked is the rule that sends marked packets to our routes.
func marked(family int) *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family, rule.Mark, rule.Table = family, Mark, Route
	return rule
}

// local is the route by which every address is this host's.
func local(lo netlink.Link, family int) *netlink.Route {
	size := net.IPv4len
	if family == unix.AF_INET6 {
		size = net.IPv6len
	}
	all := &net.IPNet{IP: make(net.IP, size), Mask: net.CIDRMask(0, size*8)}
	return &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: all, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Table: Route}
}

// close removes them. Those that are gone already are no error.
func (r *routes) close() error {
	if r == nil {
		return nil
	}
	defer r.handle.Close()
	lo, err := r.handle.LinkByName("lo")
	if err != nil {
		return err
	}
	var errs []error
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		for _, err := range []error{r.handle.RuleDel(marked(family)), r.handle.RouteDel(local(lo, family))} {
			if !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.ESRCH) {
				errs = append(errs, sixless(err))
			}
		}
	}
	return errors.Join(errs...)
}
