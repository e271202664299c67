package browser

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// program is the program, built once; TestMain takes it away.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "egressaudit-live-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-C", "../..", "-o", dir+"/egressaudit", "./cmd/egressaudit").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir + "/egressaudit", nil
})

// daemon is serve, as it runs.
type daemon struct {
	cmd   *exec.Cmd
	admin string
	proxy string
	names string // of the name server, "" without one
	ended chan struct{}
}

var listening = regexp.MustCompile(`(admin|proxy|dns)=(\S+)`)

// serve starts serve, and waits until it listens.
func serve(t *testing.T, args ...string) *daemon {
	t.Helper()
	path, err := program()
	require.NoError(t, err)
	d := &daemon{cmd: exec.Command(path, append([]string{"serve", "--drain", "1s"}, args...)...), ended: make(chan struct{})}
	said, err := d.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, d.cmd.Start())
	t.Cleanup(func() { d.cmd.Process.Kill(); <-d.ended })
	lines := bufio.NewScanner(said)
	var all []string
	for d.admin == "" && lines.Scan() {
		all = append(all, lines.Text())
		for _, m := range listening.FindAllStringSubmatch(lines.Text(), -1) {
			*map[string]*string{"admin": &d.admin, "proxy": &d.proxy, "dns": &d.names}[m[1]] = m[2]
		}
	}
	go func() {
		defer close(d.ended)
		io.Copy(io.Discard, said)
		d.cmd.Wait()
	}()
	require.NotEmpty(t, d.admin, "%q", all)
	return d
}

func (d *daemon) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
	<-d.ended
	require.Equal(t, 0, d.cmd.ProcessState.ExitCode())
}

// get asks for an https page through the daemon, whatever comes of it.
func (d *daemon) get(host string) {
	via := &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: d.proxy}),
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}
	if resp, err := (&http.Client{Transport: via}).Get("https://" + host + "/"); err == nil {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// corporate is a parent proxy behind which every host answers, but for those that
// it denies.
func corporate(t *testing.T, denied ...string) string {
	site := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }))
	t.Cleanup(site.Close)
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, h := range denied {
			if strings.HasPrefix(r.RequestURI, h+":") {
				http.Error(w, "denied", http.StatusForbidden)
				return
			}
		}
		there, err := net.Dial("tcp", site.Listener.Addr().String())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer there.Close()
		here, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer here.Close()
		io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(there, buf); there.(*net.TCPConn).CloseWrite() }()
		io.Copy(here, there)
	}))
	t.Cleanup(p.Close)
	return p.URL
}

// until waits for a condition in the page, which may be another one meanwhile.
func (b *tab) until(t *testing.T, condition string) {
	t.Helper()
	script := fmt.Sprintf(`new Promise(done => {
		const end = Date.now() + 30000
		const look = () => { let ok = false; try { ok = !!(%s) } catch {} ; ok ? done(true) : Date.now() > end ? done(false) : setTimeout(look, 30) }
		look()
	})`, condition)
	const pages = 10 // to which a form or a link may lead
	for range pages {
		ok, err := chromedp.Run(b, chromedp.Evaluate[bool](script, chromedp.EvalAwaitPromise))
		if err != nil && strings.Contains(err.Error(), "navigated") {
			continue
		}
		require.NoError(t, err)
		if !ok {
			require.Fail(t, "it never came", "%s\n%s", condition, eval[string](t, b, `document.body.innerText.slice(0, 1500)`))
		}
		return
	}
	require.Fail(t, "the page never stays", condition)
}
