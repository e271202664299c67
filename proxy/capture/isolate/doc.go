// Package isolate owns the network namespace of one command: a loopback
// interface, a default route to nowhere, and rules that lead what the command
// sends to sockets of ours, so that none of its IP sockets has another way out.
// There is no cable to the host: where the rules are gone, nothing leaves at all.
//
//	TCP                  redirected to Space.Captured (capture.OriginalDestination)
//	UDP and TCP 53       redirected to Space.Packets and Space.Names
//	loopback             the namespace's own, but for Config.Through
//	everything else      refused by ICMP, and told to Space.Watch
//
// [Start] starts this program again inside the new namespace, as root in one of
// the host's user namespace, else in a user namespace of its own with one user and
// one group, those of the caller. That process makes the network, opens the
// sockets, hands them out over a unix socket, and turns into the command
// ([Space.Exec]): so the command is a direct child. It loses CAP_NET_ADMIN,
// CAP_SYS_ADMIN and CAP_SYS_PTRACE for good, without which it can neither change
// the rules nor enter another namespace. main has to call [Main] for that.
//
// Nothing has a name: the namespace ends with its last process and socket. The
// command is killed with its parent, and a second process kills what else runs in
// the namespace when the parent was killed ([Start]).
//
// What is carried, and how it is judged, is decided elsewhere (package proxy).
package isolate
