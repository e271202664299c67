package hello_test

import (
	"crypto/tls"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

// chainIn reads a server's stream in the pieces given.
func chainIn(pieces ...[]byte) [][]byte {
	var h hello.Handshake
	h.Client(hi.b)
	for _, b := range pieces {
		h.Server(b)
	}
	return h.Chain()
}

// serverSide is what the server said in a conversation.
func serverSide(tape []said) (stream []byte) {
	for _, s := range tape {
		if !s.client {
			stream = append(stream, s.b...)
		}
	}
	return stream
}

// shows demands a chain of every chunking; and that it is there before the
// client can have answered.
func shows(t *testing.T, want [][]byte, tape []said) {
	t.Helper()
	for _, size := range []int{1, 2, 3, 5, 7, 100, 1 << 20} {
		var h hello.Handshake
		follow(&h, tape, size)
		require.Equal(t, want, h.Chain(), "in pieces of %d", size)
		require.Equal(t, want, h.TakeChain())
		require.Nil(t, h.Chain())
		require.Nil(t, h.TakeChain())
	}
	if want == nil {
		return
	}
	var h hello.Handshake
	for _, s := range tape {
		if s.client && h.Stage() == hello.AwaitingClient {
			require.Equal(t, want, h.Chain(), "before the client answers")
			return
		}
		follow(&h, []said{s}, 1<<20)
	}
}

// witness makes a client that notes the certificates crypto/tls was shown, on
// resumption those of the first handshake.
func witness(peers *[][]byte) *tls.Config {
	return &tls.Config{
		ServerName: "a.example", InsecureSkipVerify: true, MinVersion: tls.VersionTLS10,
		VerifyConnection: func(s tls.ConnectionState) error {
			*peers = nil
			for _, c := range s.PeerCertificates {
				*peers = append(*peers, c.Raw)
			}
			return nil
		},
	}
}

func TestChainReal(t *testing.T) {
	p256, r2048, r4096 := ecdsaKey(t), rsaKey(t, 2048), rsaKey(t, 4096)
	const v10, v11, v12, v13 = tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13
	many := make([]string, 2000)
	for i := range many {
		many[i] = fmt.Sprintf("n%d.example", i)
	}
	for _, c := range []struct {
		why     string
		version uint16
		chain   tls.Certificate
		visits  int // the last one is looked at
		hidden  bool
	}{
		{"ECDSA, the leaf alone", v12, chainOf(t, p256, 1), 1, false},
		{"ECDSA, two", v12, chainOf(t, p256, 2), 1, false},
		{"ECDSA, three", v12, chainOf(t, p256, 3), 1, false},
		{"RSA, the leaf alone", v12, chainOf(t, r2048, 1), 1, false},
		{"RSA, two", v12, chainOf(t, r2048, 2), 1, false},
		{"RSA, three", v12, chainOf(t, r2048, 3), 1, false},
		{"RSA 4096, sixteen: more than a record holds", v12, chainOf(t, r4096, 16), 1, false},
		{"a leaf of many names: longer than a record", v12, chainOf(t, p256, 1, many...), 1, false},
		{"1.1", v11, chainOf(t, r2048, 2), 1, false},
		{"1.0", v10, chainOf(t, r2048, 2), 1, false},
		{"1.3 encrypts it", v13, chainOf(t, p256, 2), 1, true},
		{"1.2 resumed: no Certificate message", v12, chainOf(t, p256, 2), 2, true},
		{"more certificates than we hold", v12, chainOf(t, p256, 17), 1, true},
		{"more bytes than we hold", v12, chainOf(t, p256, 3, many...), 1, true},
	} {
		t.Run(c.why, func(t *testing.T) {
			target := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{c.chain}, MinVersion: v10, MaxVersion: c.version})
			var peers [][]byte
			client := witness(&peers)
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			var tape []said
			for range c.visits {
				var err error
				tape, err = visit(t, target, client)
				require.NoError(t, err)
			}
			require.Equal(t, c.chain.Certificate, peers)
			comesTo(t, want{stage: hello.Finished, version: c.version, decided: true}, false, tape)
			if c.hidden {
				peers = nil
			}
			shows(t, peers, tape)
		})
	}
}

// A client that refuses is the one whose certificate matters.
func TestChainRefused(t *testing.T) {
	chain := chainOf(t, ecdsaKey(t), 2)
	target := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{chain}, MaxVersion: tls.VersionTLS12})
	tape, err := visit(t, target, &tls.Config{ServerName: "a.example", RootCAs: newAuthority(t).pool()})
	require.Error(t, err)
	comesTo(t, want{hello.ClientAlert, tls.VersionTLS12, "bad_certificate", false, true}, false, tape)
	shows(t, chain.Certificate, tape)
}

func TestChainSteps(t *testing.T) {
	hs := func(parts ...[]byte) said { return said{false, record(22, join(parts...))} }
	hello12, message := serverHello(0x0303, 0xc02f), chainMessage(leaf, root)
	both := [][]byte{leaf, root}
	sixteen := slices.Repeat([][]byte{root}, 16)
	most := make([]byte, 64<<10-4-3-3)
	for _, c := range []struct {
		why  string
		tape []said
		want [][]byte
	}{
		{"a record for each message", []said{hi, greet12, hs(message), hs(helloDone)}, both},
		{"one record for the flight", []said{hi, hs(hello12, message, helloDone)}, both},
		{"records of 9 bytes", []said{hi, {false, recordsOf(9, join(hello12, message, helloDone))}}, both},
		{"records of one byte", []said{hi, {false, recordsOf(1, join(hello12, message))}}, both},
		{"nothing behind it", []said{hi, hs(hello12, message)}, both},
		{"SSL 3.0", []said{hi, hs(serverHello(0x0300, 10), message)}, both},
		{"a warning inside it", []said{hi, hs(hello12, message[:500]), warn(false, 1, 112), hs(message[500:])}, both},
		{"an empty record inside it", []said{hi, hs(hello12, message[:500]), hs(), hs(message[500:])}, both},
		{"HelloRequests around the ServerHello", []said{hi, hs(make([]byte, 4), hello12, make([]byte, 8), message)}, both},
		{"supplemental data before it", []said{hi, hs(hello12, []byte{23, 0, 0, 3, 0, 0, 0}, message)}, both},
		{"sixteen", []said{hi, greet12, certs(sixteen...)}, sixteen},
		{"64 KiB", []said{hi, greet12, certs(most)}, [][]byte{most}},
		{"the client's alert behind it", []said{hi, greet12, hs(message), warn(true, 2, 48)}, both},
		{"the server's alert behind it", []said{hi, greet12, hs(message), warn(false, 2, 40)}, both},
		{"a second one does not count", []said{hi, greet12, hs(message), certs(root)}, both},

		{"before the ServerHello it is none", []said{hi, hs(message, hello12)}, nil},
		{"in 1.3 it is none", []said{hi, greet13, hs(message)}, nil},
		{"in a draft of 1.3 it is none", []said{hi, greet28, hs(message)}, nil},
		{"behind a retry it is none", []said{hi, again, hs(message)}, nil},
		{"in a version nobody knows it is none", []said{hi, hs(serverHello(0x0203, 1), message)}, nil},
		{"behind a ChangeCipherSpec it is noise", []said{hi, greet12, {false, record(20, []byte{1})}, hs(message)}, nil},
		{"an anonymous server: ServerKeyExchange comes first", []said{hi, hs(hello12, []byte{12, 0, 0, 0}, message)}, nil},
		{"resumed: a ticket comes first", []said{hi, hs(hello12, []byte{4, 0, 0, 0}, message)}, nil},
		{"cut short", []said{hi, hs(hello12, message[:len(message)-1])}, nil},
		{"cut short by the client's answer", []said{hi, hs(hello12, message[:500]), done12, hs(message[500:])}, nil},
		{"cut short by the client's refusal", []said{hi, hs(hello12, message[:500]), warn(true, 2, 48), hs(message[500:])}, nil},
		{"cut short by data", []said{hi, hs(hello12, message[:500]), down(30), hs(message[500:])}, nil},
		{"seventeen", []said{hi, greet12, certs(append(sixteen, root)...)}, nil},
		{"a byte more than 64 KiB", []said{hi, greet12, certs(append(most, 0))}, nil},
		{"no body", []said{hi, hs(hello12, []byte{11, 0, 0, 0})}, nil},
		{"an empty list", []said{hi, hs(hello12, chainMessage())}, nil},
		{"an empty certificate", []said{hi, hs(hello12, chainMessage(leaf, nil))}, nil},
		{"half a length", []said{hi, hs(hello12, []byte{11, 0, 0, 5, 0, 0, 2, 0, 0})}, nil},
		{"bytes behind the list", []said{hi, hs(hello12, []byte{11, 0, 0, 8, 0, 0, 4, 0, 0, 1, 9, 9})}, nil},
		{"a raw public key, RFC 7250", []said{hi, hs(hello12, []byte{11, 0, 0, 7, 0, 0, 4, 0x30, 2, 5, 0})}, nil},
	} {
		t.Run(c.why, func(t *testing.T) { shows(t, c.want, c.tape) })
	}
}

// Cut in two at every place, and with every length byte made another.
func TestChainEverySplit(t *testing.T) {
	both := [][]byte{leaf, root}
	for _, flight := range [][]byte{
		join(greet12.b, certs(both...).b, record(22, helloDone)),
		join(record(22, join(serverHello(0x0303, 1), chainMessage(both...), helloDone))),
		recordsOf(300, join(serverHello(0x0301, 1), chainMessage(both...), helloDone)),
	} {
		for i := range flight {
			require.Equal(t, both, chainIn(flight[:i], flight[i:]), "cut at %d", i)
		}
		require.Equal(t, both, chainIn(bytewise(flight)...))
	}
}

func TestChainWrongLengths(t *testing.T) {
	message := chainMessage(leaf, root)
	lengths := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10 + len(leaf), 11 + len(leaf), 12 + len(leaf)}
	for _, i := range lengths {
		for add := 1; add < 256; add++ {
			wrong := slices.Clone(message)
			wrong[i] += byte(add)
			require.Nil(t, chainIn(greet12.b, recordsOf(16<<10, join(wrong, helloDone))), "byte %d is %d", i, wrong[i])
		}
	}
}

// The certificates are a copy, and none reaches into the next.
func TestChainIsACopy(t *testing.T) {
	flight := join(greet12.b, certs(leaf, root).b)
	chain := chainIn(flight)
	clear(flight)
	_ = append(chain[0], 0, 0, 0, 0)
	require.Equal(t, [][]byte{leaf, root}, chain)
}

func TestChainAllocations(t *testing.T) {
	full := []said{hi, greet12, certs(leaf, root), {false, record(22, helloDone)}, done12}
	for _, c := range []struct {
		why  string
		tape []said
		size int
		most float64
	}{
		{"the copy and its slices", full, 1 << 20, 2},
		{"the same in pieces", full, 100, 2},
		{"resumed", []said{hi, greet12, {false, record(20, []byte{1})}, {false, record(22, leaf)}, done12}, 1400, 0},
		{"what is announced and does not come", []said{hi, greet12, {false, record(22, []byte{11, 0, 0xff, 0xfc})}}, 1400, 0},
		{"what is too long", []said{hi, greet12, {false, record(22, []byte{11, 0, 0xff, 0xfd, 1, 2, 3})}}, 1400, 0},
	} {
		t.Run(c.why, func(t *testing.T) {
			got := testing.AllocsPerRun(200, func() {
				var h hello.Handshake
				follow(&h, c.tape, c.size)
				if (h.TakeChain() != nil) != (c.most > 0) {
					t.Error("a chain")
				}
			})
			if raceEnabled {
				t.Skip("the race detector makes sync.Pool drop buffers at random")
			}
			require.LessOrEqual(t, got, c.most)
		})
	}
}

// Thousands of tunnels are open at once: nothing of a chain stays with them.
func TestChainHoldsNothing(t *testing.T) {
	const open = 1000
	message := chainMessage(make([]byte, 40<<10))
	long := said{false, recordsOf(16<<10, message)}
	half := said{false, recordsOf(16<<10, message[:30<<10])}
	bad := slices.Clone(message)
	bad[6]--
	for _, c := range []struct {
		why  string
		tape []said
		take bool
		most uint64 // bytes of each
		fair uint64 // and at least: the measure works
	}{
		{"taken", []said{hi, greet12, long, done12}, true, 1 << 10, 0},
		{"not taken", []said{hi, greet12, long, done12}, false, 56 << 10, 40 << 10},
		{"malformed", []said{hi, greet12, {false, recordsOf(16<<10, bad)}}, false, 1 << 10, 0},
		{"half, and the client answered", []said{hi, greet12, half, done12}, false, 1 << 10, 0},
		{"half, and the client refused", []said{hi, greet12, half, warn(true, 2, 48)}, false, 1 << 10, 0},
		{"half, and data came", []said{hi, greet12, half, down(30)}, false, 1 << 10, 0},
		{"half, and more may come", []said{hi, greet12, half}, false, 56 << 10, 30 << 10},
	} {
		t.Run(c.why, func(t *testing.T) {
			shakes := make([]hello.Handshake, open)
			before := heap()
			for i := range shakes {
				follow(&shakes[i], c.tape, 1400)
				if c.take {
					shakes[i].TakeChain()
				}
			}
			after := heap()
			runtime.KeepAlive(shakes)
			each := (max(after, before) - before) / open
			require.LessOrEqual(t, each, c.most)
			require.GreaterOrEqual(t, each, c.fair)
		})
	}
}

// heap is how many bytes are in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // empties the pools
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkChain(b *testing.B) {
	tape := []said{hi, greet12, certs(make([]byte, 2000), make([]byte, 1800)), {false, record(22, helloDone)}, done12}
	b.ReportAllocs()
	for b.Loop() {
		var h hello.Handshake
		follow(&h, tape, 1400)
		if len(h.TakeChain()) != 2 {
			b.Fatal("no chain")
		}
	}
}
