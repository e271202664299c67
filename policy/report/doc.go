// Package report holds what was required against what was observed. It owns
// the judgement of a trial (statuses, causes, findings, verdict, exit status:
// sections 2 and 5 of the contract) and its renderings: text, JSON, Markdown,
// HTML, CSV and JUnit XML.
// It owns differences, too: between two catalogs, two trials, or a catalog and a
// trial (Diff), as text, Markdown and JSON; and what several trials say together:
// by vantage (Matrix), and of the hosts behind wildcards (Narrowing).
//
// It takes records one by one, from wherever they come: it does not know the
// ledger, reads no file, resolves no name and has no clock. What sensors
// recorded about matches is not used: names are matched afresh, so that an old
// ledger can be judged by a new catalog.
//
// # How an attempt counts
//
// A connection or request is an attempt at the destination (judged name and
// port). Of each host the last attempt counts, ordered by when attempts began
// and not by when they ended, since a tunnel may outlive later failures.
// Abandoned and denied attempts count only for a host that has no other; and so do
// QUIC flows that failed, since clients turn to TCP then. A QUIC flow that was ok
// counts where nothing by TCP was.
// Look-ups that failed count as attempts for names that nothing else proves;
// look-ups that succeeded only show that somebody meant to go there.
//
// Failures of one client at one host, each within ten seconds of the end of the
// one before, are retries of one action: one gap, and one ask that says so.
//
// # Look-ups and connections
//
// A look-up with success of a listed name and a connection explain each other
// where they are no further apart than the bypass window (a connection lasts
// from its beginning to its end, or to the latest record while it is open) and
// have a mark in common: the name, by any spelling in the record, or an address
// of the answer. What the same client (address or workload) did explains, whatever
// became of it. So a
// client is not accused that keeps a connection alive, shares one between names
// (HTTP/2), or asks for both families: look-ups of one name by one client within
// five seconds are explained together. What is left is the finding bypass, and,
// where no connection went to the name at all, the status resolved. Within the
// window before recording stopped it is but a doubt. A session that begins at once
// where another of the same ledger stopped goes on with it; another ends it.
//
// Ledgers that were written at the same time, by replicas or on several nodes, are
// judged together in the order of time ([Engine.From]): the look-up of one finds its
// connection in another. Each has sessions of its own, and is held to its own
// canaries and its own stop. A replica that stopped as it should leaves no blind spot;
// that the others recorded on does not make a look-up right before its end a finding,
// for they may be elsewhere.
//
// Of several vantages each is judged apart, too ([Engine.Beside]): what does not work
// at one is a gap, whatever became of it at another; and what was reached there alone
// is a doubt.
//
// A resolver may stand in between, so that questions come from its address and
// connections from others. It does for certain where a client that never asked
// anything connects to what was looked up, by address (captured, or asked for),
// or where a question lies within the time in which we resolved the same name
// for a CONNECT. That explains the look-up, and from then on the client of such
// questions counts as a resolver: any connection by anybody explains what it
// asks, and what is left is told of an unknown client behind it. A client that
// asks for a name by CONNECT needs no look-up and says nothing of those of
// others.
//
// The finding is certain where the accused connects to us for other things, is
// no resolver, and nobody else went there meanwhile; otherwise likely.
//
// A name with a search suffix counts as a retry of the name in front of it,
// never as an attempt, where a catalog lists that one and not the whole, or
// where the same client asked for it within five seconds, before or after; one
// client that does shows it for all. A public suffix is no search suffix:
// "quay.io.com" is a name of its own. One that is answered with an address is
// the finding search_suffix_answered, and the name that was meant, where a
// catalog lists it, then counts as looked up; unless a connection went to it by
// its own name, for then it was meant itself (a mirror). Names inside the cluster are no
// matter, nor are short ones ("db.ns") that the cluster answered for.
//
// hardcoded_address needs a forwarder that listened and was asked: a connection
// to an address outside the cluster that the client chose itself, and that no
// answer of the trial contained, before or after. It is likely where all of its
// clients ask us, and a guess otherwise. One finding tells of all that the same
// clients went to.
//
// # Who it was
//
// A workload and its owner are what the records say: the report guesses nobody. A
// record that waited for the name of its client says so (held_ms) and counts at
// the time before it did. An event of a pod stands beside the endpoints that its
// text names (as URL, image, host that was looked up or dialled; matched as
// destinations are) where they are blocked, or partial and not by that host. A
// BackOff, which says that the pull of an image waits and not why, stands where the
// Failed of that workload and image does. What stands nowhere is the finding
// pod_event. Events change no status and no verdict.
//
// # Patterns
//
// Some findings come from what many connections have in common. Each has three
// samples at least, names their records, and ends in its confidence, which is
// likely or guess, never certain. Patterns change no status and no verdict.
//
//	idle_cut             three tunnels to two hosts ended by the far side after the same time without
//	                     a byte (±10 % or ±2 s, 20 s at least), standing out from what ended earlier,
//	                     and outlived by two at most and by fewer than half as many
//	large_hello_dropped  ClientHellos of more than 1,300 octets cut or left in silence where smaller
//	                     ones pass: at the same hosts; else at two hosts, where smaller ones pass at
//	                     two others and no large one anywhere
//	sni_filter           a name that never worked, cut or silent after the ClientHello at an address
//	                     that answers others on that port
//	address_rule         two names or more refused, silent or cut at an address that never answered
//	                     any, while others do
//	shared_answer        three unrelated registrable domains that failed where an answer was due, at an
//	                     address where none works
//
// Direct connections and those through a parent are different paths. The last
// three need the destination's address, so they are told of connections without
// a parent alone, and of none where the start record, which names the parent, is
// missing. What may have changed between two times is a guess.
//
// # Settings
//
// Who came by which listener says which settings took effect: the first of each
// listener at each vantage, and of each workload there, by when it began. Of who
// did not come something is said only where it is known: of nodes where every
// connection to the proxy has its workload, of anybody where no record is missing.
// A node's own address may stand for its image pulls, for pods on its network, or
// for pods whose addresses are translated there. It is never said which.
//
// # Limits
//
// What clients choose is bounded: 512 hosts an endpoint, 4,096 unlisted
// destinations, 4,096 unlisted names that were looked up, 1,024 destinations
// inside the cluster, 16,384 connections that are still open, 16 workloads a
// host, 64 mismatching pairs, 512 different events of pods and the first 8 hosts
// that one names, 10 pieces of evidence a finding, 64 listeners at vantages with 256
// workloads each. What is above a limit is folded into one row "(other)" that can
// never look better than its worst member.
//
// Of look-ups, there are 4,096 clients, 8,192 pairs of client and listed name
// that no connection explains yet (256 a name or address; 10 look-ups and 64
// addresses each), 65,536 names and addresses of connections for one to two
// windows, 65,536 addresses that answers gave, 256 that none gave, 16,384 names
// in no list for five to ten seconds, 64 with a search suffix that were answered,
// and 256 that offer HTTP/3 or Encrypted ClientHello. Above a limit nobody is
// accused: look-ups that cannot be followed leave their name resolved, and
// blind_spots say so.
//
// For patterns, each destination keeps 8 addresses and its 16 longest times of
// silence, and for the timeline at most 96 counts; where addresses were left out, address_rule is a
// guess, and what is folded counts only against a pattern that it refutes, or as
// a tunnel of idle_cut.
package report
