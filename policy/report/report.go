package report

import (
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// Schema is the value of Report.Schema.
const Schema = "egressaudit/report/1"

// Verdict is what the whole trial says.
type Verdict string

// The verdicts.
const (
	Clear      Verdict = "clear"
	Gaps       Verdict = "gaps"
	CannotTell Verdict = "cannot-tell"
)

// Status is what the trial says of one endpoint.
type Status string

// The statuses, with the meaning of contract section 5.
const (
	Used     Status = "used"
	Partial  Status = "partial"
	Blocked  Status = "blocked"
	Reached  Status = "reached"
	Resolved Status = "resolved"
	Bypassed Status = "bypassed"
	Unused   Status = "unused"
)

// Worked is the outcome of an unlisted destination that was ok at least once.
// The others are Blocked (never ok) and Reached (accepted, then left by the
// client: no evidence either way).
const Worked = "worked"

// Kind is the kind of a finding.
type Kind string

// The kinds of findings. Those that are patterns need three samples at least,
// and their text ends in its confidence: likely, or guess.
const (
	Flapping       Kind = "flapping"        // failed, then worked
	SNIMismatch    Kind = "sni_mismatch"    // asked for one name, said another in the ClientHello
	SeveralRegions Kind = "several_regions" // an open placeholder stood for several values
	NoProxy        Kind = "no_proxy"        // traffic that should not come through a proxy
	TLSIntercepted Kind = "tls_intercepted" // a client accepted a certificate that the public does not trust
	Guarded        Kind = "guarded"         // refused by our own address guard, or no destination at all

	Bypass               Kind = "bypass"                 // looked up a required name and went there without us: certain, or likely
	HardcodedAddress     Kind = "hardcoded_address"      // connected to an address that no look-up gave: likely, or guess
	SearchSuffixAnswered Kind = "search_suffix_answered" // a name with a search suffix got the answer that another was meant to get

	IdleCut           Kind = "idle_cut"            // a pattern: tunnels die after the same time without a byte
	LargeHelloDropped Kind = "large_hello_dropped" // a pattern: ClientHellos beyond one segment get no answer, smaller ones do
	SNIFilter         Kind = "sni_filter"          // a pattern: one name gets no answer at an address that answers others
	AddressRule       Kind = "address_rule"        // a pattern: no name gets an answer at one address, and others work
	SharedAnswer      Kind = "shared_answer"       // a pattern: unrelated domains fail at one address: a sinkhole, perhaps

	PodEvent Kind = "pod_event" // something befell a pod, and stands beside no endpoint that is blocked or partial
)

// Kinds are all kinds of findings, sorted.
var Kinds = []Kind{AddressRule, Bypass, Flapping, Guarded, HardcodedAddress, IdleCut, LargeHelloDropped, NoProxy, PodEvent, SearchSuffixAnswered, SeveralRegions, SharedAnswer, SNIFilter, SNIMismatch, TLSIntercepted}

// Report is the judgement of a trial. Its JSON is section 5 of the contract;
// fields marked json:"-" serve other renderings and ExitStatus. Its order is
// fixed: the same records give the same report.
type Report struct {
	Schema      string     `json:"schema"`
	Verdict     Verdict    `json:"verdict"`
	Trial       Trial      `json:"trial"`
	Exercised   int        `json:"exercised"` // required endpoints that were used, partial or blocked
	Required    int        `json:"required"`
	ChildStatus *int       `json:"child_status,omitempty"` // of run's command
	Summary     Summary    `json:"summary"`
	Endpoints   []Endpoint `json:"endpoints"` // in the order of the catalogs
	Unlisted    []Unlisted `json:"unlisted"`  // by registrable domain
	Findings    []Finding  `json:"findings"`  // by kind
	Settings    Settings   `json:"settings"`
	BlindSpots  []string   `json:"blind_spots"`

	Matrix    *Matrix    `json:"matrix,omitempty"`    // where ledgers of several vantages were brought together (Across)
	Narrowing *Narrowing `json:"narrowing,omitempty"` // where it was asked for (Narrow)

	// Doubts are the reasons for which nothing can be cleared, as sentences;
	// they stand first in BlindSpots. They exist beside gaps, too.
	Doubts []string `json:"-"`
	// Incomplete says that records are missing, or may be: damage, loss, a canary
	// that was not seen.
	Incomplete bool `json:"-"`
	// Broken says that nobody recorded for a while between start and end.
	Broken bool `json:"-"`
	// Seen are the values that open placeholders stood for.
	Seen []Placeholder `json:"-"`
	// Files are the ledgers as the user named them.
	Files []string `json:"-"`
	// Version is that of the program that judged; Trial.Versions recorded.
	Version string `json:"-"`
	// Timeline says when the Beats of endpoints and unlisted destinations were.
	Timeline Timeline `json:"-"`
}

// Trial says what was observed, and what it was held against.
type Trial struct {
	Name     string              `json:"name"`
	Vantage  string              `json:"vantage"` // several are joined by ", "
	Started  time.Time           `json:"started,omitzero"`
	Ended    time.Time           `json:"ended,omitzero"` // zero: no stop record
	Phases   []string            `json:"phases"`
	Catalogs []policy.CatalogRef `json:"catalogs"` // those of this judgement, not those of the recording
	Scopes   []string            `json:"scopes"`   // empty: all
	Regions  []string            `json:"regions"`  // as recorded; else the values seen for an open <region>
	Ledgers  []string            `json:"ledgers"`  // UUIDs; else the files

	Pages    []Page   `json:"-"` // of Catalogs, in their order
	Versions []string `json:"-"` // of the programs that recorded
}

// Page is what a catalog was taken from.
type Page struct {
	Title string // of the catalog
	policy.Source
}

// Summary counts required endpoints by status, and unlisted destinations.
type Summary struct {
	Used     int `json:"used"`
	Blocked  int `json:"blocked"`
	Partial  int `json:"partial"`
	Reached  int `json:"reached"`
	Resolved int `json:"resolved"`
	Unused   int `json:"unused"`
	Bypassed int `json:"bypassed,omitempty"`
	Unlisted int `json:"unlisted"`
}

// Endpoint is one host pattern and port of a requirement, judged. Endpoints
// that do not count as required (optional, or of another scope) are judged in
// the same way; those of another scope are left out where they were not seen.
type Endpoint struct {
	Catalog     string          `json:"catalog"`
	Requirement string          `json:"requirement"`
	Scope       string          `json:"scope"`
	Host        string          `json:"host"` // the pattern
	Port        uint16          `json:"port"`
	Protocol    policy.Protocol `json:"protocol"`
	Purpose     string          `json:"purpose"`
	Source      string          `json:"source"`
	Status      Status          `json:"status"`
	Cause       *Cause          `json:"cause,omitempty"`  // of blocked and partial
	Events      []Event         `json:"events,omitempty"` // that name it, where it is blocked or partial: the first first
	Hosts       []Host          `json:"hosts"`            // by name

	Required bool `json:"-"` // counts for verdict, summary and exit status
	Optional bool `json:"-"`
	Excused  bool `json:"-"` // unused, and an alternative (any_of) was used
	Around   bool `json:"-"` // NO_PROXY leads around us to some of its hosts at least, seen or not

	Needs []policy.Need `json:"-"`
	Beats []Beat        `json:"-"` // attempts over time; of look-ups where there was nothing else
}

// Cause says why an endpoint does not work, and what to do.
type Cause struct {
	Stage      policy.Stage      `json:"stage,omitempty"`
	Error      policy.Error      `json:"error,omitempty"`
	By         policy.By         `json:"by,omitempty"`
	Confidence policy.Confidence `json:"confidence,omitempty"`
	Detail     map[string]any    `json:"detail,omitempty"`
	Ask        string            `json:"ask"` // one sentence for the change request

	vantage string // where it was seen
}

// Host is one concrete host seen for an endpoint. Attempts are those that
// count, a client's retries included: they are no count of uses.
type Host struct {
	Host      string       `json:"host"`
	Attempts  int          `json:"attempts"`
	OK        int          `json:"ok"`
	Failed    int          `json:"failed"`
	First     time.Time    `json:"first,omitzero"`
	Last      time.Time    `json:"last,omitzero"`
	BytesUp   int64        `json:"bytes_up"`
	BytesDown int64        `json:"bytes_down"`
	Workloads []string     `json:"workloads"`
	Error     policy.Error `json:"error,omitempty"` // of the last attempt that failed

	State Status `json:"-"` // of this host alone
}

// Unlisted is a destination that was tried and that no catalog lists. Port is 0
// where there was but a look-up.
type Unlisted struct {
	Host      string       `json:"host"`
	Port      uint16       `json:"port"`
	Outcome   string       `json:"outcome"` // Worked, Blocked, Reached
	Attempts  int          `json:"attempts"`
	OK        int          `json:"ok"`
	Failed    int          `json:"failed"`
	First     time.Time    `json:"first,omitzero"`
	Last      time.Time    `json:"last,omitzero"`
	BytesUp   int64        `json:"bytes_up"`
	BytesDown int64        `json:"bytes_down"`
	Workloads []string     `json:"workloads"`
	Error     policy.Error `json:"error,omitempty"`
	Near      string       `json:"near,omitempty"`
	Cause     *Cause       `json:"cause,omitempty"` // where it never worked
	Beats     []Beat       `json:"-"`
}

// Finding is something worth knowing that is no status.
type Finding struct {
	Kind     Kind     `json:"kind"`
	Text     string   `json:"text"`
	Evidence []uint64 `json:"evidence"` // seq of records, at most ten
}

// Placeholder is an open placeholder and what it stood for.
type Placeholder struct {
	Name   string
	Values []string // sorted
}
