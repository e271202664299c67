package nftables

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"syscall"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Loaded is a rule set that the kernel has, until Close or the end of the process.
// Its methods may be called at once, but not after Close.
type Loaded struct {
	mu sync.Mutex // of what is queued and sent
	compiler
	routes *routes
}

// ours is the table that rules are loaded into.
var ours = &nft.Table{Family: nft.TableFamilyINet, Name: Table}

// Load gives the kernel of this network namespace the rule set that Render writes,
// for the clients of a gateway, and the routes that TPROXY needs. It replaces what
// stands there under the name of the table, unless another process owns it. It
// needs CAP_NET_ADMIN and Linux 5.12; the error says what is missing, and then
// nothing is loaded.
func Load(p Params) (*Loaded, error) {
	if p.Host() {
		return nil, errors.New("load nftables rules: no range of clients")
	}
	var text strings.Builder
	if err := Render(&text, p); err != nil {
		return nil, err
	}
	l := &Loaded{compiler: compiler{table: ours}}
	err := l.own()
	if err == nil {
		err = l.give(text.String())
	}
	if err == nil && p.TProxy != 0 {
		l.routes, err = layRoutes()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load nftables rules: %w", err), l.Close())
	}
	return l, nil
}

// ownerFlag is NFT_TABLE_F_OWNER of linux/netfilter/nf_tables.h.
const ownerFlag = 2

// own makes the table anew and empty, on a socket of its own with which it ends.
// The library knows no flags of tables.
func (l *Loaded) own() error {
	var socket *netlink.Conn
	conn, err := nft.New(nft.AsLasting(), nft.WithSockOptions(func(c *netlink.Conn) error { socket = c; return nil }))
	if err != nil {
		return err
	}
	l.conn = conn
	sent, err := socket.SendMessages([]netlink.Message{
		message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.NFNL_SUBSYS_NFTABLES),
		tableMessage(unix.NFT_MSG_NEWTABLE, 0), // so that there is one to remove
		tableMessage(unix.NFT_MSG_DELTABLE, 0),
		tableMessage(unix.NFT_MSG_NEWTABLE, ownerFlag),
		message(unix.NFNL_MSG_BATCH_END, 0, unix.NFNL_SUBSYS_NFTABLES),
	})
	for i := 0; err == nil && i < len(sent)-2; i++ { // an answer for each between the ends
		_, err = socket.Receive()
	}
	return refused(err)
}

// message is one to nfnetlink with its header, nfgenmsg.
func message(kind netlink.HeaderType, family byte, resource byte) netlink.Message {
	return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request}, Data: []byte{family, unix.NFNETLINK_V0, 0, resource}}
}

func tableMessage(kind netlink.HeaderType, flags byte) netlink.Message {
	m := message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NFPROTO_INET, 0)
	m.Header.Flags |= netlink.Acknowledge
	if kind == unix.NFT_MSG_NEWTABLE {
		m.Header.Flags |= netlink.Create
	}
	attributes, _ := netlink.MarshalAttributes([]netlink.Attribute{ // two short ones always fit
		{Type: unix.NFTA_TABLE_NAME, Data: []byte(Table + "\x00")},
		{Type: unix.NFTA_TABLE_FLAGS, Data: []byte{0, 0, 0, flags}},
	})
	m.Data = append(m.Data, attributes...)
	return m
}

// refused says why the kernel does not give us the table.
func refused(err error) error {
	switch {
	case errors.Is(err, syscall.EPERM):
		if tables, err := new(nft.Conn).ListTablesOfFamily(ours.Family); err == nil && len(tables) > 0 {
			return fmt.Errorf("another process owns table inet %s (one egressaudit at a time can capture here): %w", Table, syscall.EPERM)
		}
		return fmt.Errorf("%w (run as root, or grant CAP_NET_ADMIN)", syscall.EPERM)
	case errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EOPNOTSUPP):
		return fmt.Errorf("the kernel knows no tables that end with their process: it takes Linux 5.12 or later: %w", err)
	}
	return err
}

// give loads all parts, or none.
func (l *Loaded) give(text string) error {
	if err := l.add(text); err != nil {
		return err
	}
	if err := l.conn.Flush(); err != nil {
		return fmt.Errorf("%w (it takes the kernel modules nf_tables, nft_redir, nft_tproxy, nft_socket, nft_fib_inet and nft_ct)", err)
	}
	return nil
}

// passes are the rules of the chain "passing" once nothing new is taken: what came
// by TPROXY was told apart before, by its socket.
var passes = []string{"meta l4proto tcp ct state new counter name unseen_tcp", "meta l4proto tcp accept"}

// Pass lets TCP connections that begin from now on, and DNS, go their ordinary way,
// the connections counted as unseen. Those that were taken go on coming to us. UDP
// 443 passes as soon as nobody listens.
func (l *Loaded) Pass() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn.FlushChain(&nft.Chain{Table: l.table, Name: "redirect_client"})
	for _, line := range passes {
		if err := l.rule("passing", line); err != nil {
			return err
		}
	}
	return l.conn.Flush()
}

// Leave has the rules leave these addresses alone from now on, as Params.Own says,
// and none else: all at once, or, with an error, as before. Connections that were
// taken before go on coming to us.
func (l *Loaded) Leave(own []netip.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range ownSets(own) {
		set := &nft.Set{Table: l.table, Name: s.Name, Interval: true}
		l.conn.FlushSet(set)
		if err := l.fill(set, s.Elements); err != nil {
			return fmt.Errorf("set %q: %w", s.Name, err)
		}
	}
	if err := l.conn.Flush(); err != nil {
		return fmt.Errorf("replace the addresses that the nftables rules leave alone: %w", err)
	}
	return nil
}

// Close takes rules and routes away, and so ends what still comes by them.
func (l *Loaded) Close() error {
	if l.conn == nil {
		return nil
	}
	return errors.Join(l.conn.CloseLasting(), l.routes.close())
}

// Counters reads the counters of the table in this network namespace, whoever
// loaded it. It needs CAP_NET_ADMIN.
func Counters() ([]Counter, error) {
	objects, err := new(nft.Conn).GetNamedObjects(ours)
	if err != nil {
		return nil, fmt.Errorf("read the counters of table inet %s: %w", Table, err)
	}
	var list []Counter
	for _, o := range objects {
		if n, ok := o.(*nft.NamedObj); ok {
			if c, ok := n.Obj.(*expr.Counter); ok {
				list = append(list, Counter{Name: n.Name, Packets: c.Packets, Bytes: c.Bytes})
			}
		}
	}
	return list, nil
}
