// Package dnsaudit is the DNS side of the audit. It owns Resolver, the stub
// resolver for our own look-ups: unlike the one of package net it tells the
// response code, the CNAME chain and which server said so, because that is the
// evidence behind a verdict about a name.
//
// It asks recursive servers and believes none of them further than their answer
// to the question goes; it does not recurse, validate DNSSEC, apply search
// suffixes, speak mDNS, or cache: every look-up shows what the network answers
// at that moment. It does not judge either: whether an address is a sinkhole,
// and which error of the contract a response code becomes, is the reader's
// business.
//
// No type of github.com/miekg/dns appears in an exported signature.
package dnsaudit
