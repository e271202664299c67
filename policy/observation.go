package policy

import (
	"net/netip"
	"strings"
	"time"
)

// Kind is the kind of a ledger record.
type Kind string

// The kinds of contract section 4.
const (
	KindStart      Kind = "start"
	KindStop       Kind = "stop"
	KindConnection Kind = "connection"
	KindRequest    Kind = "request"
	KindQuery      Kind = "query"
	KindMark       Kind = "mark"
	KindLost       Kind = "lost"
	KindEvent      Kind = "event"
)

// Origin is who made a connection through us.
type Origin string

// The origins.
const (
	OriginClient Origin = "client"
	OriginProbe  Origin = "probe"
	OriginCanary Origin = "canary"
	OriginCheck  Origin = "check"
)

// SNIState is what the client's first bytes say about a server name.
type SNIState string

// The states of the server name. SNINotTLS stands for everything that is not
// TLS, plain HTTP too.
const (
	SNIPresent  SNIState = "present"
	SNIAbsent   SNIState = "absent"
	SNIECH      SNIState = "ech"
	SNINotTLS   SNIState = "not_tls"
	SNIUnparsed SNIState = "unparsed"
)

// NameFrom is where the judged name was taken from.
type NameFrom string

// The sources of a name.
const (
	FromSNI     NameFrom = "sni"
	FromAsked   NameFrom = "asked"
	FromHost    NameFrom = "host"
	FromDNS     NameFrom = "dns"
	FromAddress NameFrom = "address"
)

// Decision is what we decided about a connection.
type Decision string

// The decisions.
const (
	Allow Decision = "allow"
	Deny  Decision = "deny"
)

// Observation is one fact that a sensor saw: a connection, a plain HTTP request
// or a DNS question. Zero fields are unknown or empty, and left out of the
// ledger. Its kind says which fields have a meaning: contract section 4 lists
// them. Names that a client chose are kept as text, since not all of them are
// Names; control and bidi characters in them are for the renderings to escape.
type Observation struct {
	Kind  Kind      `json:"-"` // KindConnection, KindRequest or KindQuery
	Begun time.Time `json:"-"` // when it began; decides the phase

	ID         string         `json:"id,omitempty"`
	Open       bool           `json:"open,omitempty"` // interim: the closing record with the same ID replaces it
	Origin     Origin         `json:"origin,omitempty"`
	Listener   string         `json:"listener,omitempty"` // connect, http, redirect, tproxy
	Client     netip.AddrPort `json:"client,omitzero"`
	Workload   string         `json:"workload,omitempty"`
	Asked      string         `json:"asked,omitempty"`
	SNI        string         `json:"sni,omitempty"`
	SNIState   SNIState       `json:"sni_state,omitempty"`
	Resolved   string         `json:"resolved,omitempty"`
	Name       string         `json:"name,omitempty"` // the one that was judged; of a query, the one asked
	NameFrom   NameFrom       `json:"name_from,omitempty"`
	Port       uint16         `json:"port,omitempty"`
	Address    netip.AddrPort `json:"address,omitzero"`
	Protocol   string         `json:"protocol,omitempty"` // tls, http, quic, other, none
	Method     string         `json:"method,omitempty"`   // of a request
	Status     int            `json:"status,omitempty"`   // of a request
	Host       string         `json:"host,omitempty"`     // of a request
	ALPN       []string       `json:"alpn,omitempty"`
	TLSVersion string         `json:"tls_version,omitempty"` // "1.2", "1.3"
	Type       string         `json:"type,omitempty"`        // of a query
	Transport  string         `json:"transport,omitempty"`   // of a query: udp, tcp
	RCode      string         `json:"rcode,omitempty"`
	Answers    []string       `json:"answers,omitempty"`
	CNAMEs     []string       `json:"cnames,omitempty"`
	Upstream   string         `json:"upstream,omitempty"`
	Matches    []Match        `json:"matches,omitempty"`
	Decision   Decision       `json:"decision,omitempty"`
	WouldDeny  bool           `json:"would_deny,omitempty"`
	Verdict
	Detail      map[string]any `json:"detail,omitempty"` // strings, bools, integers, lists of strings
	BytesUp     int64          `json:"bytes_up,omitempty"`
	BytesDown   int64          `json:"bytes_down,omitempty"`
	ResolveMS   int64          `json:"resolve_ms,omitempty"`
	ConnectMS   int64          `json:"connect_ms,omitempty"`
	FirstByteMS int64          `json:"first_byte_ms,omitempty"`
	DurationMS  int64          `json:"duration_ms,omitempty"`
}

// Sink takes observations from a sensor. It never waits for a disk; an error
// says that the observation was not recorded.
type Sink func(*Observation) error

// Event is something that befell a workload: what the orchestrator tells of a pod.
// Its texts are somebody else's, and bounded by whoever made it.
type Event struct {
	Workload string // "namespace/pod"
	Reason   string // a word, such as "Failed"
	Text     string
	Count    int // how often it happened since it was told before; at least 1
}

// SchemaVersion is the schema of the records that this program writes.
const SchemaVersion = 1

// Record is one line of a ledger. Which of its parts are set depends on Kind:
// Session for start and stop, Observation for connection, request and query,
// Text for mark, Count and Why for lost, and for event Reason, Text, Count and the
// Workload of an Observation that has nothing else. encoding/json reads and writes
// it as one flat object.
type Record struct {
	Schema  int       `json:"schema"`
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"` // when the record was made, UTC
	Kind    Kind      `json:"kind"`
	Trial   string    `json:"trial,omitempty"`
	Vantage string    `json:"vantage,omitempty"`
	Phase   string    `json:"phase,omitempty"` // the one at the start of what the record tells

	*Session
	*Observation

	Reason string `json:"reason,omitempty"`
	Text   string `json:"text,omitempty"`
	Count  int    `json:"count,omitempty"`
	Why    string `json:"why,omitempty"`
}

// Session tells, at start and stop, under which circumstances was observed.
type Session struct {
	Version   string         `json:"version,omitempty"`
	Catalogs  []CatalogRef   `json:"catalogs,omitempty"`
	Scopes    []string       `json:"scopes,omitempty"`
	Regions   []string       `json:"regions,omitempty"`
	Set       []string       `json:"set,omitempty"` // other placeholders: "NAME=VALUE", in the order given
	Mode      string         `json:"mode,omitempty"`
	Parent    string         `json:"parent,omitempty"`    // URL without password
	Listeners []string       `json:"listeners,omitempty"` // "connect 127.0.0.1:3128"
	Limits    map[string]any `json:"limits,omitempty"`
	Ledger    string         `json:"ledger,omitempty"` // a UUID
	Canary    string         `json:"canary,omitempty"`
	NoProxy   []string       `json:"no_proxy,omitempty"`
	// BlindSpots are what whoever records knows that it cannot see, a sentence each.
	BlindSpots []string `json:"blind_spots,omitempty"`
	// ChildStatus is that of run's command, at stop.
	ChildStatus *int `json:"child_status,omitempty"`
}

// CatalogRef names the revision of a catalog.
type CatalogRef struct {
	Name     string `json:"name"`
	Revision string `json:"revision,omitempty"`
	Digest   string `json:"digest,omitempty"`
}

// Ref names c.
func (c *Catalog) Ref() CatalogRef { return CatalogRef{c.Name, c.Revision, c.Digest} }

// Resolution is what the resolver said of a host name.
type Resolution struct {
	Addrs    []netip.Addr // both families, in the order to try them (RFC 6724)
	CNAMEs   []string     // the chain, from the name asked to the one that has the addresses
	RCode    string       // "NOERROR", "NXDOMAIN", "SERVFAIL", ...; "" where no server answered; "NODATA" where NOERROR came without an address in either family
	Upstream string       // the server that answered, "hosts" for the hosts file
	Timeout  bool         // no server answered in time
	Detail   string       // what else is known of a failure (errno of the last try)
}

// PrivateLink says whether a chain of aliases goes through a private-link zone,
// so that a private address is what the owner of the name wanted.
func PrivateLink(cnames []string) bool {
	for _, c := range cnames {
		if strings.Contains("."+c, ".privatelink.") {
			return true
		}
	}
	return false
}
