// Package live owns the admin address of a running recording: the live page with its
// events and API, whether the recording is well, what it counts, and the naming of
// phases. README.md describes each path for its users.
//
// It judges nothing itself: a report.Engine does, over the records of the ledger,
// which Config.Records follows from its first one on. So page and report are of one
// engine and one file, a restart loses nothing, and no connection ever waits for a
// page. It knows neither ledger nor sensors, and what is to be seen of a report is
// policy/report's business: this package shows its sections. No label of a metric is
// a host name, or anything else that clients choose.
//
// # Who may
//
// Health and metrics are for everybody who reaches the address. Page and API need
// the token where there is one, as a Bearer or as the cookie of the login form. Where
// there is none, which is for loopback alone, a page of some other site in a browser
// of this host must not read or change anything either: requests whose Host is not
// this host are refused (a name of somebody's that resolves to loopback), and so are
// those that other origins make. A POST of a browser carries the token of the page
// besides.
//
// # Bounds
//
// A report is made once a second at most and only while somebody watches; 64
// browsers at once, 16 events in the queue of each, 50 rows an event and four events
// of rows a second, 128 rows kept, four reports delivered at once, 80 connections in
// all. Who does not keep up is let go and comes back.
package live
