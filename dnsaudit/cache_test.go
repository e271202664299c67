package dnsaudit

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

func TestCache(t *testing.T) {
	var asked atomic.Int32
	var script script = func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		write(w, answered(q, 0, "a.example. 60 A 192.0.2.1"))
	}
	at := server(t, script)
	ask := func(d *desk, network string, change func(q *dns.Msg)) {
		q := asking("a.example.", dns.TypeA)
		change(q)
		m := d.exchange(t, network, q)
		require.Equal(t, q.Question, m.Question)
		require.Equal(t, "192.0.2.1", m.Answer[0].(*dns.A).A.String())
	}
	tests := []struct {
		name   string
		change func(q *dns.Msg)
		hit    bool
	}{
		{"the same", func(*dns.Msg) {}, true},
		{"another ID", func(q *dns.Msg) { q.Id++ }, true},
		{"another case", func(q *dns.Msg) { q.Question[0].Name = "A.eXample." }, true},
		{"CD", func(q *dns.Msg) { q.CheckingDisabled = true }, false},
		{"EDNS", func(q *dns.Msg) { q.SetEdns0(1232, false) }, false},
		{"DO", func(q *dns.Msg) { q.SetEdns0(1232, true) }, false},
	}
	for _, tt := range tests {
		d := forward(t, ForwarderConfig{Cache: true}, at)
		asked.Store(0)
		ask(d, "udp", func(*dns.Msg) {})
		require.Nil(t, d.next(t).Detail)
		ask(d, "tcp", tt.change)
		o := d.next(t)
		require.Equal(t, tt.hit, o.Detail["cached"] == true, tt.name)
		require.Equal(t, tt.hit, asked.Load() == 1, tt.name)
		require.Equal(t, []string{"192.0.2.1"}, o.Answers)
		require.Equal(t, at.String(), o.Upstream)
	}
	d := forward(t, ForwarderConfig{}, at)
	asked.Store(0)
	ask(d, "udp", func(*dns.Msg) {})
	ask(d, "udp", func(*dns.Msg) {})
	require.Equal(t, int32(2), asked.Load(), "off by default")
}

func TestCacheAges(t *testing.T) {
	soa := "example. 900 SOA a. b. 1 2 3 4 30"
	now := time.Unix(0, 0)
	tests := []struct {
		name     string
		rcode    int
		answer   []string
		ns       []string
		lifetime time.Duration // 0: not kept
	}{
		{"the least TTL", 0, []string{"a.example. 60 CNAME b.example.", "b.example. 20 A 192.0.2.1"}, nil, 20 * time.Second},
		{"an hour at most", 0, []string{"a.example. 86400 A 192.0.2.1"}, nil, time.Hour},
		{"TTL 0", 0, []string{"a.example. 0 A 192.0.2.1"}, nil, 0},
		{"NXDOMAIN", dns.RcodeNameError, nil, []string{soa}, 30 * time.Second},
		{"NODATA", 0, nil, []string{soa}, 30 * time.Second},
		{"a chain to NXDOMAIN", dns.RcodeNameError, []string{"a.example. 600 CNAME b.example."}, []string{soa}, 30 * time.Second},
		{"nothing says how long", dns.RcodeNameError, nil, nil, 0},
		{"SERVFAIL", dns.RcodeServerFailure, []string{"a.example. 60 A 192.0.2.1"}, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := answered(asking("a.example.", dns.TypeA), tt.rcode, tt.answer...)
			for _, s := range tt.ns {
				m.Ns = append(m.Ns, record(s))
			}
			m.SetEdns0(1232, true)
			pkt := packed(t, m)
			q, _ := readQuery(packed(t, asking("A.example.", dns.TypeA)))
			c := newCache()
			c.keep(q, result{packet: pkt, from: "x"}, now)
			_, ok := c.find(q, now)
			require.Equal(t, tt.lifetime > 0, ok)
			if !ok {
				return
			}
			r, ok := c.find(q, now.Add(tt.lifetime-1))
			require.True(t, ok)
			var aged dns.Msg
			require.NoError(t, aged.Unpack(r.packet))
			require.Equal(t, q.id, aged.Id)
			require.Equal(t, "A.example.", aged.Question[0].Name)
			gone := uint32((tt.lifetime - 1) / time.Second)
			for i, rr := range append(m.Answer, m.Ns...) {
				require.Equal(t, rr.Header().Ttl-gone, append(aged.Answer, aged.Ns...)[i].Header().Ttl)
			}
			require.True(t, aged.IsEdns0().Do(), "what stands in the TTL of OPT is no TTL")
			_, ok = c.find(q, now.Add(tt.lifetime))
			require.False(t, ok)
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	c, now := newCache(), time.Unix(0, 0)
	for i := range cacheEntries + 10 {
		m := asking(fmt.Sprintf("n%d.example.", i), dns.TypeA)
		q, _ := readQuery(packed(t, m))
		c.keep(q, result{packet: packed(t, answered(m, 0, m.Question[0].Name+" 60 A 192.0.2.1"))}, now)
	}
	require.Len(t, c.kept, cacheEntries)
}

// Nothing in the answer to a question makes lifetime fail, and every TTL stands
// in the packet.
func FuzzLifetime(f *testing.F) {
	f.Add(packed(f, answered(asking("a.example.", dns.TypeA), 0, "a.example. 60 A 192.0.2.1")))
	f.Fuzz(func(t *testing.T, pkt []byte) {
		if len(pkt) < headerLen {
			return
		}
		ttls, d := lifetime(pkt)
		require.LessOrEqual(t, d, cacheAtMost)
		for _, at := range ttls {
			_ = binary.BigEndian.Uint32(pkt[at:])
		}
	})
}
