package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// defaultProxy is where serve listens.
const defaultProxy = "127.0.0.1:3128"

func newServe(env environ) *cobra.Command {
	var r required
	var p path
	var address string
	c := &cobra.Command{
		Use:   "serve [flags]",
		Short: "The daemon: a proxy that records until it is told to stop",
		Long: `serve listens for CONNECT and absolute-form HTTP and writes the ledger until
SIGTERM or SIGINT: then it stops accepting, lets open tunnels finish for
--drain, cuts what is left, and closes the ledger. A second signal cuts at once.
Make the report with 'egressaudit report LEDGER'.

On any address but loopback --clients says who may use it. Private destinations
are guarded unless a catalog lists their name or --allow-address says so.

Exit status: 0 stopped as told, 2 trouble.`,
		Example: `  egressaudit serve --proxy 10.0.0.5:3128 --clients 10.0.0.0/16 --ledger t.jsonl`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return serve(c.Context(), env, &r, &p, address)
		},
	}
	group(c, "The listener", func(f *pflag.FlagSet) {
		f.StringVar(&address, "proxy", defaultProxy, "`ADDRESS:PORT` to listen on; port 0 is any free one")
		f.StringArrayVar(&p.clients, "clients", nil, "`CIDR` of those who may use the proxy; repeatable (default loopback)")
	})
	r.register(c, "")
	r.registerScope(c, "all")
	p.register(c, "none", "node")
	return c
}

func serve(ctx context.Context, env environ, r *required, p *path, address string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := zerolog.New(zerolog.ConsoleWriter{Out: env.stderr, NoColor: true}).With().Timestamp().Logger()
	t, err := begin(env, r, p, settings{listen: address, noProxy: split(p.noProxy), log: log})
	if err != nil {
		return err
	}
	log.Info().Str("proxy", t.listener.Addr().String()).Str("ledger", t.path).Str("parent", t.session.Parent).
		Str("mode", p.mode).Int("tunnels", p.limits.Tunnels).Msg("listening")
	select {
	case <-ctx.Done():
	case <-t.served:
	}
	again, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log.Info().Dur("drain", t.drain).Msg("stopping") // from now on a signal counts as the second
	drain, cancel := context.WithTimeout(again, t.drain)
	defer cancel()
	if err := t.end(drain, nil); err != nil {
		return err
	}
	log.Info().Uint64("lost", t.ledger.Lost()).Msg("stopped")
	return nil
}
