package proxy

import (
	"net/netip"
	"sync"
)

// lobby counts connections by whose they are: the address of a client, and none for
// all others together.
type lobby struct {
	mu   sync.Mutex
	most Limits
	all  int
	of   map[netip.Addr]int
}

func newLobby(most Limits) *lobby { return &lobby{most: most, of: map[netip.Addr]int{}} }

// enter counts one in, if there is room for it. Those who may not use the proxy are
// heard, for they are to be told so, but never take the clients' room, nor do those
// who were turned away while net/http still has to see that.
func (l *lobby) enter(who netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	room := l.most.ClientTunnels
	if !who.IsValid() {
		room = max(l.most.Tunnels/8, 1)
	}
	if l.all >= l.most.Tunnels || l.of[who] >= room {
		return false
	}
	l.all++
	l.of[who]++
	return true
}

func (l *lobby) leave(who netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.of[who]--; l.of[who] == 0 {
		delete(l.of, who)
	}
}

// count is how many are in.
func (l *lobby) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}
