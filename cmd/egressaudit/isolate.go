package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/proxy"
	"github.com/egressaudit/egressaudit/proxy/capture/isolate"
)

// isolateFlags are the flags of run's own network namespace.
type isolateFlags struct {
	on    bool
	allow []string
}

func (f *isolateFlags) register(c *cobra.Command) {
	group(c, "Isolation (Linux)", func(s *pflag.FlagSet) {
		s.BoolVar(&f.on, "isolate", false, "COMMAND gets a network namespace of its own, whose only way out is through us")
		s.StringArrayVar(&f.allow, "isolate-allow", nil, "`HOST:PORT`, on this host's loopback or near it, that COMMAND may reach, through us, whatever guard and mode say; repeatable (default none)")
	})
}

// isolation is a trial whose command has a network namespace of its own. A nil one
// is none, and its methods do nothing.
type isolation struct {
	space    *isolate.Space
	through  []netip.AddrPort
	noIPv6   bool
	refusals *isolate.Refusals
	watched  chan struct{} // closed when no refused packet comes any more
	lost     uint64        // good after watched
	broken   error         // good after watched
}

// start makes the namespace, with the process in it that becomes the command; nil
// where none was asked for.
func (f *isolateFlags) start(env environ) (*isolation, error) {
	if !f.on {
		if len(f.allow) > 0 {
			return nil, fmt.Errorf("--isolate-allow %q: is for --isolate, which is not given", f.allow[0])
		}
		return nil, nil
	}
	i := &isolation{noIPv6: !routesIPv6()}
	for _, a := range f.allow {
		to, err := destinations(a)
		if err != nil {
			return nil, err
		}
		i.through = append(i.through, to...)
	}
	var err error
	i.space, err = isolate.Start(isolate.Config{Through: i.through, NoIPv6: i.noIPv6}, env.stdin, env.stdout, env.stderr)
	if errors.Is(err, isolate.ErrForbidden) {
		err = hinted(err, "run egressaudit as root, or allow unprivileged user namespaces: %s", allowance())
	}
	if err != nil {
		return nil, fmt.Errorf("--isolate: %w", err)
	}
	return i, nil
}

// allowance names the setting of this kernel that forbids user namespaces.
func allowance() string {
	for _, s := range []struct{ name, bad, good string }{
		{"kernel.unprivileged_userns_clone", "0", "1"},
		{"kernel.apparmor_restrict_unprivileged_userns", "1", "0"},
		{"user.max_user_namespaces", "0", "10000"},
	} {
		b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(s.name, ".", "/"))
		if err == nil && strings.TrimSpace(string(b)) == s.bad {
			return "sysctl " + s.name + "=" + s.good
		}
	}
	return "where this is a container, its runtime's seccomp or AppArmor profile forbids them"
}

// destinations reads HOST:PORT; a name's addresses are those of now.
func destinations(text string) ([]netip.AddrPort, error) {
	n, port, err := policy.ParseTarget(text)
	if err != nil {
		return nil, hinted(fmt.Errorf("--isolate-allow %q: %w", text, err), "write HOST:PORT, such as 127.0.0.1:6443")
	}
	if a, bare := n.Addr(); bare {
		return []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), port)}, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(context.Background(), "ip", n.String())
	if err != nil {
		var e *net.DNSError
		if errors.As(err, &e) {
			err = errors.New(e.Err)
		}
		return nil, hinted(fmt.Errorf("--isolate-allow %q: look up %q: %w", text, n, err), "or write its address")
	}
	var to []netip.AddrPort
	for _, a := range addrs {
		to = append(to, netip.AddrPortFrom(a.Unmap().WithZone(""), port))
	}
	return to, nil
}

// routesIPv6 says whether this host has a way to public IPv6 addresses. No packet
// is sent.
func routesIPv6() bool {
	c, err := net.Dial("udp6", "[2000::1]:9")
	if err == nil {
		c.Close()
	}
	return err == nil
}

// open takes the namespace's sockets for those of the trial.
func (i *isolation) open(t *trial, p *path, config *proxy.Config) error {
	t.listener, t.captures.redirect = i.space.Proxy, i.space.Captured
	t.names.udp, t.names.tcp = i.space.Packets, i.space.Names
	config.Clients, config.Through, config.RefuseQUIC, config.CapturedDirect = isolate.Clients(), i.through, true, true
	servers, err := p.serversBehind(config.Parent != nil, "")
	if err != nil {
		return err
	}
	return t.names.prepare(p, nameFlags{}, servers, config, t.record)
}

// serve begins to record what the namespace refuses.
func (i *isolation) serve(t *trial) {
	if i == nil {
		return
	}
	i.refusals, i.watched = isolate.NewRefusals(t.proxy.JudgeFlow, t.record), make(chan struct{})
	go func() {
		defer close(i.watched)
		i.lost, i.broken = i.space.Watch(i.refusals.Add)
	}()
}

// end records what was refused, and says what of it is not in the ledger.
func (i *isolation) end(book *ledger.Writer) (blind []string, err error) {
	if i == nil {
		return nil, nil
	}
	i.space.Unwatch()
	<-i.watched
	blind = i.refusals.End()
	if i.lost > 0 {
		err = book.Miss(int(i.lost), "packets were refused faster than they could be read")
	}
	return blind, errors.Join(i.broken, err)
}

// close ends the command, where it has not, and says what it left running.
func (i *isolation) close(env environ) {
	if i == nil {
		return
	}
	if left := i.space.Processes(); i.space.Command != nil && i.space.Command.ProcessState != nil && len(left) > 0 {
		say(env, "processes that the command left behind still run, without a network: %s", strings.Trim(fmt.Sprint(left), "[]"))
	}
	i.space.Close()
}

// listeners are the ways to us that are no sockets, as the ledger has them.
func (i *isolation) listeners() []string {
	switch {
	case i == nil:
		return nil
	case i.space.Unprivileged:
		return []string{"isolate user-namespace"}
	}
	return []string{"isolate network-namespace"}
}

// maxSockets bounds the list of unix sockets, in octets.
const maxSockets = 200

// blind says what a namespace of networks does not keep apart.
func (i *isolation) blind() (spots []string) {
	if i == nil {
		return nil
	}
	if i.noIPv6 {
		spots = append(spots, "this host has no route for IPv6: what the command tried to reach by it failed at once, and is not recorded")
	}
	all := isolate.UnixSockets()
	if len(all) == 0 {
		return spots
	}
	shown := all[:1]
	for n := len(all[0]); len(shown) < len(all) && n < maxSockets; n += len(all[len(shown)-1]) + 2 {
		shown = all[:len(shown)+1]
	}
	text := "behind unix sockets others could connect for the command: " + strings.Join(shown, ", ")
	if more := len(all) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return append(spots, text)
}

// isolatedEnv is the caller's environment. With a parent in force our proxy stands
// for it, since only a client that knows of a proxy leaves names for the parent to
// resolve; without one, settings of a proxy would lead around the parent flag.
func (t *trial) isolatedEnv(vars []string) []string {
	if t.session.Parent != "" {
		return childEnv(vars, "http://127.0.0.1:"+strconv.Itoa(int(bound(t.listener.Addr()).Port())))
	}
	return slices.DeleteFunc(slices.Clone(vars), proxySetting)
}
