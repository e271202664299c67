// Package lab is a small internet on loopback, for tests and for rehearsal: TLS
// and plain sites of any name under a CA of its own, a DNS server, a corporate
// proxy (the parent), and a firewall that misbehaves on order. It needs neither
// root nor the outside world.
//
// A Script says what happens to whom; Start plays it:
//
//	w, err := lab.Start(lab.Script{Rules: map[string]lab.Behaviour{
//		"*":                 lab.Site{},
//		"cdn03.quay.io:443": lab.AfterHello(lab.Reset),
//		"gcr.io":            lab.ParentStatus{Code: 403},
//		"gone.example.org":  lab.NXDOMAIN,
//	}})
//	defer w.Close()
//
// There are two ways to a site. Through the parent (World.Parent) it has its
// real name and port. Directly, its name resolves by the lab's DNS server
// (World.DNS) to a loopback address of its own, and its port is replaced by the
// stand-in World.Port, because ports under 1024 need root.
//
// The lab makes real packets and knows nothing of how they are judged: what a
// test expects is written beside its script, never taken from here. Loopback
// addresses beyond 127.0.0.1 and unanswered SYNs (Drop) need Linux.
package lab
