package hello

// Protocol is what a stream's first bytes turned out to be.
type Protocol uint8

const (
	Undecided Protocol = iota // too few bytes to tell
	TLS                       // a TLS record stream, or an SSLv2-framed hello that offers SSL 3.0 or later
	HTTP                      // a plain HTTP/1.x request, or the HTTP/2 preface in the clear
	Other                     // anything else
)

// String returns the word used in records: "", "tls", "http" or "other".
func (p Protocol) String() string {
	switch p {
	case TLS:
		return "tls"
	case HTTP:
		return "http"
	case Other:
		return "other"
	}
	return ""
}

// Reason is why there is no TLS server name.
type Reason uint8

const (
	None      Reason = iota // there is one
	NotTLS                  // the stream is not TLS
	NoName                  // a whole ClientHello without the server_name extension
	Truncated               // the stream ended first
	Malformed               // lengths or contents contradict each other, or the protocol
	TimedOut                // the caller's clock ran out first
	TooLong                 // Limit bytes came, or were announced, without a decision
)

// String returns the word used in records: "" for None, else "not_tls",
// "no_name", "truncated", "malformed", "timed_out" or "too_long".
func (r Reason) String() string {
	switch r {
	case NotTLS:
		return "not_tls"
	case NoName:
		return "no_name"
	case Truncated:
		return "truncated"
	case Malformed:
		return "malformed"
	case TimedOut:
		return "timed_out"
	case TooLong:
		return "too_long"
	}
	return ""
}

// Hello is what the client's first bytes say. Names are claimed only from a
// whole, consistent hello or header: when Reason is anything but None, NoName
// or NotTLS, everything but Protocol and Method is zero.
type Hello struct {
	Protocol Protocol

	// Reason is why ServerName is empty: None exactly when it is not. For HTTP
	// it is NotTLS after a whole, well-formed header, and else what kept the
	// header from being one.
	Reason Reason

	// ServerName is the first host_name of the server_name extension (RFC 6066
	// section 3) as sent: any bytes, of any length up to the limit, possibly an
	// address.
	ServerName string

	// ALPN is the client's protocol list (RFC 7301) in its order, the first 32.
	ALPN []string

	// ECH says that the hello carries encrypted_client_hello (RFC 9849, 0xfe0d)
	// or its predecessor encrypted_server_name (0xffce). ServerName is then
	// possibly a public name in front of the real one; clients that have no key
	// send the extension as well, filled with noise (GREASE).
	ECH bool

	// EarlyData says that 0-RTT data was offered (RFC 8446 section 4.2.10).
	EarlyData bool

	// Version is the highest version offered: in supported_versions, GREASE and
	// unknown numbers left out, else legacy_version. A draft of TLS 1.3 (0x7fNN)
	// counts as more than 0x0303 and less than 0x0304. Zero if not TLS.
	Version uint16

	// Host is, of an HTTP request, the authority of an absolute-form or CONNECT
	// target (RFC 9112 section 3.2.2: it wins), else the Host field's value, as
	// sent, port included, at most 512 bytes.
	Host string

	// Method is the method of an HTTP request, at most 32 bytes.
	Method string
}
