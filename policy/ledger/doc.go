// Package ledger owns the file of what was observed: its format, appending to
// it without ever making a sensor wait for the disk, and reading it back with
// every damage told. It does not judge what it reads, draws no report, and knows
// of no sensor: Writer.Append is a policy.Sink.
//
// # Format
//
// A ledger is a text file in UTF-8, made with mode 0600 and only ever appended
// to. Each line is one record: a JSON object without white space, ended by one
// line feed, and at most 1 MiB long. Its fields stand in the order of
// policy.Record, policy.Session and policy.Observation; one that is unknown or
// empty is left out. Control characters, U+2028 and U+2029 are escaped, bytes
// that are no UTF-8 become U+FFFD, and times have nine digits of a second and
// end in Z. A trial with one connection reads:
//
//	{"schema":1,"seq":1,"time":"2026-03-01T12:00:00.000000000Z","kind":"start","trial":"demo","vantage":"pod","version":"1.0","mode":"observe","ledger":"3f6b2f0c-8f1e-4c5e-9d57-0a4a1c2b7e11"}
//	{"schema":1,"seq":2,"time":"2026-03-01T12:00:01.000000000Z","kind":"mark","trial":"demo","vantage":"pod","phase":"deploy","text":"deploy"}
//	{"schema":1,"seq":3,"time":"2026-03-01T12:00:02.000000000Z","kind":"connection","trial":"demo","vantage":"pod","phase":"deploy","id":"c1","client":"10.1.0.7:40112","asked":"mcr.microsoft.com","port":443,"outcome":"failed","stage":"connect","error":"connection_timeout","by":"network","confidence":"certain","detail":{"errno":"ETIMEDOUT"},"connect_ms":10000}
//	{"schema":1,"seq":4,"time":"2026-03-01T12:00:03.000000000Z","kind":"stop","trial":"demo","vantage":"pod","phase":"deploy","version":"1.0","mode":"observe","ledger":"3f6b2f0c-8f1e-4c5e-9d57-0a4a1c2b7e11"}
//
// The rules that a reader can rely on:
//
//   - seq is 1, 2, 3, ... without a hole, over restarts too. What could not be
//     written takes no seq; a record of kind lost tells how many and why.
//   - time never decreases from one start to the next.
//   - kind event is what befell a pod: workload, reason, text, and count, which is
//     how often it happened since it was told before. Readers of schema 1 from
//     before there were events call it a kind that they do not know.
//   - phase is the text of the last mark that was made before the thing told
//     began; a mark is itself in the phase it begins. A restart begins without.
//   - A writer that is killed, or whose disk refuses for good, leaves complete
//     lines and at most one torn one at the end. The next writer keeps that one
//     as it is, ends it with a line feed, and goes on with the seq after the
//     last complete record.
//   - A record of a higher schema cannot be understood, and is a Damage. Fields
//     that are not known are ignored.
package ledger
