package main

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/egressaudit/egressaudit/deploy/nftables"
)

// ownWait is how long the rules of --nftables wait for the addresses of --own-pods.
// Then they are loaded without, for until then nothing at all is taken.
const ownWait = 10 * time.Second

// ownPods has rules leave alone what the pods of --own-pods send.
type ownPods struct {
	log   zerolog.Logger
	known chan struct{} // closed when the cluster told which they are

	mu     sync.Mutex
	addrs  []netip.Addr
	ever   bool
	rules  *nftables.Loaded // that are loaded; nil for none yet
	broken error            // why rules did not take them, the first time
}

func newOwnPods(log zerolog.Logger) *ownPods {
	return &ownPods{log: log, known: make(chan struct{})}
}

// leave has the rules leave these addresses alone, and none else.
func (o *ownPods) leave(now []netip.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.addrs = now
	if !o.ever {
		o.ever = true
		close(o.known)
	}
	if o.rules == nil {
		return
	}
	if err := o.rules.Leave(now); err != nil {
		o.log.Error().Msg("--own-pods: " + oneLine(err))
		if o.broken == nil {
			o.broken = err
		}
	}
}

// load gives the kernel the rules, with what is known by then; nil asks nobody.
func (o *ownPods) load(p nftables.Params) (*nftables.Loaded, error) {
	if o == nil {
		return nftables.Load(p)
	}
	o.await()
	o.mu.Lock()
	defer o.mu.Unlock()
	p.Own = o.addrs
	l, err := nftables.Load(p)
	if err == nil {
		o.rules = l
	}
	return l, err
}

// await waits for the cluster to tell which they are, but not for ever.
func (o *ownPods) await() {
	select {
	case <-o.known:
	case <-time.After(ownWait):
		o.log.Warn().Msg("--own-pods: the cluster does not tell which they are: what they send is taken until it does")
	}
}

// blind says that the rules did not know them.
func (o *ownPods) blind() []string {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken == nil {
		return nil
	}
	return []string{fmt.Sprintf("which pods are our own was not known to the firewall's rules: %s", oneLine(o.broken))}
}
