package hello_test

import (
	"bytes"
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

// want is what a conversation comes to.
type want struct {
	stage   hello.Stage
	version uint16
	alert   string // "" when there is none, or it was encrypted
	short   bool
	decided bool // without meaning where it is finished: then TestSpoke has the word
}

// comesTo demands it of every chunking.
func comesTo(t *testing.T, w want, early bool, tape []said) {
	t.Helper()
	for _, size := range []int{1, 2, 3, 5, 7, 100, 1 << 20} {
		h := hello.Handshake{EarlyData: early}
		follow(&h, tape, size)
		alert, ok := h.Alert()
		require.Equal(t, ok, alert != "")
		decided := h.Decided()
		if h.Stage() == hello.Finished {
			require.Equal(t, h.Spoke(), decided)
			decided = w.decided
		}
		require.Equal(t, w, want{h.Stage(), h.Version(), alert, h.ClientShort(), decided}, "in pieces of %d", size)
	}
}

func TestHandshakeReal(t *testing.T) {
	ca := newAuthority(t)
	cert := []tls.Certificate{ca.certificate(t)}
	server := func(version uint16) *tls.Config {
		return &tls.Config{Certificates: cert, MaxVersion: version}
	}
	client := func() *tls.Config { return &tls.Config{ServerName: "a.example", RootCAs: ca.pool()} }
	unknown := func() *tls.Config { return &tls.Config{ServerName: "a.example", RootCAs: newAuthority(t).pool()} }
	const v12, v13 = tls.VersionTLS12, tls.VersionTLS13
	done := func(version uint16) want { return want{stage: hello.Finished, version: version, decided: true} }
	for _, c := range []struct {
		why            string
		server, client *tls.Config
		adapt          func(server, client *tls.Config)
		visits         int // the last one is looked at
		want           want
	}{
		{"1.2: ClientKeyExchange answers", server(v12), client(), nil, 1, done(v12)},
		{"1.2 resumed: a Finished behind a ChangeCipherSpec answers", server(v12), client(), resume, 2, done(v12)},
		{"1.3: a record as long as a Finished answers", server(v13), client(), nil, 1, done(v13)},
		{"1.3 resumed", server(v13), client(), resume, 2, done(v13)},
		{"1.3 retried: neither the retry nor the second hello counts", server(v13), client(), retry, 1, done(v13)},
		{"1.3 post-quantum: the ServerHello is longer than a kilobyte", server(v13), client(), quantum, 1, done(v13)},
		{"1.3 without the certificate asked for: the empty one decides nothing, the Finished does", server(v13), client(), askCertificate, 1, done(v13)},
		{"1.2 refused: an alert in the clear", server(v12), unknown(), nil, 1, want{hello.ClientAlert, v12, "bad_certificate", false, true}},
		{"1.3 refused: known by its length alone", server(v13), unknown(), nil, 1, want{hello.ClientAlert, v13, "", true, false}},
		{"no common protocol: the server refuses first", server(v13), client(), protocols, 1, want{hello.ServerAlert, 0, "no_application_protocol", false, true}},
		{"no common version", server(v12), client(), only13, 1, want{hello.ServerAlert, 0, "protocol_version", false, true}},
	} {
		t.Run(c.why, func(t *testing.T) {
			if c.adapt != nil {
				c.adapt(c.server, c.client)
			}
			target := serveTLS(t, c.server)
			var tape []said
			for range c.visits {
				tape, _ = visit(t, target, c.client)
			}
			comesTo(t, c.want, false, tape)
		})
	}
}

func resume(_, client *tls.Config) { client.ClientSessionCache = tls.NewLRUClientSessionCache(1) }

func retry(server, client *tls.Config) {
	client.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP384}
	server.CurvePreferences = []tls.CurveID{tls.CurveP384}
}

func quantum(server, _ *tls.Config) {
	server.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768}
}

func askCertificate(server, _ *tls.Config) { server.ClientAuth = tls.RequestClientCert }

func protocols(server, client *tls.Config) {
	server.NextProtos, client.NextProtos = []string{"a"}, []string{"b"}
}

func only13(_, client *tls.Config) { client.MinVersion = tls.VersionTLS13 }

// The steps of a handshake, one record at a time.
var (
	hi       = said{true, record(22, []byte("\x01\x00\x00\x01\x00"))}
	ccs      = said{true, record(20, []byte{1})}
	done12   = said{true, record(22, make([]byte, 40))}
	noTLS    = said{false, []byte("HTTP/1.1 403 Forbidden\r\n\r\n")}
	greet12  = said{false, record(22, serverHello(0x0303, 0xc02f))}
	greet13  = said{false, record(22, serverHello(0x0304, 0x1301))}
	greet384 = said{false, record(22, serverHello(0x0304, 0x1302))}
	greetCCM = said{false, record(22, serverHello(0x0304, 0x1305))}
	greet28  = said{false, record(22, serverHello(0x7f1c, 0x1301))}
	sha384   = said{false, record(22, serverHello(0x0304, 0xc0b5))}
	sha256   = said{false, record(22, serverHello(0x0304, 0xc0b4))}
	again    = said{false, record(22, retryRequest())}
)

func up(n int) said                            { return said{true, record(23, make([]byte, n))} }
func down(n int) said                          { return said{false, record(23, make([]byte, n))} }
func warn(client bool, level, c byte) said     { return said{client, record(21, []byte{level, c})} }
func sealedAlert(client bool, n int) said      { return said{client, record(21, make([]byte, n))} }
func serverHello(version, suite uint16) []byte { return helloOf(make([]byte, 32), version, suite) }

func retryRequest() []byte {
	return helloOf([]byte("\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91"+
		"\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c"), 0x0304, 0x1301)
}

// helloOf has its selected version behind a post-quantum key share, as BoringSSL
// orders them.
func helloOf(random []byte, version, suite uint16) []byte {
	legacy := min(version, 0x0303)
	body := join([]byte{byte(legacy >> 8), byte(legacy)}, random, []byte{32}, make([]byte, 32), []byte{byte(suite >> 8), byte(suite), 0})
	if version >= 0x0304 {
		exts := join([]byte{0, 51, 4, 100}, make([]byte, 1124), []byte{0, 43, 0, 2, byte(version >> 8), byte(version)})
		body = join(body, []byte{byte(len(exts) >> 8), byte(len(exts))}, exts)
	}
	return join([]byte{2, 0, byte(len(body) >> 8), byte(len(body))}, body)
}

func TestHandshakeSteps(t *testing.T) {
	const v12, v13 = 0x0303, 0x0304
	nothing := want{}
	waits := func(v uint16) want { return want{stage: hello.AwaitingClient, version: v} }
	done := func(v uint16) want { return want{stage: hello.Finished, version: v, decided: true} }
	guess := want{stage: hello.ClientAlert, version: v13, short: true}
	for _, c := range []struct {
		why   string
		early bool
		tape  []said
		want  want
	}{
		{"silence", false, nil, nothing},
		{"the first hello", false, []said{hi}, nothing},
		{"no answer of the client yet", false, []said{hi, greet13, down(900)}, waits(v13)},
		{"a ChangeCipherSpec is no answer", false, []said{hi, greet12, ccs}, waits(v12)},
		{"1.2 behind a ChangeCipherSpec", false, []said{hi, greet12, ccs, done12}, done(v12)},
		{"a ServerHello cut into records of 9 bytes", false, []said{hi, {false, recordsOf(9, serverHello(v13, 0x1301))}, up(53)}, done(v13)},
		{"a HelloRequest before it", false, []said{hi, {false, record(22, join([]byte{0, 0, 0, 0}, serverHello(v12, 1)))}}, waits(v12)},
		{"a draft of 1.3 is 1.3", false, []said{hi, greet28, up(19)}, want{stage: hello.ClientAlert, version: 0x7f1c, short: true}},

		{"1.3: 19 bytes are an alert", false, []said{hi, greet13, ccs, up(19)}, guess},
		{"with CCM_8, 11 are", false, []said{hi, greetCCM, up(11)}, guess},
		{"and 19 decide nothing", false, []said{hi, greetCCM, up(19)}, waits(v13)},
		{"with TLS_SHA384_SHA384, 51 are", false, []said{hi, sha384, up(51)}, guess},
		{"1.3: 25 bytes are an empty Certificate", false, []said{hi, greet13, up(25)}, waits(v13)},
		{"1.3: 44 are no Finished", false, []said{hi, greet13, up(44)}, waits(v13)},
		{"1.3: 45 can be one", false, []said{hi, greetCCM, up(45)}, done(v13)},
		{"1.3: an answer behind what looked like an alert", false, []said{hi, greet13, up(19), up(53)}, done(v13)},
		{"1.3: handshake messages in the clear are none of 1.3", false, []said{hi, greet13, done12}, waits(v13)},
		{"OpenSSL sends alerts of 1.3 in the clear", false, []said{hi, greet13, warn(true, 2, 48)}, want{hello.ClientAlert, v13, "unknown_ca", false, true}},

		{"0-RTT before the ServerHello", true, []said{hi, ccs, up(53), up(300)}, nothing},
		{"0-RTT still under way after it", true, []said{hi, up(300), greet13, up(300), up(80)}, waits(v13)},
		{"refused 0-RTT: the Finished by its exact length", true, []said{hi, greet13, up(300), up(53)}, done(v13)},
		{"with SHA-384 that is 69", true, []said{hi, greet384, up(53), up(69)}, done(v13)},
		{"so 53 is not it", true, []said{hi, greet384, up(53)}, waits(v13)},
		{"with CCM_8 it is 45", true, []said{hi, greetCCM, up(53), up(45)}, done(v13)},
		{"behind an EndOfEarlyData any answer counts", true, []said{hi, greet13, up(300), up(21), up(200)}, done(v13)},
		{"but not the EndOfEarlyData", true, []said{hi, greet13, up(21)}, waits(v13)},
		{"with CCM_8 that is 13", true, []said{hi, greetCCM, up(13), up(200)}, done(v13)},
		{"after a retry there is no 0-RTT", true, []said{hi, up(300), again, hi, greet13, up(200)}, done(v13)},

		{"a retry alone is nothing", false, []said{hi, again}, want{version: v13}},
		{"nor is the second hello", false, []said{hi, again, ccs, hi}, want{version: v13}},
		{"a client that refuses the retry", false, []said{hi, again, warn(true, 2, 47)}, want{hello.ClientAlert, v13, "illegal_parameter", false, true}},
		{"a client that leaves before any answer refuses nothing", false, []said{hi, warn(true, 1, 0)}, nothing},

		{"an alert first", false, []said{hi, warn(false, 2, 40)}, want{hello.ServerAlert, 0, "handshake_failure", false, true}},
		{"an alert after the ServerHello of 1.2", false, []said{hi, greet12, warn(false, 2, 71)}, want{hello.ServerAlert, v12, "insufficient_security", false, true}},
		{"an unknown one", false, []said{hi, warn(false, 2, 123)}, want{hello.ServerAlert, 0, "alert_123", false, true}},
		{"a warning, and silence", false, []said{hi, warn(false, 1, 112)}, want{hello.ServerAlert, 0, "unrecognized_name", false, false}},
		{"a warning, and the handshake goes on", false, []said{hi, warn(false, 1, 112), greet12}, waits(v12)},
		{"to its end", false, []said{hi, warn(false, 1, 112), greet12, done12}, done(v12)},
		{"a warning behind the ServerHello of 1.2, and the flight goes on", false, []said{hi, greet12, warn(false, 1, 112), greet12}, waits(v12)},
		{"1.2: data is an answer too", false, []said{hi, greet12, up(30)}, done(v12)},
		{"with TLS_SHA256_SHA256, 35 bytes are an alert", false, []said{hi, sha256, up(35)}, guess},
		{"an encrypted one of 1.2 has no name", false, []said{hi, greet12, sealedAlert(false, 26)}, want{stage: hello.ServerAlert, version: v12}},
		{"nor has the client's", false, []said{hi, greet12, sealedAlert(true, 26)}, want{stage: hello.ClientAlert, version: v12}},
		{"of two warnings the first counts", false, []said{hi, greet12, warn(false, 1, 0), warn(true, 1, 90)}, want{hello.ServerAlert, v12, "close_notify", false, false}},
		{"a fatal one counts more", false, []said{hi, greet12, warn(false, 1, 112), warn(true, 2, 112)}, want{hello.ClientAlert, v12, "unrecognized_name", false, true}},
		{"nothing undoes an answer", false, []said{hi, greet12, done12, warn(true, 2, 40), warn(false, 2, 40)}, done(v12)},

		{"a block page", false, []said{hi, noTLS}, want{stage: hello.NotTLSReply, decided: true}},
		{"one byte tells", false, []said{hi, {false, []byte("S")}}, want{stage: hello.NotTLSReply, decided: true}},
		{"or the second", false, []said{hi, {false, []byte{22, 2}}}, want{stage: hello.NotTLSReply, decided: true}},
		{"or the length", false, []said{hi, {false, []byte{22, 3, 1, 0, 0}}}, want{stage: hello.NotTLSReply, decided: true}},

		{"a first hello in SSLv2 framing", false, []said{{true, append([]byte{0x80, 46}, make([]byte, 46)...)}, greet12, done12}, done(v12)},
		{"a session id longer than any: the rest is unknown", false, []said{hi, {false, record(22, join([]byte{2, 0, 0, 36, 3, 3}, make([]byte, 32), []byte{33, 0}))}, done12}, done(v12)},
		{"a ServerHello too short", false, []said{hi, {false, record(22, []byte{2, 0, 0, 1, 3})}}, want{stage: hello.AwaitingClient}},
		{"an extension longer than its message", false, []said{hi, {false, record(22, brokenHello())}}, waits(v12)},
	} {
		t.Run(c.why, func(t *testing.T) { comesTo(t, c.want, c.early, c.tape) })
	}
}

// TestSpoke: GnuTLS refuses a certificate after it has answered.
func TestSpoke(t *testing.T) {
	for _, c := range []struct {
		why    string
		tape   []said
		spoke  bool
		parted bool
	}{
		{"1.3: nothing behind the Finished", []said{hi, greet13, ccs, up(53)}, false, false},
		{"1.3: an alert behind it", []said{hi, greet13, up(53), up(19)}, false, true},
		{"1.3: data", []said{hi, greet13, up(53), up(100)}, true, false},
		{"1.3: data behind what looked like an alert", []said{hi, greet13, up(53), up(19), up(100)}, true, false},
		{"1.3: the server's data is not the client's", []said{hi, greet13, up(53), down(300)}, false, false},
		{"1.2: the Finished itself", []said{hi, greet12, done12, ccs, {true, record(22, make([]byte, 40))}}, false, false},
		{"1.2: an alert", []said{hi, greet12, done12, ccs, {true, record(22, make([]byte, 40))}, sealedAlert(true, 26)}, false, true},
		{"1.2: data", []said{hi, greet12, done12, ccs, {true, record(22, make([]byte, 40))}, up(30)}, true, false},
	} {
		t.Run(c.why, func(t *testing.T) {
			for _, size := range []int{1, 7, 1 << 20} {
				var h hello.Handshake
				follow(&h, c.tape, size)
				require.Equal(t, hello.Finished, h.Stage())
				require.Equal(t, c.spoke, h.Spoke())
				require.Equal(t, c.spoke, h.Decided(), "there is more to learn as long as the client is silent")
				require.Equal(t, c.parted, h.Parted())
			}
		})
	}
}

func brokenHello() []byte {
	b := serverHello(0x0304, 0x1301)
	i := bytes.Index(b, []byte{0, 51, 4, 100})
	b[i+2] = 0xff
	return b
}

func TestAlertName(t *testing.T) {
	seen := map[string]bool{}
	for code := range 256 {
		name := hello.AlertName(uint8(code))
		require.NotEmpty(t, name)
		require.False(t, seen[name], name)
		seen[name] = true
	}
	require.Equal(t, "ech_required", hello.AlertName(121))
}

func TestStageWords(t *testing.T) {
	require.Equal(t, "awaiting_server", hello.AwaitingServer.String())
	require.Equal(t, "not_tls_reply", hello.NotTLSReply.String())
	require.Equal(t, "stage_unknown", hello.Stage(99).String())
}

func TestHandshakeAllocations(t *testing.T) {
	tape := []said{hi, again, hi, greet13, down(3000), ccs, up(25), up(19), up(53)}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		var h hello.Handshake
		follow(&h, tape, 1400)
		if h.Stage() != hello.Finished {
			t.Error(h.Stage())
		}
	}))
}

func BenchmarkHandshake(b *testing.B) {
	tape := []said{hi, greet13, down(3000), ccs, up(53)}
	b.ReportAllocs()
	for b.Loop() {
		var h hello.Handshake
		follow(&h, tape, 1400)
		if h.Stage() != hello.Finished {
			b.Fatal(h.Stage())
		}
	}
}
