package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/egressaudit/egressaudit/proxy/capture/isolate"
	"github.com/egressaudit/egressaudit/test/lab"
)

// patience is how long a script waits for what must come.
const patience = 30 * time.Second

// alertRules are the rules that the chart brings.
var alertRules, _ = filepath.Abs("../../deploy/helm/egressaudit/files/alerts.yaml")

func TestMain(m *testing.M) {
	isolate.Main(os.Args)
	testscript.Main(m, map[string]func(){"egressaudit": main, "child": child})
}

// TestScripts are the contracts of the verbs and their flags, one file a verb
// and one a bug. Beside testscript's own commands they have:
//
//	lab FILE             play a script of test/lab; sets PARENT, CA, DNS, PORT_n
//	exits N COMMAND...   run it; its exit status is N
//	refused N REGEXP COMMAND...
//	                     the same, and it says one line on stderr that matches,
//	                     nothing on stdout, and leaves no file behind
//	start REGEXP COMMAND...
//	                     run it in the background, and go on when a line of its
//	                     output matches; the first group becomes FOUND
//	halt SIGNALS N       send TERM or INT to it, or several with commas, each when
//	                     it has said that it stops; its exit status is N, its
//	                     output stands in the files "started.out" and "started.err";
//	                     - sends none, and waits for its own end
//	found REGEXP         what it said in another line becomes FOUND
//	hup REGEXP           send HUP to it, and go on when a line matches; so does
//	                     term with TERM
//	fetch METHOD URL STATUS REGEXP
//	                     what an HTTP server answers
//	alerts URL           the metrics there have every name, label and value that the
//	                     alerting rules of deploy use
//	hold PROXY TARGET    open a tunnel, and hold it to the end of the script
//	json FILE PATH VALUE what stands in a JSON file at a.b.0.c
//	line FILE N REGEXP   the Nth line of a file matches
//	drop FILE N OUT      a file without its Nth line
//	tear FILE OUT        a file without its last five bytes
//	occupy VAR           listen on a port of loopback; VAR is its ADDRESS:PORT
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"lab": playLab, "exits": exits, "refused": refused, "start": start, "found": found, "halt": halt, "hold": hold,
			"hup": tells(syscall.SIGHUP), "term": tells(syscall.SIGTERM), "fetch": fetch,
			"alerts": alerts, "json": jsonAt, "line": lineOf, "drop": drop, "tear": tear, "occupy": occupy,
		},
		Condition: func(c string) (bool, error) {
			switch c {
			case "root":
				return os.Geteuid() == 0, nil
			case "isolate": // whether this kernel gives this user namespaces
				s, err := isolate.Start(isolate.Config{}, nil, nil, nil)
				if err != nil {
					fmt.Fprintln(os.Stderr, "SKIPPED run-isolate:", err)
					return false, nil
				}
				return true, s.Close()
			}
			return false, fmt.Errorf("no condition %q", c)
		},
		Setup: setup, RequireExplicitExec: true,
	})
}

// need demands from min arguments of a script's command.
func need(ts *testscript.TestScript, neg bool, args []string, min int) {
	if neg || len(args) < min {
		ts.Fatalf("wants %d arguments and no !", min)
	}
}

func number(ts *testscript.TestScript, s string) int {
	n, err := strconv.Atoi(s)
	ts.Check(err)
	return n
}

func playLab(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1)
	script, err := lab.Parse(args[0], strings.NewReader(ts.ReadFile(args[0])))
	ts.Check(err)
	w, err := lab.Start(script)
	ts.Check(err)
	ts.Defer(w.Close)
	ca := ts.MkAbs("ca.pem")
	ts.Check(w.WriteCA(ca))
	for line := range strings.Lines(w.Shell(ca)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		ts.Setenv(key, strings.Trim(value, "'"))
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2)
	if got := statusOf(ts, ts.Exec(args[1], args[2:]...)); got != number(ts, args[0]) {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}

func statusOf(ts *testscript.TestScript, err error) int {
	var e *exec.ExitError
	if err != nil && !errors.As(err, &e) {
		ts.Fatalf("%v", err)
	}
	return childStatus(err)
}

func refused(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3)
	before := tree(ts)
	exits(ts, false, append([]string{args[0]}, args[2:]...))
	if after := tree(ts); after != before {
		ts.Fatalf("left files behind:\n%s", after)
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("printed on stdout: %s", out)
	}
	said := ts.ReadFile("stderr")
	if !strings.HasPrefix(said, "egressaudit: ") || strings.Count(said, "\n") != 1 || !strings.HasSuffix(said, "\n") {
		ts.Fatalf("not one line of egressaudit: %q", said)
	}
	if !regexp.MustCompile(args[1]).MatchString(said) {
		ts.Fatalf("said %q, which does not match %q", said, args[1])
	}
}

// tree lists the files below the work directory, with their sizes and modes.
func tree(ts *testscript.TestScript) string {
	var b strings.Builder
	root := ts.MkAbs(".")
	ts.Check(filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		i, err := e.Info()
		if err == nil {
			fmt.Fprintln(&b, path, i.Size(), i.Mode())
		}
		return err
	}))
	return b.String()
}

// started is the command that start left running.
type started struct {
	cmd      *exec.Cmd
	out, err lines
	done     chan error
}

// lines keeps what is written, and tells when a line of it matches.
type lines struct {
	mu    sync.Mutex
	text  string
	want  *regexp.Regexp
	found chan string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text += string(b)
	l.look()
	return len(b), nil
}

// look tells of a whole line that matches.
func (l *lines) look() {
	for line := range strings.Lines(l.text) {
		if m := l.want.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil && strings.HasSuffix(line, "\n") {
			select {
			case l.found <- m[len(m)-1]:
			default:
			}
		}
	}
}

// expect tells on a channel when a line of either stream matches, or has.
func (s *started) expect(pattern string) <-chan string {
	found := make(chan string, 1)
	for _, l := range []*lines{&s.out, &s.err} {
		l.mu.Lock()
		l.want, l.found = regexp.MustCompile(pattern), found
		l.look()
		l.mu.Unlock()
	}
	return found
}

// await waits for what was expected, and returns its first group.
func (s *started) await(ts *testscript.TestScript, found <-chan string) string {
	select {
	case f := <-found:
		return f
	case err := <-s.done:
		ts.Fatalf("ended (%v) too soon:\n%s%s", err, s.out.text, s.err.text)
	case <-time.After(patience):
		ts.Fatalf("did not say what was expected")
	}
	return ""
}

// startedKey is where a script keeps the command that start left running.
type startedKey struct{}

func setup(e *testscript.Env) error {
	e.Values[startedKey{}] = new(started)
	if os.Getenv("GORACE") == "" {
		e.Setenv("GORACE", "atexit_sleep_ms=10") // not a second a command
	}
	e.Defer(func() {
		if s := e.Values[startedKey{}].(*started); s.cmd != nil {
			s.cmd.Process.Kill() // of a script that failed
		}
	})
	return nil
}

// passed are the variables of a script that start hands on.
var passed = []string{"PATH", "HOME", "TMPDIR", "GORACE", "GOCOVERDIR", "CA", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"}

func start(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2)
	s := ts.Value(startedKey{}).(*started)
	s.out.text, s.err.text, s.done = "", "", make(chan error, 1)
	found := s.expect(args[0])
	s.cmd = exec.Command("env", args[1:]...) // which looks it up on the script's PATH
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = ts.MkAbs("."), &s.out, &s.err
	for _, name := range passed {
		if v := ts.Getenv(name); v != "" {
			s.cmd.Env = append(s.cmd.Env, name+"="+v)
		}
	}
	ts.Check(s.cmd.Start())
	go func(c *exec.Cmd, done chan<- error) { done <- c.Wait() }(s.cmd, s.done)
	ts.Setenv("FOUND", s.await(ts, found))
}

func found(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1)
	s := ts.Value(startedKey{}).(*started)
	ts.Setenv("FOUND", s.await(ts, s.expect(args[0])))
}

func tells(sig os.Signal) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		need(ts, neg, args, 1)
		s := ts.Value(startedKey{}).(*started)
		told := s.expect(args[0])
		ts.Check(s.cmd.Process.Signal(sig))
		s.await(ts, told)
	}
}

func fetch(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 4)
	r, err := http.NewRequest(args[0], args[1], nil)
	ts.Check(err)
	resp, err := (&http.Client{Transport: &http.Transport{}, Timeout: patience}).Do(r)
	ts.Check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if resp.StatusCode != number(ts, args[2]) || !regexp.MustCompile(args[3]).Match(text) {
		ts.Fatalf("%s answers %s:\n%s", args[1], resp.Status, text)
	}
}

// selected are a metric in a rule, and what it asks of a label: name, operator, value.
var selected = regexp.MustCompile(`\b(egressaudit_\w+)(?:\{(\w+)=~?"([^"]*)"\})?`)

func alerts(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1)
	resp, err := http.Get(args[0])
	ts.Check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	rules, err := os.ReadFile(alertRules)
	ts.Check(err)
	asked := 0
	for line := range strings.Lines(string(rules)) {
		expr, is := strings.CutPrefix(strings.TrimSpace(line), "expr: ")
		if !is {
			continue
		}
		for _, m := range selected.FindAllStringSubmatch(expr, -1) {
			for _, value := range strings.Split(m[3], "|") {
				sample := "(?m)^" + m[1] + " "
				if m[2] != "" {
					sample = "(?m)^" + m[1] + `\{(.*,)?` + m[2] + `="` + value + `"`
				}
				asked++
				if !regexp.MustCompile(sample).Match(text) {
					ts.Fatalf("a rule asks for what nobody tells: %s %s", expr, sample)
				}
			}
		}
	}
	if asked < 8 {
		ts.Fatalf("only %d metrics are in %s", asked, alertRules)
	}
}

func hold(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2)
	c, err := net.Dial("tcp", args[0])
	ts.Check(err)
	ts.Defer(func() { c.Close() })
	ts.Check(c.SetDeadline(time.Now().Add(patience)))
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", args[1], args[1])
	status, err := bufio.NewReader(c).ReadString('\n')
	ts.Check(err)
	if !strings.Contains(status, " 200 ") {
		ts.Fatalf("no tunnel: %s", status)
	}
}

func halt(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2)
	s := ts.Value(startedKey{}).(*started)
	stopping := s.expect("stopping")
	for i, name := range strings.Split(args[0], ",") {
		if i > 0 {
			s.await(ts, stopping)
		}
		if name == "-" {
			break
		}
		ts.Check(s.cmd.Process.Signal(map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": os.Interrupt}[name]))
	}
	select {
	case err := <-s.done:
		ts.Check(os.WriteFile(ts.MkAbs("started.out"), []byte(s.out.text), 0o600))
		ts.Check(os.WriteFile(ts.MkAbs("started.err"), []byte(s.err.text), 0o600))
		if got := statusOf(ts, err); got != number(ts, args[1]) {
			ts.Fatalf("exit status %d, want %s:\n%s", got, args[1], s.err.text)
		}
	case <-time.After(patience):
		ts.Fatalf("did not end")
	}
}

func jsonAt(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3)
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &v))
	for _, key := range strings.Split(args[1], ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[key]
		case []any:
			i := number(ts, key)
			if v = nil; i < len(in) {
				v = in[i]
			}
		default:
			ts.Fatalf("%s: nothing at %q", args[1], key)
		}
	}
	if got := fmt.Sprint(v); got != args[2] {
		ts.Fatalf("%s of %s is %s, want %s", args[1], args[0], got, args[2])
	}
}

func lineOf(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3)
	all := strings.Split(ts.ReadFile(args[0]), "\n")
	if n := number(ts, args[1]); n > len(all) || !regexp.MustCompile(args[2]).MatchString(all[n-1]) {
		ts.Fatalf("line %d does not match %q:\n%s", n, args[2], strings.Join(all, "\n"))
	}
}

func drop(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3)
	all, n := strings.SplitAfter(ts.ReadFile(args[0]), "\n"), number(ts, args[1])
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(strings.Join(append(all[:n-1:n-1], all[n:]...), "")), 0o600))
}

func tear(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2)
	all := ts.ReadFile(args[0])
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(all[:len(all)-5]), 0o600))
}

func occupy(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}
