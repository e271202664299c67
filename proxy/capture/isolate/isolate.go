package isolate

import (
	"errors"
	"net/netip"
)

// Errors that callers can test for.
var (
	// ErrForbidden says that the kernel gives this user no network namespace.
	ErrForbidden = errors.New("the kernel gives this user no network namespace of its own")
	// ErrUnsupported says that the system has none.
	ErrUnsupported = errors.New("network namespaces are supported on Linux only")
)

// The addresses of the namespace, from which its connections come. They are dummies
// by registration (RFC 7600, RFC 9780), so that nobody's destination is among them.
var (
	Address4 = netip.MustParseAddr("192.0.0.8")
	Address6 = netip.MustParseAddr("100:0:0:1::1")
)

// Clients are the addresses that connections in the namespace come from.
func Clients() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
		netip.PrefixFrom(Address4, 32), netip.PrefixFrom(Address6, 128),
	}
}

// Config says what a Space is like.
type Config struct {
	// Through are destinations on loopback that are captured all the same, TCP.
	Through []netip.AddrPort
	// NoIPv6 says that the host has no way out for IPv6. Then there is none inside,
	// too, so that clients take IPv4 as they would outside: a redirected connection
	// is accepted before anybody knows how it goes on.
	NoIPv6 bool
}

// verb is the first argument of this program when it is started by Start.
const verb = "isolated-command"
