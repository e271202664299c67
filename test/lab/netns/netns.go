// Package netns builds small networks of Linux network namespaces and takes
// them down again, by calling ip, nft and iptables as root. A Net is a handful
// of namespaces whose names begin with a prefix and the number of the process
// that made them; Sweep removes what a killed process left behind. Programs
// started in a namespace die with this process, even when it is killed.
//
// It knows nothing of what runs in the namespaces or of what is tested there,
// and it never joins one to the host: a link has both its ends in namespaces of
// its own.
package netns

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Net is a set of namespaces that are made and removed together. Its methods may
// be called at once, but Close alone at last.
type Net struct {
	prefix string
	spaces []*Space
	links  int
}

// New makes an empty network. The prefix is a few lower-case letters; label
// tells networks of one process apart.
func New(prefix, label string) *Net {
	return &Net{prefix: fmt.Sprintf("%s%d-%s-", prefix, os.Getpid(), label)}
}

// Close ends every program in the namespaces and removes them. It may be called
// twice.
func (n *Net) Close() error {
	var errs []error
	for _, s := range n.spaces {
		errs = append(errs, s.close())
	}
	n.spaces = nil
	return errors.Join(errs...)
}

// Add makes a namespace, with its loopback up. It forwards nothing, says nothing
// but what was asked (no duplicate address detection), and sends as many ICMP
// errors as there are reasons for.
func (n *Net) Add(name string) (*Space, error) {
	s := &Space{Name: n.prefix + name, work: make(chan func())}
	if err := command("ip", "netns", "add", s.Name); err != nil {
		return nil, err
	}
	n.spaces = append(n.spaces, s)
	if err := s.enter(func() error { return setns(filepath.Join(dir, s.Name)) }); err != nil {
		return nil, err
	}
	return s, errors.Join(
		s.Run("ip", "link", "set", "lo", "up"),
		s.Run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0",
			"net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0"),
	)
}

// Link joins two namespaces by a cable. The addresses are those of its two ends,
// with prefix lengths ("10.1.0.1/24"); an end may have several, set apart by
// blanks.
func (n *Net) Link(a *Space, aAddrs string, b *Space, bAddrs string) error {
	n.links++
	left, right := fmt.Sprintf("l%da", n.links), fmt.Sprintf("l%db", n.links)
	if err := command("ip", "link", "add", left, "netns", a.Name, "type", "veth", "peer", "name", right, "netns", b.Name); err != nil {
		return err
	}
	return errors.Join(a.plug(left, aAddrs), b.plug(right, bAddrs))
}

// Router lets the namespace forward both families.
func (s *Space) Router() error {
	return s.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.forwarding=1")
}

func (s *Space) plug(device, addrs string) error {
	for _, a := range strings.Fields(addrs) {
		args := []string{"addr", "add", a, "dev", device}
		if strings.Contains(a, ":") {
			args = append(args, "nodad")
		}
		if err := s.Run("ip", args...); err != nil {
			return err
		}
	}
	return s.Run("ip", "link", "set", device, "up")
}

// Route sends what goes to a prefix ("default", "10.0.0.0/8") to the gateway.
func (s *Space) Route(to, via string) error {
	family := "-4"
	if strings.Contains(via, ":") {
		family = "-6"
	}
	return s.Run("ip", family, "route", "add", to, "via", via)
}

// Own makes every address of a prefix one of the namespace itself.
func (s *Space) Own(prefix string) error {
	return s.Run("ip", "route", "add", "local", prefix, "dev", "lo")
}

// Nft loads rules in the language of nft(8).
func (s *Space) Nft(rules string) error { return s.feed(rules, "nft", "-f", "-") }

// Iptables loads rules in the language of iptables-restore(8), for one family: 4
// or 6. What was there stays.
func (s *Space) Iptables(family int, rules string) error {
	program := "iptables-restore"
	if family == 6 {
		program = "ip6tables-restore"
	}
	return s.feed(rules, program, "--noflush")
}

// Batch runs commands of ip(8), one a line and without the word ip.
func (s *Space) Batch(commands string) error { return s.feed(commands, "ip", "-batch", "-") }

// Run runs a program in the namespace; what it wrote is part of the error.
func (s *Space) Run(name string, args ...string) error { return s.feed("", name, args...) }

func (s *Space) feed(input, name string, args ...string) error {
	var out bytes.Buffer
	c := exec.Command(name, args...)
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(input), &out, &out
	if err := s.Start(c); err != nil {
		return err
	}
	if err := c.Wait(); err != nil {
		return fmt.Errorf("in namespace %q, %s: %w: %s", s.Name, strings.Join(c.Args, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}

// command runs a program where we are.
func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// leashed has the program killed when the thread that started it ends: with this
// process at the latest.
func leashed(c *exec.Cmd) {
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
