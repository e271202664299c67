package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/lab"
)

var seedFlag = flag.Uint64("seed", 0, "of TestMixed; 0 takes one and prints it")

// The size of TestMixed.
const (
	mixedNames = 40
	mixedEach  = 25 // connections to each
)

// mishap is what the lab does to a connection, and what is to be said of it.
type mishap struct {
	does lab.Behaviour
	want string // stage, error, by, confidence; "" is ok
}

var works = mishap{lab.Site{}, ""}

// atParent are twelve faults on the way through a parent.
var atParent = []mishap{
	{lab.ParentStatus{Code: 403, SquidError: "ERR_ACCESS_DENIED 0"}, "parent parent_denied parent certain"},
	{lab.ParentStatus{Code: 407}, "parent parent_auth_required parent certain"},
	{lab.ParentStatus{Code: 503, SquidError: "ERR_DNS_FAIL 0"}, "parent parent_error resolver certain"},
	{lab.ParentStatus{Code: 503, SquidError: "ERR_CONNECT_FAIL 111"}, "parent parent_error network certain"},
	{lab.ParentCut(lab.Close), "parent connection_terminated parent certain"},
	{lab.AfterHello(lab.Reset), "hello connection_terminated network likely"},
	{lab.AfterHello(lab.Close), "hello connection_terminated network likely"},
	{lab.AfterHello(lab.Silence), "hello connection_read_timeout network likely"},
	{lab.HandshakeFailure, "hello tls_alert_received origin likely"},
	{lab.BlockPage{}, "hello not_tls_reply network likely"},
	{lab.AfterServerHello{End: lab.Reset}, "handshake connection_terminated network likely"},
	{lab.MidStream{After: 10, End: lab.Reset}, "data connection_terminated network likely"},
}

// direct are twelve faults on the direct way. Each is a name's for good: an
// address is open or it is not, and an inspecting device does not come and go.
var direct = []mishap{
	{lab.NXDOMAIN, "resolve dns_error resolver likely"},
	{lab.SERVFAIL, "resolve dns_error resolver certain"},
	{lab.DNSSilence, "resolve dns_timeout resolver certain"},
	{lab.Resolves("0.0.0.0"), "resolve dns_sinkhole resolver certain"},
	{lab.Refuse{}, "connect connection_refused network certain"},
	{lab.Drop{}, "connect connection_timeout network certain"},
	{lab.AfterHello(lab.Reset), "hello connection_terminated network certain"},
	{lab.AfterHello(lab.Silence), "hello connection_read_timeout network certain"},
	{lab.AccessDenied, "hello tls_alert_received origin likely"},
	{lab.BlockPage{}, "hello not_tls_reply network certain"},
	{lab.AfterServerHello{End: lab.Close}, "handshake connection_terminated network certain"},
	{lab.ForeignCA, "handshake tls_intercepted network likely"},
}

// script is what happens to the connections of one name, in order.
type script struct {
	host  string
	turns []mishap
}

// expected is the endpoint's status, the cause's words, and how many connections
// worked.
func (s script) expected() (status, cause string, ok int) {
	for _, m := range s.turns {
		if m.want == "" {
			ok++
		} else {
			cause = m.want
		}
	}
	switch last := s.turns[len(s.turns)-1]; {
	case last.want == "":
		return "used", "", ok
	case ok > 0:
		return "partial", cause, ok
	}
	return "blocked", cause, ok
}

// TestMixed plays a thousand connections to forty names, with faults mixed in at
// random, and holds every endpoint of the report against the script.
func TestMixed(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 13 seconds")
	}
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64N(1e9)
	}
	t.Logf("seed %d", seed)
	program := egressaudit(t)
	t.Run("through a parent", func(t *testing.T) {
		t.Parallel()
		playMixed(t, program, mixParent(rand.New(rand.NewPCG(seed, 1))), true)
	})
	t.Run("directly", func(t *testing.T) {
		t.Parallel()
		playMixed(t, program, mixDirect(rand.New(rand.NewPCG(seed, 2))), false)
	})
}

// egressaudit is the program to try: EGRESSAUDIT's, or one built for it.
func egressaudit(t *testing.T) string {
	if p := os.Getenv("EGRESSAUDIT"); p != "" {
		return p
	}
	program := filepath.Join(t.TempDir(), "egressaudit")
	out, err := exec.Command("go", "build", "-o", program, "../../cmd/egressaudit").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

// mixParent gives each name turns of its own: ten that always work, ten that
// never do, and twenty that do both.
func mixParent(r *rand.Rand) []script {
	out := make([]script, mixedNames)
	for i := range out {
		out[i].host = fmt.Sprintf("host%02d.example.com", i)
		for range mixedEach {
			m := atParent[r.IntN(len(atParent))]
			if i < 10 || i >= 20 && r.IntN(2) == 0 {
				m = works
			}
			out[i].turns = append(out[i].turns, m)
		}
	}
	return out
}

// mixDirect gives each name one fault, or none.
func mixDirect(r *rand.Rand) []script {
	out := make([]script, mixedNames)
	for i, n := range r.Perm(mixedNames) {
		out[i].host = fmt.Sprintf("host%02d.example.com", i)
		m := works
		if n < 2*len(direct) {
			m = direct[n%len(direct)]
		}
		for range mixedEach {
			out[i].turns = append(out[i].turns, m)
		}
	}
	return out
}

// rules are the lab's for scripts.
func rules(scripts []script, through bool) map[string]lab.Behaviour {
	out := map[string]lab.Behaviour{}
	for _, s := range scripts {
		var turns lab.InTurn
		for _, m := range s.turns {
			turns = append(turns, m.does)
		}
		if out[s.host+":443"] = turns[0]; through {
			out[s.host+":443"] = turns
		}
	}
	return out
}

func playMixed(t *testing.T, program string, scripts []script, through bool) {
	w, err := lab.Start(lab.Script{Rules: rules(scripts, through)})
	require.NoError(t, err)
	defer w.Close()
	m := startMixed(t, program, w, scripts, through)
	var all sync.WaitGroup
	for _, s := range scripts {
		atOnce := 5
		if through {
			atOnce = 1 // turns have an order
		}
		for range atOnce {
			all.Go(func() {
				for range len(s.turns) / atOnce {
					m.connect(s.host)
				}
			})
		}
	}
	all.Wait()
	m.hold(t, scripts)
}

// mixed is an egressaudit between the lab and the clients.
type mixed struct {
	program, dir, address string
	port                  uint16
	world                 *lab.World
	serve                 *exec.Cmd
	log                   *bytes.Buffer
	logged                chan struct{} // closed when the log has ended
}

func startMixed(t *testing.T, program string, w *lab.World, scripts []script, through bool) *mixed {
	m := &mixed{program: program, dir: t.TempDir(), port: 443, world: w, log: &bytes.Buffer{}, logged: make(chan struct{})}
	if !through {
		m.port = w.Port(443)
	}
	require.NoError(t, w.WriteCA(m.file("ca.pem")))
	catalog := "schema: egressaudit/catalog/1\nname: mixed\ntitle: mixed\nrevision: \"1\"\nsource: {title: mixed, url: \"https://example.com\"}\nrequirements:\n"
	for i, s := range scripts {
		catalog += fmt.Sprintf("  - {id: r%d, scope: extension, hosts: [%q], port: %d, protocol: https, purpose: mixed}\n", i, s.host, m.port)
	}
	require.NoError(t, os.WriteFile(m.file("mixed.yaml"), []byte(catalog), 0o600))
	args := []string{"serve", "--proxy", "127.0.0.1:0", "--catalog", m.file("mixed.yaml"), "--ledger", m.file("mixed.jsonl"), "--resolver", w.DNS().String(),
		"--trust", m.file("ca.pem"), "--allow-address", "127.0.0.0/8", "--answer-timeout", "500ms", "--connect-timeout", "1s", "--dns-timeout", "1s", "--drain", "2s"}
	if through {
		args = append(args, "--parent", w.Parent().String())
	}
	m.serve = exec.Command(program, args...)
	stderr, err := m.serve.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, m.serve.Start())
	t.Cleanup(func() { m.serve.Process.Kill() })
	m.address = m.listening(t, stderr)
	return m
}

func (m *mixed) file(name string) string { return filepath.Join(m.dir, name) }

var listening = regexp.MustCompile(`proxy=(127\.0\.0\.1:\d+)`)

// listening reads the log up to the address, and goes on reading.
func (m *mixed) listening(t *testing.T, stderr io.Reader) string {
	r := bufio.NewReader(stderr)
	for {
		line, err := r.ReadString('\n')
		require.NoError(t, err, "egressaudit does not listen: %s", m.log)
		m.log.WriteString(line)
		if at := listening.FindStringSubmatch(line); at != nil {
			go func() {
				defer close(m.logged)
				io.Copy(m.log, r)
			}()
			return at[1]
		}
	}
}

// connect makes one connection: a tunnel, a handshake, a request. What comes of
// it is for the report to say. It is over for egressaudit when this returns, for
// the next one of the same name must begin later.
func (m *mixed) connect(host string) error {
	raw, err := net.Dial("tcp", m.address)
	if err != nil {
		return err
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(raw, "CONNECT %[1]s:%[2]d HTTP/1.1\r\nHost: %[1]s:%[2]d\r\n\r\n", host, m.port)
	resp, err := http.ReadResponse(bufio.NewReaderSize(raw, 16), &http.Request{Method: http.MethodConnect})
	if err != nil || resp.StatusCode != http.StatusOK {
		return errors.Join(err, errors.New("no tunnel"))
	}
	raw.SetDeadline(time.Now().Add(2 * time.Second)) // four times what a silence must last
	c := tls.Client(raw, &tls.Config{ServerName: host, RootCAs: m.world.Roots()})
	if err := c.Handshake(); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "GET /bytes/1000 HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, c)
	return err
}

// hold ends the recording and holds its report against the scripts.
func (m *mixed) hold(t *testing.T, scripts []script) {
	require.NoError(t, m.serve.Process.Signal(syscall.SIGTERM))
	<-m.logged
	require.NoError(t, m.serve.Wait(), "%s", m.log)
	var said bytes.Buffer
	c := exec.Command(m.program, "report", "--format", "json", "--catalog", m.file("mixed.yaml"), m.file("mixed.jsonl"))
	c.Stderr = &said
	text, err := c.Output()
	require.Equal(t, 1, c.ProcessState.ExitCode(), "%v: %s%.2000s", err, said.String(), text)
	r, err := readReport(text)
	require.NoError(t, err)
	require.Equal(t, "gaps", r.Verdict)
	require.Len(t, r.Endpoints, len(scripts))
	require.Empty(t, r.Unlisted)
	falsely := map[string]int{}
	for i, s := range scripts {
		e := r.Endpoints[i]
		status, cause, worked := s.expected()
		if e.Status != status {
			falsely[status+" called "+e.Status]++
		}
		got := strings.TrimSpace(strings.Join([]string{e.Cause.Stage, e.Cause.Error, e.Cause.By, e.Cause.Confidence}, " "))
		want := fmt.Sprintf("%s %s: %s, %d of %d ok", s.host, status, cause, worked, len(s.turns))
		require.Len(t, e.Hosts, 1)
		h := e.Hosts[0]
		if have := fmt.Sprintf("%s %s: %s, %d of %d ok", e.Host, e.Status, got, h.OK, h.Attempts); have != want {
			t.Errorf("did   %s\nsays  %s\n%s", want, have, e.Cause.Ask)
		}
		if h.OK+h.Failed != h.Attempts {
			t.Errorf("%s: %+v", e.Host, h)
		}
	}
	require.Empty(t, falsely, "verdicts that are not the script's")
}
