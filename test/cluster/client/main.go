// Command client is every program of the trial install, and its pause container:
// small enough to be an image alone. It fetches URLs one after the other, each
// once and over a connection of its own, prints what became of each as a line of
// JSON, then a line that says done.
//
//	client operator|train URL...  GET, through HTTPS_PROXY and HTTP_PROXY as net/http reads them
//	client upload URL...          PUT of some bytes
//	client relay URL...           a WebSocket that is kept open, with a message a second
//	client agent URL...           GET, and no proxy whatever the environment says
//	client [pause]                nothing, as the container that holds a pod's namespaces
//
// All but train go on until SIGTERM.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// patience is longer than any answer-timeout of egressaudit here, so that it is
// never the client who leaves first.
const patience = 20 * time.Second

// line is what is printed of each URL.
type line struct {
	URL   string `json:"url"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	role, urls := "pause", []string(nil)
	if len(os.Args) > 1 {
		role, urls = os.Args[1], os.Args[2:]
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	if role == "agent" {
		transport.Proxy = nil
	}
	play(ctx, role, urls, transport, os.Stdout)
	if role != "train" {
		<-ctx.Done()
	}
}

// does are what the roles do with a URL; those of others are a GET.
var does = map[string]func(context.Context, *http.Transport, string) error{"upload": put, "relay": talk}

func play(ctx context.Context, role string, urls []string, t *http.Transport, out io.Writer) {
	if role == "pause" {
		return
	}
	do, ok := does[role]
	if !ok {
		do = get
	}
	encoder := json.NewEncoder(out)
	for _, u := range urls {
		l := line{URL: u}
		if err := do(ctx, t, u); err != nil {
			l.Error = err.Error()
		}
		l.OK = l.Error == ""
		encoder.Encode(l)
	}
	fmt.Fprintln(out, "done")
}

func get(ctx context.Context, t *http.Transport, url string) error {
	return send(ctx, t, http.MethodGet, url, nil)
}

func put(ctx context.Context, t *http.Transport, url string) error {
	return send(ctx, t, http.MethodPut, url, bytes.Repeat([]byte("log line\n"), 4096))
}

func send(ctx context.Context, t *http.Transport, method, url string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

// talk opens a WebSocket, sends a message and awaits its echo; then it goes on with
// one a second, and says so when that ends before its time.
func talk(ctx context.Context, t *http.Transport, url string) error {
	t = t.Clone()
	t.TLSClientConfig = &tls.Config{NextProtos: []string{"http/1.1"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"ZWdyZXNzYXVkaXQgbGFiIQ=="}}
	res, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		res.Body.Close()
		return errors.New(res.Status)
	}
	c := res.Body.(io.ReadWriteCloser)
	r := bufio.NewReader(c)
	if err := echo(c, r); err != nil {
		c.Close()
		return err
	}
	go func() {
		defer c.Close()
		for ctx.Err() == nil {
			time.Sleep(time.Second)
			if err := echo(c, r); err != nil && ctx.Err() == nil {
				fmt.Println("relay lost:", err)
				return
			}
		}
	}()
	return nil
}

// echo sends one masked text frame (RFC 6455 section 5.2) and awaits it.
func echo(w io.Writer, r *bufio.Reader) error {
	const text = "are you there"
	frame := slices.Concat([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, []byte(text))
	if _, err := w.Write(frame); err != nil {
		return err
	}
	back := make([]byte, 2+len(text))
	if _, err := io.ReadFull(r, back); err != nil {
		return err
	}
	if !strings.HasSuffix(string(back), text) {
		return fmt.Errorf("answer %q", back)
	}
	return nil
}
