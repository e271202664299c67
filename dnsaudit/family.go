package dnsaudit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// family is what became of the question in one family: A or AAAA.
type family struct {
	said []word // by server
	best word   // the most telling of them
}

// word is what one server said. The zero word is that of a server not asked.
type word struct {
	server netip.AddrPort
	answer
	err error // where it gave no usable answer; errSilent where none at all
}

// rank orders words by what they tell. That there is no address (NODATA) needs
// both families to say so, hence it comes behind every failure.
func (w word) rank() int {
	switch {
	case !w.server.IsValid():
		return 0
	case w.silent():
		return 3
	case w.err != nil:
		return 2
	case w.rcode == noData:
		return 1
	case w.rcode == refused:
		return 5
	case w.rcode == servFail:
		return 6
	case w.rcode == nxDomain:
		return 7
	case w.rcode == noError:
		return 8
	}
	return 4
}

func (w word) String() string {
	if w.err != nil {
		return fmt.Sprintf("%s: %v", w.server, w.err)
	}
	return fmt.Sprintf("%s: %s", w.server, w.answer)
}

// last says that no other server needs to be asked.
func (w word) last() bool { return w.err == nil && w.final() }

// silent says that the server was asked and has not answered.
func (w word) silent() bool { return errors.Is(w.err, errSilent) }

// walk asks the servers in their order for one family. Each is given patience
// before the next is asked too; what it answers later still counts. A server
// that fails is not asked again, a silent one is, without EDNS then, since some
// paths drop what they do not know.
type walk struct {
	servers  []netip.AddrPort
	rounds   int
	patience time.Duration
	ask      func(ctx context.Context, server netip.AddrPort, edns bool) (answer, error)

	tries   int         // begun or skipped
	asked   []time.Time // by server, the first time
	replies chan reply
	running sync.WaitGroup
	family
}

// reply is what a try at servers[of] came to.
type reply struct {
	of int
	word
}

// run returns when a server gave the last word, all failed, or ctx ended; no
// goroutine of it is left then.
func (w *walk) run(ctx context.Context) family {
	w.said = make([]word, len(w.servers))
	w.asked = make([]time.Time, len(w.servers))
	w.replies = make(chan reply, w.rounds*len(w.servers))
	ctx, cancel := context.WithCancel(ctx)
	defer w.running.Wait()
	defer cancel()

	timer := time.NewTimer(w.patience)
	defer timer.Stop()
	for open := w.begin(ctx); open > 0; {
		select {
		case <-timer.C:
		case r := <-w.replies:
			open--
			if w.note(r); r.last() {
				w.excuse()
				return w.family
			}
		}
		if begun := w.begin(ctx); begun > 0 {
			open += begun
			timer.Reset(w.patience)
		}
	}
	return w.family
}

// begin asks the next server that has not failed and returns 1; 0 when there is
// none, or ctx has ended.
func (w *walk) begin(ctx context.Context) int {
	for w.tries < w.rounds*len(w.servers) && ctx.Err() == nil {
		i, round := w.tries%len(w.servers), w.tries/len(w.servers)
		w.tries++
		server := w.servers[i]
		switch {
		case round == 0:
			w.asked[i], w.said[i] = time.Now(), word{server: server, err: errSilent}
		case !w.said[i].silent():
			continue
		}
		w.running.Go(func() {
			a, err := w.ask(ctx, server, round == 0)
			w.replies <- reply{i, word{server, a, err}}
		})
		return 1
	}
	return 0
}

// note takes in what came of a try. Silence is no news: another try at the same
// server may have been answered.
func (w *walk) note(r reply) {
	if !r.silent() {
		w.said[r.of] = r.word
	}
	w.best = word{}
	for _, s := range w.said {
		if s.rank() > w.best.rank() {
			w.best = s
		}
	}
}

// excuse forgets the servers that were asked too shortly ago to be called
// silent.
func (w *walk) excuse() {
	for i, s := range w.said {
		if s.silent() && time.Since(w.asked[i]) < w.patience {
			w.said[i] = word{}
		}
	}
}
