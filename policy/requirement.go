package policy

import "time"

// Protocol is what a requirement says is spoken at its endpoint.
type Protocol string

// The protocols of a catalog file.
const (
	HTTPS Protocol = "https"
	HTTP  Protocol = "http"
	WSS   Protocol = "wss"
	TCP   Protocol = "tcp"
	UDP   Protocol = "udp"
)

// Need is what an endpoint demands of the devices in its path besides being let
// through.
type Need string

// The needs of a catalog file.
const (
	NeedWebsocket       Need = "websocket"
	NeedNoTLSInspection Need = "no-tls-inspection"
)

// Source is the publisher's page that a catalog or requirement was taken from.
type Source struct {
	Title string `json:"title,omitempty"`
	URL   string `json:"url,omitempty"`
}

// Catalog is a versioned list of requirements from one publisher page. Its
// placeholders are filled already, as far as values were given.
type Catalog struct {
	Name         string
	Title        string
	Revision     string
	Digest       string // "sha256:" and the hex digest of the catalog file
	Source       Source
	Requirements []*Requirement
}

// Requirement is one row of the publisher's page. Each of its Hosts, together
// with Port, is one endpoint.
type Requirement struct {
	ID       string
	Scope    string
	Hosts    []Pattern
	Port     uint16
	Protocol Protocol
	Purpose  string
	Source   string // URL of the page, where it differs from the catalog's
	Needs    []Need
	Optional bool
	From     time.Time // the first day it holds; zero: since ever
	Until    time.Time // the first day it holds no longer; zero: for ever
	AnyOf    string    // requirements of a catalog that share a group are alternatives
}

// Wants says whether the requirement has the need n.
func (r *Requirement) Wants(n Need) bool {
	for _, m := range r.Needs {
		if m == n {
			return true
		}
	}
	return false
}

// ValidAt says whether the requirement holds at time t.
func (r *Requirement) ValidAt(t time.Time) bool {
	return (r.From.IsZero() || !t.Before(r.From)) && (r.Until.IsZero() || t.Before(r.Until))
}

// Endpoint is one host pattern and port of a requirement: the unit that is
// judged.
type Endpoint struct {
	Catalog     *Catalog
	Requirement *Requirement
	Host        Pattern
	Port        uint16
}

// String is "host:port", as it stands in Match and in the report.
func (e *Endpoint) String() string { return JoinPort(e.Host.String(), e.Port) }

// Match names an endpoint that a host and port met.
type Match struct {
	Catalog     string `json:"catalog"`
	Requirement string `json:"requirement"`
	Endpoint    string `json:"endpoint"`
}

// Match is e, by its names.
func (e *Endpoint) Match() Match {
	return Match{Catalog: e.Catalog.Name, Requirement: e.Requirement.ID, Endpoint: e.String()}
}
