package policy

// Outcome is what became of a connection, request or question.
type Outcome string

// The outcomes.
const (
	OK        Outcome = "ok"        // the destination answered in its protocol
	Failed    Outcome = "failed"    // it did not, and Stage, Error and By say how
	Denied    Outcome = "denied"    // by us; never for anybody else's refusal
	Abandoned Outcome = "abandoned" // the client left first: no evidence either way
)

// Stage is how far a connection got.
type Stage string

// The stages, in their order.
const (
	StagePolicy    Stage = "policy"
	StageResolve   Stage = "resolve"
	StageParent    Stage = "parent"
	StageConnect   Stage = "connect"
	StageHello     Stage = "hello"     // the client's first bytes sent, no answer yet
	StageHandshake Stage = "handshake" // TLS answered, not finished
	StageData      Stage = "data"
)

// Error is what went wrong: the names of RFC 9209 section 2.3 where they exist,
// and a few more.
type Error string

// Names of RFC 9209 section 2.3.
const (
	DNSError               Error = "dns_error"
	DNSTimeout             Error = "dns_timeout"
	ConnectionRefused      Error = "connection_refused"
	ConnectionTimeout      Error = "connection_timeout"
	ConnectionTerminated   Error = "connection_terminated"
	ConnectionReadTimeout  Error = "connection_read_timeout"
	ConnectionLimitReached Error = "connection_limit_reached"
	DestinationUnroutable  Error = "destination_ip_unroutable"
	DestinationProhibited  Error = "destination_ip_prohibited"
	TLSAlertReceived       Error = "tls_alert_received"
	HTTPRequestDenied      Error = "http_request_denied"
	HTTPRequestError       Error = "http_request_error"
	HTTPProtocolError      Error = "http_protocol_error"
	ProxyLoopDetected      Error = "proxy_loop_detected"
	ProxyInternalError     Error = "proxy_internal_error"
	HTTPResponseIncomplete Error = "http_response_incomplete"
)

// Names of our own.
const (
	DNSSinkhole        Error = "dns_sinkhole"
	ParentDenied       Error = "parent_denied"
	ParentAuthRequired Error = "parent_auth_required"
	ParentError        Error = "parent_error"
	NotTLSReply        Error = "not_tls_reply"
	TLSIntercepted     Error = "tls_intercepted"
	HTTPBlockPage      Error = "http_block_page"
)

// By is who did it.
type By string

// Who can have done it.
const (
	ByResolver By = "resolver"
	ByNetwork  By = "network"
	ByParent   By = "parent"
	ByOrigin   By = "origin"
	ByClient   By = "client"
	BySelf     By = "self"
)

// Confidence is how sure the verdict is.
type Confidence string

// The confidences.
const (
	Certain Confidence = "certain"
	Likely  Confidence = "likely"
	Guess   Confidence = "guess"
)

// Verdict is the fate of one connection, request or question, without the facts
// behind it (those are in Observation.Detail).
type Verdict struct {
	Outcome    Outcome    `json:"outcome,omitempty"`
	Stage      Stage      `json:"stage,omitempty"`
	Error      Error      `json:"error,omitempty"`
	By         By         `json:"by,omitempty"`
	Confidence Confidence `json:"confidence,omitempty"`
}
