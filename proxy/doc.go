// Package proxy owns the egress path: it listens for CONNECT and absolute-form
// HTTP, names and judges each destination, guards addresses that no client may
// reach through it, dials (through a parent proxy where one is configured),
// carries the bytes, and says from the bytes that really came back what became
// of the connection.
//
// It decrypts nothing, stores no body, and knows neither catalog files nor the
// ledger: it is given a policy.Index and a policy.Sink. Every connection ends in
// one observation, made in one place: the end of the function that owns it.
//
// The order of a connection (and of the files): listen.go and goproxy.go take
// it, connect.go or request.go owns it, reach.go resolves, guards (guard.go) and
// dials (dial.go, parent.go), tunnel.go, flow.go and watch.go carry it, judge.go
// judges.
package proxy
