// Package workload owns who was behind a client's address, in a Kubernetes
// cluster: which pod had it at which time, or that it is a node's own. It
// follows pods and their events by list and watch (client-go's Reflector, which
// lives here alone), stands between the sensors and the ledger to name what they
// observe, and tells events that say what could not be fetched or mounted. It
// asks for nothing but get, list and watch of pods and events, changes nothing in
// the cluster, and knows neither sensors, nor ledger, nor report.
//
// # Who had an address
//
// A pod has the addresses of its status from its start (status.startTime) until
// it is over: until its last container ended, where its status says so, and else
// until it is gone. Where several had an address at a time, as far as that is
// known, nobody is named: an address that went from one pod to another in the
// second in which it was free is neither's in that second. Nor is anybody named
// for a time in which the API could not be watched.
//
// Pods on the host network have no address of their own. What comes from an
// address of a node is "node:NAME": pulls of images, host-network pods, and what
// is translated to that address on its way; which of them is not told by the
// address, and never guessed. The gateways of our own pod's network are this
// node, too (bridge networks translate to them), and so are all of this host's
// addresses where our own are a node's.
//
// # Our own pods
//
// A Selection names pods of ours by their labels. Their addresses are told as they
// change, so that a gateway leaves alone what they send. The labels, like all else
// here, are what the API says: who may make pods in that namespace may have theirs
// left alone, too.
//
// # Lag
//
// The API learns the address of a pod up to a second or two after the pod may
// send. So an observation that began less than Lag ago, from an address of which
// nothing is known, waits: until the API tells, or Lag is over. Those that wait
// keep their order, and their detail held_ms says for how long they did, for a
// ledger's time is that of writing. Nothing that a client does waits for it.
package workload
