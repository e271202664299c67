package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// stopFlags say how serve ends, beside --drain.
type stopFlags struct{ delay time.Duration }

func (s *stopFlags) register(c *cobra.Command) {
	group(c, "Limits", func(f *pflag.FlagSet) {
		f.DurationVar(&s.delay, "shutdown-delay", 0, "`TIME` after SIGTERM in which /readyz is red and all goes on, for balancers to learn it; then --drain begins")
	})
}

func (s *stopFlags) check() error {
	if s.delay < 0 {
		return fmt.Errorf("--shutdown-delay %s: write a time such as 5s, or 0s for none", s.delay)
	}
	return nil
}

// finish ends a trial that was told to: red for balancers, as before for the delay,
// the canaries, the end of the listeners, the drain. From now on a signal is the
// second, which cuts all that short.
func (t *trial) finish(a *admin, delay time.Duration, log zerolog.Logger) error {
	again, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a.stopping.Store(true)
	log.Info().Dur("delay", delay).Dur("drain", t.drain).Msg("stopping")
	t.linger(again, delay)
	drain, cancel := context.WithTimeout(again, t.drain)
	defer cancel()
	if err := t.end(drain, nil); err != nil {
		return err
	}
	log.Info().Uint64("lost", t.ledger.Lost()).Msg("stopped")
	return nil
}

// linger goes on as before for the delay, unless the trial ends by itself or is told
// again.
func (t *trial) linger(again context.Context, delay time.Duration) {
	ctx, cancel := context.WithTimeout(again, delay)
	defer cancel()
	t.watch(ctx, nil, nil, nil, nil)
}
