package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// daemon are the flags of serve.
type daemon struct {
	config   string
	proxy    string
	stop     stopFlags
	watch    bool
	names    nameFlags
	captures captureFlags
	admin    adminFlags
	workload workloadFlags
	required
	path
}

func newServe(env environ) *cobra.Command {
	c, d := serveFlags()
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := configure(c, d.config); err != nil {
			return err
		}
		return configured(c, serve(c, env, d))
	}
	return c
}

// serveFlags is the command, without what it does.
func serveFlags() (*cobra.Command, *daemon) {
	d := &daemon{}
	c := &cobra.Command{
		Use:   "serve [--config FILE] [flags]",
		Short: "The daemon: proxy and name server that record until told to stop",
		Long: `serve listens for CONNECT and absolute-form HTTP, answers DNS where --dns says
so, takes what the firewall's rules send to --redirect and --tproxy (--nftables
loads them, 'egressaudit env --format nftables' prints them), and writes one
ledger until SIGTERM or SIGINT: then /readyz is red, it goes on as before for
--shutdown-delay, stops accepting, lets open tunnels finish for --drain, cuts
what is left, and closes the ledger. A second signal cuts at once. Make the
report with 'egressaudit report LEDGER'.

SIGHUP reads the catalogs (and --config) again, as --watch-files does when they
change; where they are wrong, the last good ones stay in force. A phase is named
by 'egressaudit mark TEXT'.

--admin has a live page for browsers: the checklist, as it turns, connections,
and every report to download. On loopback whoever is on this host may look; the
token (--admin-token-file) that others need keeps them out there, too.

On any address but loopback --clients says who may use it. Private destinations
are guarded unless a catalog lists their name or --allow-address says so.

A configuration file is YAML with the names of the flags as its keys, such as
'proxy: 10.0.0.5:3128' or 'catalog: [azure-arc, own.yaml]'; flags win.

Exit status: 0 stopped as told, 2 trouble.`,
		Example: `  egressaudit serve --proxy 10.0.0.5:3128 --clients 10.0.0.0/16 --ledger t.jsonl
  egressaudit serve --dns 10.0.0.5:53 --clients 10.0.0.0/16 --resolver 10.9.0.53`,
		Args: noArgs,
	}
	group(c, "The listeners", func(f *pflag.FlagSet) {
		f.StringVar(&d.config, "config", "", "YAML `FILE` with any of these flags in it (default none)")
		f.StringVar(&d.proxy, "proxy", proxyDoor.example, "`ADDRESS:PORT` to listen on; port 0 is any free one")
		f.StringArrayVar(&d.clients, "clients", nil, "`CIDR` of those who may use proxy, name server and transparent listeners; repeatable (default loopback)")
		f.BoolVar(&d.watch, "watch-files", false, "read --config and the files of --catalog again when their content changes")
	})
	d.stop.register(c)
	d.names.register(c)
	d.captures.register(c)
	d.workload.register(c)
	d.admin.register(c)
	d.required.register(c, "")
	d.registerScope(c, "all")
	d.path.register(c, "none", "node")
	return c, d
}

func serve(c *cobra.Command, env environ, d *daemon) (err error) {
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	reload := make(chan os.Signal, 1)
	notifyReload(reload)
	defer signal.Stop(reload)
	outliveReaders() // of the log
	if err := d.stop.check(); err != nil {
		return err
	}
	ours, err := d.workload.ours(d.captures.nftables)
	if err != nil {
		return err
	}
	api, err := d.workload.connect()
	if err != nil {
		return err
	}
	log := zerolog.New(zerolog.ConsoleWriter{Out: env.stderr, NoColor: true}).With().Timestamp().Logger()
	a, err := d.admin.open()
	if err != nil {
		return err
	}
	defer a.shut()
	files := d.watched(c) // before they are read
	t, err := begin(env, &d.required, &d.path, settings{
		listen: d.proxy, names: d.names, captures: d.captures, own: a.address(), noProxy: split(d.noProxy), log: log, observe: a.observe, api: api, ours: ours,
	})
	if err != nil {
		return err
	}
	a.serve(t)
	tell(log, t, a.address(), d)
	warn(log, notify(env, "READY=1"))
	t.watch(ctx, reload, files.ticks(), func() { files.read(); t.reload(c, a, log) }, func() {
		if files.changed() {
			t.reload(c, a, log)
		}
	})
	warn(log, notify(env, "STOPPING=1"))
	return t.finish(a, d.stop.delay, log)
}

// warn tells of trouble that does not end the recording.
func warn(log zerolog.Logger, err error) {
	if err != nil {
		log.Warn().Msg(oneLine(err))
	}
}

// tell says in one line what runs.
func tell(log zerolog.Logger, t *trial, admin []netip.AddrPort, d *daemon) {
	line := log.Info().Str("proxy", t.listener.Addr().String())
	if t.names.udp != nil {
		line = line.Str("dns", t.names.udp.LocalAddr().String())
	}
	for _, k := range t.captures.doors() {
		if !k.udp {
			line = line.Str(k.kind, k.at.String())
		}
	}
	for _, a := range admin {
		line = line.Str("admin", a.String())
	}
	line.Str("ledger", t.path).Str("parent", t.ways).Str("mode", d.mode).Int("tunnels", d.limits.Tunnels).Msg("listening")
}

// watch waits for the end, reloads when told, and looks at every tick.
func (t *trial) watch(ctx context.Context, hup <-chan os.Signal, tick <-chan time.Time, reload, look func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.served:
			return
		case <-t.names.done:
			return
		case <-t.captures.done:
			return
		case <-hup:
			reload()
		case <-tick:
			look()
		}
	}
}

// reload reads the catalogs again, and the configuration file for them. What is
// wrong changes nothing.
func (t *trial) reload(c *cobra.Command, a *admin, log zerolog.Logger) {
	d, waits, err := reread(c)
	if err == nil {
		err = t.renew(d)
	}
	if err != nil {
		log.Error().Msg("reload: " + oneLine(err) + "; the last good catalogs stay in force")
		return
	}
	a.hold(t)
	for _, name := range waits {
		log.Warn().Str("flag", name).Msg("changed in --config, and takes effect at the next start")
	}
	line := log.Info()
	for _, r := range t.session.Catalogs {
		line = line.Str(r.Name, r.Revision+" "+short(r.Digest))
	}
	line.Msg("catalogs reloaded")
	if err := t.sing(); err != nil {
		log.Error().Msg(oneLine(err) + "; reports of this recording cannot clear")
	}
}

func (t *trial) renew(d *daemon) error {
	catalogs, err := d.load()
	if err != nil {
		return err
	}
	return t.relist(catalogs, &d.required)
}

// short is the beginning of a digest.
func short(digest string) string { return fmt.Sprintf("%.19s", digest) }

// reread is d as the flags and the configuration file say now. waits are the flags
// whose new values only a new start takes.
func reread(was *cobra.Command) (d *daemon, waits []string, err error) {
	c, d := serveFlags()
	was.Flags().Visit(func(f *pflag.Flag) {
		if err == nil && f.Annotations[fromFile] == nil {
			err = copyFlag(c.Flags().Lookup(f.Name), f)
			c.Flags().Lookup(f.Name).Changed = true
		}
	})
	if err == nil {
		err = configure(c, d.config)
	}
	if err != nil {
		return nil, nil, err
	}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !reloads[f.Name] && f.Value.String() != was.Flags().Lookup(f.Name).Value.String() {
			waits = append(waits, f.Name)
		}
	})
	return d, waits, nil
}

// reloads are the flags that SIGHUP reads again.
var reloads = map[string]bool{"catalog": true, "scope": true, "region": true, "set": true, "help": true}
