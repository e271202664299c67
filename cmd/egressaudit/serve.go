package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
)

func newServe(env environ) *cobra.Command {
	var r required
	var p path
	var address string
	c := &cobra.Command{
		Use:   "serve --proxy ADDRESS:PORT [flags]",
		Short: "The daemon: a proxy that records until it is told to stop",
		Long: `serve listens for CONNECT and absolute-form HTTP and writes the ledger until
SIGTERM or SIGINT: then it stops accepting, lets open tunnels finish for --drain,
cuts what is left, and closes the ledger. Make the report with
'egressaudit report LEDGER'.

On any address but loopback --clients says who may use it. Private destinations
are guarded unless a catalog lists their name or --allow-address says so.`,
		Example: `  egressaudit serve --proxy 10.0.0.5:3128 --clients 10.0.0.0/16 --ledger trial.jsonl`,
		Args:    exactly(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return serve(ctx, env, &r, &p, address)
		},
	}
	c.Flags().StringVar(&address, "proxy", "127.0.0.1:3128", "`ADDRESS:PORT` to listen on")
	r.register(c)
	p.register(c, "none", "node")
	return c
}

func serve(ctx context.Context, env environ, r *required, p *path, address string) error {
	log := zerolog.New(zerolog.ConsoleWriter{Out: env.stderr, NoColor: true}).With().Timestamp().Logger()
	t, err := begin(env, r, p, settings{listen: address, noProxy: split(p.noProxy), log: log})
	if err != nil {
		return err
	}
	log.Info().Str("proxy", t.listener.Addr().String()).Str("ledger", t.path).Str("parent", t.session.Parent).
		Str("mode", p.mode).Int("tunnels", p.limits.Tunnels).Msg("listening")
	select {
	case <-ctx.Done():
	case err := <-t.served:
		t.served <- err
	}
	log.Info().Dur("drain", t.drain).Msg("stopping")
	drain, cancel := context.WithTimeout(context.Background(), t.drain)
	defer cancel()
	if err := t.end(drain, nil); err != nil {
		return err
	}
	log.Info().Uint64("lost", t.ledger.Lost()).Msg("stopped")
	return nil
}
