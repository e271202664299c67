package live

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
)

// maxGuests is how many connections the admin address has at once: those that stay,
// of watchers and reports, and some for what is asked and answered. With their
// descriptors the proxy would lose its own.
const maxGuests = maxWatchers + maxReports + 12

// crowd are the connections to the admin address, the oldest first. Whoever reaches
// it may connect without a token; so where one more comes than there is room for, the
// oldest that is not to stay gives way, which is never a question that has just come.
type crowd struct {
	mu  sync.Mutex
	all []*guest
}

// guest is one connection.
type guest struct {
	conn  net.Conn
	stays int // how many answers want it to
}

type guestKey struct{}

// enter counts a connection in, for http.Server.ConnContext.
func (c *crowd) enter(ctx context.Context, conn net.Conn) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := &guest{conn: conn}
	c.all = append(c.all, g)
	if len(c.all) > maxGuests {
		i := slices.IndexFunc(c.all, func(g *guest) bool { return g.stays == 0 }) // g itself, at last
		c.all[i].conn.Close()
		c.all = slices.Delete(c.all, i, i+1)
	}
	return context.WithValue(ctx, guestKey{}, g)
}

// follow counts it out, for http.Server.ConnState.
func (c *crowd) follow(conn net.Conn, s http.ConnState) {
	if s != http.StateClosed {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = slices.DeleteFunc(c.all, func(g *guest) bool { return g.conn == conn })
}

// stay keeps the connection of a request until the func that it returns is called.
// Of those that ask for it, there are fewer than maxGuests.
func (c *crowd) stay(ctx context.Context) (leave func()) {
	g, ok := ctx.Value(guestKey{}).(*guest)
	if !ok {
		return func() {}
	}
	count := func(n int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		g.stays += n
	}
	count(1)
	return func() { count(-1) }
}
