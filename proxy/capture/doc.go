// Package capture owns what reaches us without the client's help: the original
// destination of a redirected or TPROXY connection, the sockets that take and
// send such traffic (Linux alone), and QUIC, from the Initial packets, whose keys
// are public, to the relay of a UDP flow.
//
// [Initials] reads the ClientHello of a QUIC client and says what a server's
// datagrams mean; it does no I/O and has no clock. [Relay] carries the flows of
// one UDP socket and makes one observation for each server name that a flow asks
// for. Which of them may pass is not decided here: a func of the caller says so,
// and also names and guards them. Nothing is decrypted but Initial packets.
//
// TCP is only taken here (OriginalDestination, ListenTransparent): carrying it is
// package proxy's.
package capture
