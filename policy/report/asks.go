package report

import (
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// askRow is how one row of contract section 3 is put to those who run the
// device. Its texts are parts of "On WHERE, WHAT: SEEN; EVIDENCE TAIL." with
// the words of asking.words in braces.
type askRow struct {
	stage policy.Stage
	error policy.Error
	when  func(*failure) bool // nil: always
	where string
	what  string
	seen  string
	tail  string
}

// Devices that more than one row names. {path} is the firewall, or with a
// parent the proxy and the firewall behind it.
const (
	resolver  = "the DNS resolver{upstream}"
	firewall  = "the firewall"
	parentBox = "the proxy {parent}"
	toParent  = "the firewall between here and the proxy {parent}, or on that proxy itself"
	ourselves = "our side (egressaudit itself)"
)

// asks are tried in order; the first that fits is taken. A row without an error
// fits all errors of its stage, one without a stage all.
var asks = []askRow{
	{"", policy.ProxyInternalError, nil, ourselves, "repair the way to {target}", "an error of our own stopped it{why}", ""},

	{policy.StageResolve, policy.DNSError, rcode("NXDOMAIN"), resolver, "make {host} resolve",
		"it answered NXDOMAIN (no such name)", "; the row may be stale, so check first that {source} still lists this name"},
	{policy.StageResolve, policy.DNSError, rcode("SERVFAIL"), resolver, "repair the resolution of {host}",
		"it answered SERVFAIL (its own upstream, or DNSSEC, failed)", ""},
	{policy.StageResolve, policy.DNSError, rcode("REFUSED"), resolver, "allow queries for {host}",
		"it answered REFUSED (forbidden by its policy)", ""},
	{policy.StageResolve, policy.DNSError, rcode("NODATA"), resolver, "give {host} its public addresses (A or AAAA)",
		"it answered without an address in either family", ""},
	{policy.StageResolve, policy.DNSError, rcode(""), resolver, "let queries for {host} reach it, and be answered",
		"it could not be asked, or gave no answer that can be used{resolve}", ""},
	{policy.StageResolve, policy.DNSError, nil, resolver, "make {host} resolve",
		"it answered with the error {rcode}", ""},
	{policy.StageResolve, policy.DNSTimeout, nil, resolver + ", or on the firewall in front of it (UDP and TCP port 53)", "let queries for {host} be answered",
		"no answer came", ""},
	{policy.StageResolve, policy.DNSSinkhole, nil, resolver, "take {host} off the block list",
		"it answered with a false address{sinkhole}", ""},
	{policy.StageResolve, "", nil, resolver, "make {host} resolve", "the look-up failed ({error})", ""},

	{policy.StageConnect, policy.ConnectionRefused, nil, firewall, "allow {target}",
		"connections were refused at once (a reset or an ICMP port-unreachable; if the firewall's log shows no reject, nothing listens at that address)", ""},
	{policy.StageConnect, policy.ConnectionTimeout, nil, firewall, "allow {target}",
		"connection requests (SYN) stayed unanswered, as with a rule that drops", ""},
	{policy.StageConnect, policy.DestinationUnroutable, nil, "the firewall or router", "route and allow {target}",
		"the network answered that there is no way there (ICMP unreachable or prohibited, or no route)", ""},
	{policy.StageConnect, "", nil, firewall, "allow {target}", "connections failed ({error})", ""},

	{policy.StageParent, policy.ParentDenied, nil, parentBox, "allow CONNECT and requests for {target}",
		"it refused with status {status}", ""},
	{policy.StageParent, policy.ParentAuthRequired, nil, parentBox, "allow {target} without authentication, or give us credentials that it takes",
		"it demanded authentication (status 407{schemes})", ""},
	{policy.StageParent, policy.ParentError, by(policy.ByResolver), "the DNS resolver that the proxy {parent} asks", "make {host} resolve",
		"the proxy answered status {status}{beyond}", ""},
	{policy.StageParent, policy.ParentError, by(policy.ByNetwork), "the firewall behind the proxy {parent}", "allow {target} from that proxy",
		"the proxy answered status {status}{beyond}", ""},
	{policy.StageParent, policy.ParentError, nil, parentBox + " or the firewall behind it", "allow {target}",
		"the proxy answered status {status}{beyond}", ""},
	{policy.StageParent, policy.ConnectionRefused, nil, toParent, "allow us to connect to the proxy (wanted for {target})",
		"the proxy itself refused the connection", ""},
	{policy.StageParent, policy.ConnectionTimeout, nil, toParent, "allow us to connect to the proxy (wanted for {target})",
		"the proxy itself did not answer the connection request", ""},
	{policy.StageParent, policy.DestinationUnroutable, nil, toParent, "route and allow us to the proxy (wanted for {target})",
		"the network answered that there is no way to the proxy", ""},
	{policy.StageParent, policy.DNSError, nil, resolver, "make the name of the proxy {parent} resolve (wanted for {target})",
		"its name did not resolve ({rcode})", ""},
	{policy.StageParent, policy.DNSTimeout, nil, resolver, "answer queries for the name of the proxy {parent} (wanted for {target})",
		"no answer came", ""},
	{policy.StageParent, policy.ConnectionReadTimeout, nil, parentBox, "allow CONNECT and requests for {target}, and look why it stays silent",
		"it accepted the connection and never answered the request", ""},
	{policy.StageParent, policy.ConnectionTerminated, nil, parentBox, "allow CONNECT and requests for {target}, and look why it hangs up",
		"it closed the connection in the middle of its reply", ""},
	{policy.StageParent, policy.ProxyLoopDetected, nil, ourselves, "take egressaudit out of its own way (--parent or HTTPS_PROXY leads back to it), so that {target} goes out",
		"the request came back to us", ""},
	{policy.StageParent, "", nil, parentBox, "allow CONNECT and requests for {target}", "asking it failed ({error})", ""},

	{policy.StageHello, policy.ConnectionTerminated, nil, "{path}", "allow {target}, in filters by server name (SNI) or URL too",
		"connections were accepted, then cut{close} right after the client's first bytes", ""},
	{policy.StageHello, policy.ConnectionReadTimeout, nil, "{path}", "allow {target}, in filters by server name (SNI) or URL too",
		"connections were accepted, then silent after the client's first bytes", ""},
	{policy.StageHello, policy.TLSAlertReceived, nil, "{path}", "exempt {exempt} from TLS inspection and from filters by server name (SNI)",
		"the first answer was the TLS alert {alert}", "; if no device of yours sent it, the origin itself did"},
	{policy.StageHello, policy.NotTLSReply, nil, "{path}", "allow {target} without answering in its place",
		"something other than TLS answered{reply}, as block pages do", ""},
	{policy.StageHello, "", nil, "{path}", "allow {target}", "connections failed right after the client's first bytes ({error})", ""},

	{policy.StageHandshake, policy.TLSIntercepted, nil, "the TLS inspection device{behind}", "exempt {exempt} from TLS inspection",
		"the certificate was signed by {issuer}, which the public does not trust{taken}", ""},
	{policy.StageHandshake, policy.ConnectionReadTimeout, nil, "{path} and on TLS inspection there", "allow {target} and exempt it from inspection",
		"the TLS handshake began, then stayed silent after the ServerHello", ""},
	{policy.StageHandshake, policy.ConnectionTerminated, nil, "{path} and on TLS inspection there", "allow {target} and exempt it from inspection",
		"the TLS handshake began, and was cut{close} after the ServerHello", ""},
	{policy.StageHandshake, policy.TLSAlertReceived, by(policy.ByClient), "the TLS inspection device{behind}", "exempt {exempt} from TLS inspection, or give the client the certificate authority that signs there",
		"the client itself refused the handshake (alert {alert}), as it does with a certificate that it does not trust", ""},
	{policy.StageHandshake, policy.TLSAlertReceived, nil, "{path} and on TLS inspection there", "exempt {exempt} from TLS inspection",
		"the TLS handshake began, and ended in the alert {alert}", "; if no device of yours sent it, the origin itself did"},
	{policy.StageHandshake, "", nil, "{path} and on TLS inspection there", "allow {target} and exempt it from inspection", "the TLS handshake failed ({error})", ""},

	{policy.StageData, policy.ConnectionTerminated, nil, "{path}", "let connections to {target} live, without limits of time, size or content",
		"connections worked, and were cut{close} while data flowed{idle}", ""},
	{policy.StageData, policy.HTTPBlockPage, nil, "the web filter{behind}", "allow {target}",
		"a block page{status-of} came instead of the origin's answer", ""},
	{policy.StageData, "", nil, "{path}", "let connections to {target} live", "they worked, and then failed ({error})", ""},

	{policy.StagePolicy, policy.HTTPRequestDenied, stranger, ourselves, "let this client use the proxy (--clients), if it is one of ours",
		"we refused {target}{why}", "; the network was not asked"},
	{policy.StagePolicy, policy.HTTPRequestDenied, isolated, ourselves, "find out whether the install needs it ({host}, port {port}): run it once without --isolate, behind egressaudit serve --tproxy",
		"we refused it{why}", "; the network was not asked"},
	{policy.StagePolicy, policy.HTTPRequestDenied, nil, ourselves, "add {host} with port {port}, and the server name that clients say there, to a catalog (--catalog), or use --mode observe",
		"we refused it{why}", "; the network was not asked"},
	{policy.StagePolicy, policy.DestinationProhibited, nil, ourselves, "allow the address with --allow-address if it is meant, or repair what resolves {host} to it",
		"our address guard refused it{guarded}", "; the network was not asked"},
	{policy.StagePolicy, policy.ConnectionLimitReached, nil, ourselves, "raise the limit of open connections (RLIMIT_NOFILE) so that {target} gets through",
		"our own limit was reached", "; the network was not asked"},
	{policy.StagePolicy, "", nil, ourselves, "let {target} pass", "we refused it ({error})", "; the network was not asked"},

	{"", "", nil, "{path}", "allow {target}", "it did not work ({error}, stage {stage})", ""},
}

func rcode(want string) func(*failure) bool {
	return func(f *failure) bool { return strings.EqualFold(fact(f.detail, "rcode"), want) }
}

// stranger recognises the refusal of a client that may not use the proxy.
func stranger(f *failure) bool { return strings.Contains(fact(f.detail, "why"), "--clients") }

// isolated recognises the refusal of what a namespace does not carry.
func isolated(f *failure) bool { return strings.Contains(fact(f.detail, "why"), "--isolate") }

func by(want policy.By) func(*failure) bool {
	return func(f *failure) bool { return f.By == want }
}

func askFor(f *failure) askRow {
	for _, r := range asks {
		if (r.stage == "" || r.stage == f.Stage) && (r.error == "" || r.error == f.Error) && (r.when == nil || r.when(f)) {
			return r
		}
	}
	return asks[len(asks)-1]
}
