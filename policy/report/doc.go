// Package report holds what was required against what was observed. It owns
// the judgement of a trial (statuses, causes, findings, verdict, exit status:
// sections 2 and 5 of the contract) and the renderings of it as text and JSON.
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
// Abandoned and denied attempts count only for a host that has no other.
// Look-ups that failed count as attempts for names that nothing else proves;
// look-ups that succeeded only show that somebody meant to go there.
//
// # Limits
//
// What clients choose is bounded: 512 hosts an endpoint, 4,096 unlisted
// destinations, 4,096 unlisted names that were looked up, 1,024 destinations
// inside the cluster, 16,384 connections that are still open, 16 workloads a
// host, 64 mismatching pairs, 10 pieces of evidence a finding. What is above a
// limit is folded into one row "(other)" that can never look better than its
// worst member.
package report
