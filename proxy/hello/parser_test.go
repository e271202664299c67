package hello_test

import (
	"bytes"
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

// everySplit demands the same result of b whole, byte by byte and cut in two at
// every offset, and that b is left as it was.
func everySplit(t *testing.T, limit int, b []byte) (hello.Hello, bool) {
	t.Helper()
	before := bytes.Clone(b)
	want, decided := parse(limit, b)
	got, early := parse(limit, bytewise(b)...)
	require.Equal(t, want, got, "byte by byte")
	require.Equal(t, decided, early, "byte by byte")
	for i := range b {
		got, early = parse(limit, b[:i], b[i:])
		require.Equal(t, want, got, "cut at %d", i)
		require.Equal(t, decided, early, "cut at %d", i)
	}
	require.Equal(t, before, b, "the input was changed")
	return want, decided
}

func named(name string) hello.Hello {
	return hello.Hello{Protocol: hello.TLS, ServerName: name, Version: 0x0303}
}

var (
	malformed = hello.Hello{Protocol: hello.TLS, Reason: hello.Malformed}
	nameless  = hello.Hello{Protocol: hello.TLS, Reason: hello.NoName, Version: 0x0303}
	foreign   = hello.Hello{Protocol: hello.Other, Reason: hello.NotTLS}
)

func cut(why hello.Reason) hello.Hello { return hello.Hello{Protocol: hello.TLS, Reason: why} }

func TestParserTLS(t *testing.T) {
	ok := clientHello(host("a.example"))
	warning := []byte{21, 3, 1, 0, 2, 1, 112}
	broken := slices.Clone(ok)
	broken[38]++ // the session id runs one byte into the suites
	for _, c := range []struct {
		why  string
		in   []byte
		want hello.Hello
	}{
		{"one record", record(22, ok), named("a.example")},
		{"records of one byte", recordsOf(1, ok), named("a.example")},
		{"the message header split over records", join(record(22, ok[:2]), record(22, ok[2:])), named("a.example")},
		{"more behind the hello is not ours", join(record(22, ok), []byte("\xff\xff")), named("a.example")},
		{"more messages in the record", record(22, join(ok, ok)), named("a.example")},
		{"hellos before RFC 6066 end without extensions", record(22, clientHello()), nameless},
		{"an empty block of extensions", record(22, clientHello([]ext{}...)), nameless},
		{"the first host_name wins", record(22, clientHello(sni(nameEntry{0, "a"}, nameEntry{0, "b"}))), named("a")},
		{"an unknown kind of name is passed over", record(22, clientHello(sni(nameEntry{7, "x"}, nameEntry{0, "b"}))), named("b")},
		{"only an unknown kind of name", record(22, clientHello(sni(nameEntry{7, "x"}))), nameless},
		{"an address is passed on as sent", record(22, clientHello(host("127.0.0.1"))), named("127.0.0.1")},
		{"a dot, capitals and a zero byte are passed on as sent", record(22, clientHello(host("A.b.\x00"))), named("A.b.\x00")},
		{"server_name twice: servers differ in which they take", record(22, clientHello(host("a"), host("b"))), malformed},
		{"an unknown extension twice matters to nobody", record(22, clientHello(ext{9999, nil}, ext{9999, nil}, host("a"))), named("a")},
		{"an empty name", record(22, clientHello(host(""))), malformed},
		{"an empty list", record(22, clientHello(sni())), malformed},
		{"an empty extension is what servers send", record(22, clientHello(ext{0, nil})), malformed},
		{"bytes behind the list", record(22, clientHello(ext{0, append(host("a").data, 0)})), malformed},
		{"lengths that contradict each other", record(22, broken), malformed},
		{"an empty list of protocols", record(22, clientHello(alpn())), malformed},
		{"an empty protocol", record(22, clientHello(alpn("h2", ""))), malformed},
		{"half a version", record(22, clientHello(ext{43, []byte{3, 3, 4, 3}})), malformed},
		{"bytes behind the extensions", record(22, longer(clientHello(host("a")))), malformed},
		{"a message too short to be a hello", record(22, []byte{1, 0, 0, 1, 3}), malformed},

		{"the stream ends in the hello", record(22, ok)[:20], cut(hello.Truncated)},
		{"the stream ends in the header", []byte{22, 3}, cut(hello.Truncated)},
		{"one byte decides nothing", []byte{22}, hello.Hello{Reason: hello.Truncated}},
		{"nothing decides nothing", nil, hello.Hello{Reason: hello.Truncated}},

		{"servers pass over a warning before the hello, so a name follows", join(warning, record(22, ok)), named("a.example")},
		{"and inside it", join(record(22, ok[:9]), warning, record(22, ok[9:])), named("a.example")},
		{"close_notify is no warning", []byte{21, 3, 1, 0, 2, 1, 0}, malformed},
		{"a fatal alert is TLS, but no hello", []byte{21, 3, 1, 0, 2, 2, 40}, malformed},
		{"an encrypted alert is no beginning", []byte{21, 3, 1, 0, 19, 0}, foreign},
		{"a ChangeCipherSpec is no beginning", []byte{20, 3, 1, 0, 1, 1}, foreign},
		{"data is no beginning", record(23, ok), foreign},
		{"a ChangeCipherSpec inside the hello", join(record(22, ok[:9]), []byte{20, 3, 1, 0, 1, 1}), malformed},
		{"an empty record inside the hello", join(record(22, ok[:9]), []byte{22, 3, 1, 0, 0}), malformed},
		{"another major version inside the hello", join(record(22, ok[:9]), []byte{22, 4}), malformed},

		{"another major version", []byte{22, 4}, foreign},
		{"an empty first record", []byte{22, 3, 1, 0, 0}, foreign},
		{"a record longer than 2^14+256", []byte{22, 3, 1, 0x41, 1}, foreign},
		{"a ServerHello from a client", []byte{22, 3, 1, 0, 9, 2}, foreign},
	} {
		t.Run(c.why, func(t *testing.T) {
			got, decided := everySplit(t, 0, c.in)
			require.Equal(t, c.want, got)
			require.Equal(t, got.Reason != hello.Truncated, decided, "decided as early as the bytes allow")
		})
	}
}

// longer adds a byte to a message.
func longer(msg []byte) []byte {
	msg = append(msg, 0)
	msg[3]++
	return msg
}

func TestParserExtensions(t *testing.T) {
	many := make([]string, 100)
	for i := range many {
		many[i] = "p"
	}
	for _, c := range []struct {
		why  string
		exts []ext
		want hello.Hello
	}{
		{"the protocols in order", []ext{alpn("h2", "http/1.1", "\x0a\x0a")}, hello.Hello{ALPN: []string{"h2", "http/1.1", "\x0a\x0a"}}},
		{"no more than 32 of them", []ext{alpn(many...)}, hello.Hello{ALPN: many[:32]}},
		{"encrypted_client_hello", []ext{{0xfe0d, []byte{0}}}, hello.Hello{ECH: true}},
		{"its predecessor encrypted_server_name", []ext{{0xffce, nil}}, hello.Hello{ECH: true}},
		{"early data", []ext{{42, nil}}, hello.Hello{EarlyData: true}},
		{"the highest version, wherever it stands", []ext{versions(0x0301, 0x0304, 0x0303)}, hello.Hello{Version: 0x0304}},
		{"GREASE is no version", []ext{versions(0xfafa, 0x0303, 0x0302)}, hello.Hello{Version: 0x0303}},
		{"a draft of 1.3 is more than 1.2", []ext{versions(0x0303, 0x7f1b, 0x7f1c)}, hello.Hello{Version: 0x7f1c}},
		{"and less than 1.3", []ext{versions(0x7f1c, 0x0304)}, hello.Hello{Version: 0x0304}},
		{"GREASE alone leaves the legacy version", []ext{versions(0x1a1a)}, hello.Hello{Version: 0x0303}},
	} {
		t.Run(c.why, func(t *testing.T) {
			c.want.Protocol, c.want.ServerName = hello.TLS, "a"
			if c.want.Version == 0 {
				c.want.Version = 0x0303
			}
			got, _ := everySplit(t, 0, record(22, clientHello(append(c.exts, host("a"))...)))
			require.Equal(t, c.want, got)
		})
	}
}

func TestParserSSLv2(t *testing.T) {
	v2 := func(major, minor byte, suites, challenge int) []byte {
		body := append([]byte{1, major, minor, 0, byte(suites), 0, 0, 0, byte(challenge)}, make([]byte, suites+challenge)...)
		return append([]byte{0x80, byte(len(body))}, body...)
	}
	for _, c := range []struct {
		why  string
		in   []byte
		want hello.Hello
	}{
		{"a TLS 1.0 client that also speaks to SSL 2.0", v2(3, 1, 9, 16), hello.Hello{Protocol: hello.TLS, Reason: hello.NoName, Version: 0x0301}},
		{"SSL 2.0 alone is answered with no TLS record", v2(0, 2, 9, 16), foreign},
		{"suites of three bytes each", v2(3, 1, 10, 16), foreign},
		{"a challenge of at least 16 bytes", v2(3, 1, 9, 15), foreign},
		{"Sun RPC over TCP has the same first byte", []byte{0x80, 0, 0, 0x28, 1, 2, 3, 4}, foreign},
		{"too little to tell", []byte{0x80, 0x2e, 1, 3}, hello.Hello{Reason: hello.Truncated}},
	} {
		t.Run(c.why, func(t *testing.T) {
			got, _ := everySplit(t, 0, c.in)
			require.Equal(t, c.want, got)
		})
	}
}

func TestParserLimit(t *testing.T) {
	pad := func(n int) []byte { return clientHello(host("a"), ext{21, make([]byte, n)}) }
	big := recordsOf(1<<14, pad(50<<10))
	got, _ := parse(0, big)
	require.Equal(t, "a", got.ServerName)
	got, _ = parse(0, bytewise(big)...)
	require.Equal(t, "a", got.ServerName)

	for _, c := range []struct {
		why   string
		limit int
		in    []byte
		want  hello.Hello
	}{
		{"announced longer than the limit: known from the fourth byte", 100, record(22, pad(200))[:9], cut(hello.TooLong)},
		{"just as long as the limit", len(record(22, pad(200))), record(22, pad(200)), named("a")},
		{"one byte longer", len(record(22, pad(200))) - 1, record(22, pad(200)), cut(hello.TooLong)},
		{"a header of a request without end", 100, []byte("GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 200)), hello.Hello{Protocol: hello.HTTP, Reason: hello.TooLong, Method: "GET"}},
		{"a first line without end is nobody's", 100, []byte("GET /" + strings.Repeat("x", 200)), foreign},
	} {
		t.Run(c.why, func(t *testing.T) {
			got, decided := everySplit(t, c.limit, c.in)
			require.Equal(t, c.want, got)
			require.True(t, decided)
		})
	}
}

func TestParserEnd(t *testing.T) {
	var p hello.Parser
	require.Zero(t, p.Hello())
	require.False(t, p.Feed([]byte{22, 3, 1}))
	p.End(hello.TimedOut)
	require.Equal(t, cut(hello.TimedOut), p.Hello())
	p.End(hello.Truncated)
	require.True(t, p.Feed([]byte("GET / HTTP/1.1\r\n\r\n")), "nothing changes a decision")
	require.Equal(t, cut(hello.TimedOut), p.Hello())
}

func TestWords(t *testing.T) {
	var words []string
	for i := range hello.Other + 2 {
		words = append(words, i.String())
	}
	require.Equal(t, []string{"", "tls", "http", "other", ""}, words)
	words = nil
	for i := range hello.TooLong + 2 {
		words = append(words, i.String())
	}
	require.Equal(t, []string{"", "not_tls", "no_name", "truncated", "malformed", "timed_out", "too_long", ""}, words)
}

// Thousands of tunnels are open at once: a hello costs its strings and no more.
func TestParserAllocations(t *testing.T) {
	plain := realHello(&tls.Config{ServerName: "mcr.microsoft.com", NextProtos: []string{"h2", "http/1.1"}, CurvePreferences: []tls.CurveID{tls.X25519}})
	quantum := realHello(&tls.Config{ServerName: "mcr.microsoft.com", NextProtos: []string{"h2", "http/1.1"}})
	request := []byte("GET /v2/ HTTP/1.1\r\nUser-Agent: x\r\nHost: a.example\r\nAccept: */*\r\n\r\n")
	none := record(22, clientHello())
	for _, c := range []struct {
		why    string
		pieces [][]byte
		most   float64
	}{
		{"the name and the list of protocols", [][]byte{plain}, 2},
		{"the same from two segments", [][]byte{quantum[:1400], quantum[1400:]}, 2},
		{"no name, no cost", [][]byte{none}, 0},
		{"the host", [][]byte{request}, 1},
		{"the host from two segments", [][]byte{request[:33], request[33:]}, 1},
		{"a foreign protocol", [][]byte{[]byte("SSH-2.0-x\r\n")}, 0},
	} {
		t.Run(c.why, func(t *testing.T) {
			got := testing.AllocsPerRun(200, func() {
				var p hello.Parser
				for _, b := range c.pieces {
					p.Feed(b)
				}
				if p.Hello().Protocol == hello.Undecided {
					t.Error("undecided")
				}
			})
			if raceEnabled {
				t.Skip("the race detector makes sync.Pool drop buffers at random")
			}
			require.LessOrEqual(t, got, c.most)
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct {
		name string
		size int
		cuts []int
	}{
		{"517", 517, nil},
		{"1900", 1900, nil},
		{"1900/two-segments", 1900, []int{1400}},
	} {
		msg := clientHelloOfSize(c.size)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(msg)))
			for b.Loop() {
				var p hello.Parser
				from := 0
				for _, to := range c.cuts {
					p.Feed(msg[from:to])
					from = to
				}
				p.Feed(msg[from:])
				if p.Hello().ServerName == "" {
					b.Fatal("no name")
				}
			}
		})
	}
}

// clientHelloOfSize is a real hello, padded as browsers pad theirs (RFC 7685).
func clientHelloOfSize(size int) []byte {
	config := &tls.Config{ServerName: "mcr.microsoft.com", NextProtos: []string{"h2", "http/1.1"}}
	if size < 1000 {
		config.CurvePreferences = []tls.CurveID{tls.X25519}
	}
	b := realHello(config)
	pad := size - len(b)
	b = append(b, 0, 21, byte((pad-4)>>8), byte(pad-4))
	b = append(b, make([]byte, pad-4)...)
	grow := func(i int) {
		n := int(b[i])<<8 + int(b[i+1]) + pad
		b[i], b[i+1] = byte(n>>8), byte(n)
	}
	grow(3)
	grow(7)
	i := 43 + 1 + int(b[43])
	i += 2 + int(b[i])<<8 + int(b[i+1])
	i += 1 + int(b[i])
	grow(i)
	return b
}
