package hello_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

// The same handshakes with a second implementation, which sends its alerts in
// the clear where crypto/tls encrypts them, and knows 0-RTT over TCP.

func needOpenSSL(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not on PATH: its handshakes are not tried")
	}
}

// openssl is a running command.
type openssl struct {
	t     *testing.T
	in    io.WriteCloser
	lines chan string // closed when it has ended
	log   strings.Builder
}

func startOpenSSL(t *testing.T, args ...string) *openssl {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	cmd := exec.CommandContext(ctx, "openssl", args...)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	o := &openssl{t: t, in: in, lines: make(chan string, 10_000)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			o.lines <- lines.Text()
		}
		close(o.lines)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return o
}

// await reads the output up to a line with word, and returns that line.
func (o *openssl) await(word string) string {
	o.t.Helper()
	for line := range o.lines {
		o.log.WriteString(line + "\n")
		if strings.Contains(line, word) {
			return line
		}
	}
	require.Fail(o.t, "openssl never said "+word, o.log.String())
	return ""
}

// end closes its input and returns all it said.
func (o *openssl) end() string {
	o.in.Close()
	for line := range o.lines {
		o.log.WriteString(line + "\n")
	}
	return o.log.String()
}

func writePEM(t *testing.T, kind string, ders ...[]byte) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "x.pem")
	var text []byte
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	require.NoError(t, os.WriteFile(file, text, 0o600))
	return file
}

func TestOpenSSLClient(t *testing.T) {
	needOpenSSL(t)
	ca := newAuthority(t)
	target := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.certificate(t)}})
	retrying := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.certificate(t)}, CurvePreferences: []tls.CurveID{tls.CurveP384}})
	trusted := writePEM(t, "CERTIFICATE", ca.cert.Raw)
	foreign := writePEM(t, "CERTIFICATE", newAuthority(t).cert.Raw)
	const v12, v13 = tls.VersionTLS12, tls.VersionTLS13
	for _, c := range []struct {
		why, target, roots string
		args               []string
		want               want
	}{
		{"1.2", target, trusted, []string{"-tls1_2"}, want{stage: hello.Finished, version: v12, decided: true}},
		{"1.3", target, trusted, []string{"-tls1_3"}, want{stage: hello.Finished, version: v13, decided: true}},
		{"1.3 with SHA-384", target, trusted, []string{"-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"}, want{stage: hello.Finished, version: v13, decided: true}},
		{"1.3 retried", retrying, trusted, []string{"-tls1_3", "-groups", "X25519:P-384"}, want{stage: hello.Finished, version: v13, decided: true}},
		{"1.2 refused", target, foreign, []string{"-tls1_2"}, want{hello.ClientAlert, v12, "unknown_ca", false, true}},
		{"1.3 refused: OpenSSL says so in the clear", target, foreign, []string{"-tls1_3"}, want{hello.ClientAlert, v13, "unknown_ca", false, true}},
		{"no common version", target, trusted, []string{"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"}, want{hello.ServerAlert, 0, "protocol_version", false, true}},
	} {
		t.Run(c.why, func(t *testing.T) {
			r := relay(t, c.target)
			args := append([]string{"s_client", "-connect", r.addr(), "-servername", "a.example", "-CAfile", c.roots, "-verify_return_error"}, c.args...)
			startOpenSSL(t, args...).end()
			comesTo(t, c.want, false, r.recorded())
		})
	}
}

// startServer runs s_server and returns its address.
func startServer(t *testing.T, cert tls.Certificate, args ...string) (addr string, s *openssl) {
	t.Helper()
	if above := cert.Certificate[1:]; len(above) > 0 {
		args = append(args, "-cert_chain", writePEM(t, "CERTIFICATE", above...))
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	require.NoError(t, err)
	s = startOpenSSL(t, append([]string{"s_server", "-accept", "127.0.0.1:0",
		"-cert", writePEM(t, "CERTIFICATE", cert.Certificate[0]), "-key", writePEM(t, "PRIVATE KEY", key)}, args...)...)
	return strings.TrimPrefix(s.await("ACCEPT 127"), "ACCEPT "), s
}

func TestOpenSSLServer(t *testing.T) {
	needOpenSSL(t)
	ca := newAuthority(t)
	const v12, v13 = tls.VersionTLS12, tls.VersionTLS13
	for _, c := range []struct {
		why    string
		server []string
		roots  *x509.CertPool
		want   want
	}{
		{"1.2", []string{"-tls1_2"}, ca.pool(), want{stage: hello.Finished, version: v12, decided: true}},
		{"1.3", []string{"-tls1_3"}, ca.pool(), want{stage: hello.Finished, version: v13, decided: true}},
		{"1.3 asking for a certificate", []string{"-tls1_3", "-verify", "1"}, ca.pool(), want{stage: hello.Finished, version: v13, decided: true}},
		{"1.3 refused", []string{"-tls1_3"}, x509.NewCertPool(), want{hello.ClientAlert, v13, "", true, false}},
	} {
		t.Run(c.why, func(t *testing.T) {
			addr, _ := startServer(t, ca.certificate(t), append(c.server, "-rev")...)
			r := relay(t, addr)
			d := tls.Dialer{Config: &tls.Config{ServerName: "a.example", RootCAs: c.roots}}
			conn, err := d.DialContext(t.Context(), "tcp", r.addr())
			if err == nil {
				conn.Close()
			}
			comesTo(t, c.want, false, r.recorded())
		})
	}
}

// The certificates of a second implementation, in its own choice of records.
func TestOpenSSLChain(t *testing.T) {
	needOpenSSL(t)
	ecdsa3, rsa3 := chainOf(t, ecdsaKey(t), 3), chainOf(t, rsaKey(t, 2048), 3)
	old := []string{"-tls1", "-cipher", "ALL:@SECLEVEL=0"}
	for _, c := range []struct {
		why    string
		chain  tls.Certificate
		args   []string
		visits int // the last one is looked at
		hidden bool
	}{
		{"ECDSA", ecdsa3, []string{"-tls1_2"}, 1, false},
		{"RSA", rsa3, []string{"-tls1_2"}, 1, false},
		{"in records of 512 bytes", rsa3, []string{"-tls1_2", "-max_send_frag", "512"}, 1, false},
		{"asking for a certificate", rsa3, []string{"-tls1_2", "-verify", "1"}, 1, false},
		{"1.0", rsa3, old, 1, false},
		{"resumed by ticket", rsa3, []string{"-tls1_2"}, 2, true},
		{"1.3", ecdsa3, []string{"-tls1_3"}, 1, true},
	} {
		t.Run(c.why, func(t *testing.T) {
			addr, _ := startServer(t, c.chain, append(c.args, "-rev")...)
			var peers [][]byte
			config := witness(&peers)
			config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			d := tls.Dialer{Config: config}
			var r *recorder
			for range c.visits {
				r = relay(t, addr)
				conn, err := d.DialContext(t.Context(), "tcp", r.addr())
				require.NoError(t, err)
				conn.Close()
				r.recorded()
			}
			require.Equal(t, c.chain.Certificate, peers)
			if c.hidden {
				peers = nil
			}
			shows(t, peers, r.recorded())
		})
	}
}

// Without certificates ServerKeyExchange comes where they would.
func TestOpenSSLAnonymous(t *testing.T) {
	needOpenSSL(t)
	anonymous := []string{"-tls1_2", "-cipher", "ADH:AECDH:@SECLEVEL=0"}
	addr, _ := startServer(t, chainOf(t, ecdsaKey(t), 1), append(anonymous, "-rev")...)
	r := relay(t, addr)
	startOpenSSL(t, append([]string{"s_client", "-connect", r.addr()}, anonymous...)...).end()
	tape := r.recorded()
	comesTo(t, want{stage: hello.Finished, version: tls.VersionTLS12, decided: true}, false, tape)
	shows(t, nil, tape)
}

// 0-RTT data accepted and refused, with each length of tag and hash.
func TestOpenSSLEarlyData(t *testing.T) {
	needOpenSSL(t)
	ca := newAuthority(t)
	data := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.WriteFile(data, []byte(strings.Repeat("early ", 100)), 0o600))
	for _, suite := range []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_AES_128_CCM_8_SHA256"} {
		for _, accepts := range []bool{true, false} {
			name := suite + "/refused"
			args := []string{"-tls1_3", "-ciphersuites", suite, "-cipher", "ALL:@SECLEVEL=0"}
			server := append([]string{"-early_data"}, args...)
			if accepts {
				name = suite + "/accepted"
			} else {
				// The ticket still offers 0-RTT; another ALPN makes the server refuse it.
				server = append(server, "-alpn", "b")
			}
			t.Run(name, func(t *testing.T) {
				addr, s := startServer(t, ca.certificate(t), server...)
				session := filepath.Join(t.TempDir(), "session")
				first := startOpenSSL(t, append([]string{"s_client", "-connect", addr, "-sess_out", session}, args...)...)
				s.await("CIPHER is")
				_, err := io.WriteString(s.in, "behind the ticket\n")
				require.NoError(t, err)
				first.await("behind the ticket")
				first.end()

				r := relay(t, addr)
				second := append([]string{"s_client", "-connect", r.addr(), "-sess_in", session, "-early_data", data}, args...)
				if !accepts {
					second = append(second, "-alpn", "b")
				}
				o := startOpenSSL(t, second...)
				o.await("Early data was")
				said := o.end()
				require.Equal(t, accepts, strings.Contains(said, "Early data was accepted"), said)
				tape := r.recorded()
				comesTo(t, want{stage: hello.Finished, version: tls.VersionTLS13, decided: true}, offers(t, tape), tape)
			})
		}
	}
}

// offers reads whether the conversation's ClientHello offers 0-RTT data.
func offers(t *testing.T, tape []said) bool {
	t.Helper()
	var p hello.Parser
	for _, s := range tape {
		if s.client && p.Feed(s.b) {
			break
		}
	}
	require.True(t, p.Hello().EarlyData)
	return p.Hello().EarlyData
}
