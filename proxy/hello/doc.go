// Package hello reads what the first bytes of a connection say, and follows a
// TLS handshake by its record types, without decrypting anything.
//
// It owns three questions. [Parser] reads the client's first bytes: the TLS
// server name, ALPN, versions, Encrypted Client Hello and early data, or the
// Host of a plain HTTP request, or why there is neither. [Handshake] follows
// both directions of a TLS connection until it is known whether the client
// answered the server's flight, and reads the server's certificates where they
// pass in the clear, up to TLS 1.2. [ReplyParser] says what a reply that is not
// TLS begins with.
//
// It does no I/O and has no clock; it judges no name and no certificate, and
// knows no policy. All three are fed bytes in whatever pieces they arrive, and
// the pieces never change the result. They neither change nor keep the slices
// they are given, hold bounded memory, and never panic, whatever the bytes. A
// value is for one goroutine at a time; the zero value is ready.
package hello
