// Package dnsaudit is the DNS side of the audit. It owns three things:
//
// Resolver is the stub resolver for our own look-ups: unlike the one of package
// net it tells the response code, the CNAME chain and which server said so,
// because that is the evidence behind a verdict about a name.
//
// Forwarder is a forwarding name server for clients. It passes questions and
// answers on octet for octet but for the ID, and makes one observation of each
// question.
//
// Memory remembers for a while which names an address was the answer to, so that
// a connection to a bare address can be told by name.
//
// They ask recursive servers and believe none of them further than their answer
// to the question goes; they do not recurse, validate DNSSEC, apply search
// suffixes or speak mDNS. Nothing is cached, so that every look-up shows what
// the network answers at that moment, unless a Forwarder is told to. They do
// not judge either: which name a search suffix was tried for, whether a look-up
// without a connection is a bypass, and which catalog lists a name, is the
// reader's business. Only what an answer shows by itself is told: a failure, or
// an address that no public name has.
//
// No type of github.com/miekg/dns appears in an exported signature.
package dnsaudit
