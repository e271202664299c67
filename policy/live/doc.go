// Package live owns the admin address of a running recording: whether it is well,
// what it counts, and the naming of phases. README.md describes each path for its
// users.
//
// It judges no traffic and knows neither ledger nor sensors: it is told of
// observations (Server.Observe), and asks functions for the rest. No label of a
// metric is a host name, or anything else that clients choose.
//
// # Who may
//
// Health and metrics are for everybody who reaches the address. What changes the
// recording needs the token where there is one. Where there is none, which is for
// loopback alone, a page of some other site in a browser of this host must not do
// it either: requests from another origin are refused, and so are those whose Host
// is not this host (a name of somebody's that resolves to loopback).
package live
