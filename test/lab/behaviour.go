package lab

import (
	"net"
	"time"
)

// Behaviour is what a site does, or the network on the way to it. The types of
// this package are all there are; Func is for whatever else a test needs.
type Behaviour interface {
	// serve plays the behaviour on an established connection, whose client has
	// perhaps sent its first bytes already. It returns when the play is over,
	// and then the connection is closed.
	serve(c *conn)
}

// Ending is how a connection ends, as its client sees it.
type Ending string

// The endings.
const (
	Reset   Ending = "reset"   // an RST
	Close   Ending = "close"   // a FIN; what the client still sends is read
	Silence Ending = "silence" // nothing more, until the client leaves
)

// What happens before there is a connection. Through the parent they are a 503
// with the X-Squid-Error that squid gives for them, at once.
type (
	// Refuse is a closed port: RST to the SYN.
	Refuse struct{}
	// Drop leaves the SYN unanswered.
	Drop struct{}
)

// What happens to an established connection. Through the parent it comes after
// the 200 to CONNECT, or instead of the answer to an absolute-form request.
type (
	// AtOnce ends the connection before the client sent anything. A Reset can
	// come so soon that connect(2) itself reports it.
	AtOnce Ending
	// AfterHello ends it when the client's first bytes were read: a whole
	// ClientHello, or whatever else came.
	AfterHello Ending
	// AfterServerHello ends it when the ServerHello record was sent and before
	// any other, or sends an Alert in clear there and then closes.
	AfterServerHello struct {
		End    Ending // without an Alert; "" is Close
		Alert  Alert
		MaxTLS uint16 // tls.VersionTLS12, say; 0 is TLS 1.3
	}
	// Alert answers the client's first bytes with a fatal TLS alert of this
	// number (RFC 8446 section 6), and closes.
	Alert uint8
	// MidStream is a Site that ends the connection within the body of its
	// first HTTP answer.
	MidStream struct {
		After int64 // bytes of the body that still arrive
		End   Ending
	}
	// BlockPage answers whatever came first, a ClientHello too, with an HTTP
	// page in clear text, and closes.
	BlockPage struct {
		Status   int    // 0 is 403
		Location string // with a 3xx Status: where to
		Body     string // "" is a short page
	}
	// Slow waits For, then plays Then. Where Then is the parent's own
	// behaviour, it is the parent's reply that is slow.
	Slow struct {
		For  time.Duration
		Then Behaviour
	}
	// InTurn plays its behaviours one after the other, one for each connection,
	// and the last one for ever. Reached directly it may not hold Refuse, Drop
	// or an Answer.
	InTurn []Behaviour
	// Func is a behaviour of the caller's own. The connection is closed when it
	// returns; it must return when reading or writing fails.
	Func func(c net.Conn)
)

// What works.
type (
	// Echo sends back every byte.
	Echo struct{}
	// Banner speaks first, then swallows what comes. Through the parent the
	// banner is in one write with the 200 to CONNECT.
	Banner string
)

// Alerts that firewalls send.
const (
	HandshakeFailure Alert = 40
	AccessDenied     Alert = 49
	InternalError    Alert = 80
	UnrecognizedName Alert = 112
)

// Banners of servers that speak first.
const (
	SSH  Banner = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"
	SMTP Banner = "220 mail.example.org ESMTP ready\r\n"
)

// What the parent itself does. Reached directly, these are a working Site.
type (
	// ParentStatus answers with this status. 407 comes with a challenge.
	ParentStatus struct {
		Code        int
		SquidError  string // X-Squid-Error: "ERR_DNS_FAIL 0"
		ProxyStatus string // Proxy-Status (RFC 9209): "gw; error=dns_error"
	}
	// ParentCut ends the connection in the middle of the first line of the
	// parent's reply; with Silence it leaves the reply unfinished.
	ParentCut Ending
	// ParentSilence never replies.
	ParentSilence struct{}
	// ParentForward hands the request, as it came, to another proxy
	// ("127.0.0.1:3128"), and copies both ways: chains and loops.
	ParentForward string
)
