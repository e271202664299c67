package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// get is an absolute-form request for host at port.
func get(port int, fields ...string) string {
	return fmt.Sprintf("GET http://%s:%d/path?secret=query HTTP/1.1\r\nHost: %s\r\n", host, port, host) + strings.Join(append(fields, "", ""), "\r\n")
}

// TestAnswerForms: every form that a body has in HTTP arrives whole.
func TestAnswerForms(t *testing.T) {
	for name, c := range map[string]struct {
		method, answer string
		status         int
		body           string
	}{
		"length":        {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"},
		"until the end": {"GET", "HTTP/1.1 200 OK\r\n\r\nhello", 200, "hello"},
		"HTTP/1.0":      {"GET", "HTTP/1.0 200 OK\r\n\r\nhello", 200, "hello"},
		"chunks":        {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", 200, "hello"},
		"HEAD":          {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, ""},
		"204":           {"GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""},
		"304":           {"GET", "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", 304, ""},
		"after a 103":   {"GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"},
		"long header":   {"GET", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 200<<10) + "\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"},
		"401":           {"GET", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 401, ""},
	} {
		t.Run(name, func(t *testing.T) {
			port := site(t, origin(c.answer))
			r := newRig(t, nil)
			_, _, resp := r.say(c.method, c.method+get(port)[3:])
			require.Equal(t, c.status, resp.StatusCode)
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, c.body, string(b))
			o := r.one()
			require.Equal(t, policy.OK, o.Outcome)
			require.Equal(t, c.status, o.Status)
			require.EqualValues(t, len(c.body), o.BytesDown)
			require.NotContains(t, fmt.Sprintf("%+v", o), "secret")
			if c.method == "HEAD" {
				require.Equal(t, "5", resp.Header.Get("Content-Length"))
			}
		})
	}
}

// TestTrailers come through behind the body.
func TestTrailers(t *testing.T) {
	port := site(t, origin("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n"))
	r := newRig(t, nil)
	_, _, resp := r.say("GET", get(port))
	_, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "42", resp.Trailer.Get("X-Sum"))
}

// TestBrokenOff: an answer that ends short of its framing is no whole one for the
// client either.
func TestBrokenOff(t *testing.T) {
	for name, c := range map[string]struct {
		head  string
		reset bool
		close string
	}{
		"length, end":   {"Content-Length: 100", false, "fin"},
		"length, reset": {"Content-Length: 100", true, "rst"},
		"chunks, end":   {"Transfer-Encoding: chunked", false, "fin"},
		"chunks, reset": {"Transfer-Encoding: chunked", true, "rst"},
		"none, reset":   {"X: y", true, "rst"},
	} {
		t.Run(name, func(t *testing.T) {
			heard := make(chan struct{}, 1)
			port := site(t, func(s *net.TCPConn) {
				http.ReadRequest(bufio.NewReader(s))
				io.WriteString(s, "HTTP/1.1 200 OK\r\n"+c.head+"\r\n\r\n5\r\nhello\r\n")
				if c.reset {
					<-heard
					s.SetLinger(0)
				}
			})
			t.Cleanup(func() { close(heard) })
			r := newRig(t, nil)
			_, _, resp := r.say("GET", get(port))
			heard <- struct{}{}
			_, err := io.ReadAll(resp.Body)
			require.Error(t, err, "the client would take it for whole")
			o := r.one()
			require.Equal(t, policy.ConnectionTerminated, o.Error)
			require.Equal(t, policy.StageData, o.Stage)
			require.Equal(t, c.close, o.Detail["close"])
		})
	}
}

// TestGarbledChunks: an answer whose framing breaks is none, though its header was.
func TestGarbledChunks(t *testing.T) {
	port := site(t, origin("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nno size\r\n"))
	r := newRig(t, nil)
	_, _, resp := r.say("GET", get(port))
	_, err := io.ReadAll(resp.Body)
	require.Error(t, err)
	require.Equal(t, failed(policy.StageData, policy.HTTPProtocolError, policy.ByNetwork, policy.Certain), r.one().Verdict)
}

// TestStreams: what has come is passed on, though more may follow.
func TestStreams(t *testing.T) {
	for name, c := range map[string]struct {
		head, piece string
	}{
		"chunks":        {"Transfer-Encoding: chunked", "1\r\nx\r\n"},
		"until the end": {"X: y", "x"},
		"length":        {"Content-Length: 2", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			heard := make(chan struct{})
			port := site(t, func(s *net.TCPConn) {
				http.ReadRequest(bufio.NewReader(s))
				io.WriteString(s, "HTTP/1.1 200 OK\r\n"+c.head+"\r\n\r\n")
				<-heard
				io.WriteString(s, c.piece)
				<-heard
			})
			t.Cleanup(func() { close(heard) })
			r := newRig(t, nil)
			_, _, resp := r.say("GET", get(port)) // the header alone
			heard <- struct{}{}
			_, err := io.ReadFull(resp.Body, make([]byte, 1))
			require.NoError(t, err)
		})
	}
}

// TestUpgrade: an upgrade is hop by hop, and websockets come by CONNECT (RFC 6455
// section 4.1): none goes on, and one that nobody asked for is no answer.
func TestUpgrade(t *testing.T) {
	upgrade := []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13"}
	t.Run("asked", func(t *testing.T) {
		got := make(chan http.Header, 1)
		port := site(t, func(s *net.TCPConn) {
			if req, err := http.ReadRequest(bufio.NewReader(s)); err == nil {
				got <- req.Header
				io.WriteString(s, "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")
			}
		})
		r := newRig(t, nil)
		_, _, resp := r.say("GET", get(port, upgrade...))
		require.Equal(t, http.StatusUpgradeRequired, resp.StatusCode)
		require.NotContains(t, <-got, "Upgrade")
		require.Equal(t, policy.OK, r.one().Outcome)
	})
	t.Run("unasked", func(t *testing.T) {
		r := newRig(t, nil)
		port := site(t, origin("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"))
		_, _, resp := r.say("GET", get(port, upgrade...))
		require.Equal(t, http.StatusBadGateway, resp.StatusCode)
		require.Equal(t, policy.HTTPProtocolError, r.one().Error)
	})
}

// TestRequestForms: every form that a request has arrives as it was sent.
func TestRequestForms(t *testing.T) {
	for name, c := range map[string]struct {
		says string // PORT stands for the port
		body string
	}{
		"length":        {"POST http://site.example.com:PORT/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "hello"},
		"chunks":        {"POST http://site.example.com:PORT/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello"},
		"expectation":   {"PUT http://site.example.com:PORT/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", "hello"},
		"empty":         {"POST http://site.example.com:PORT/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", ""},
		"HTTP/1.0":      {"GET http://site.example.com:PORT/ HTTP/1.0\r\n\r\n", ""},
		"odd method":    {"PROPFIND http://site.example.com:PORT/ HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		"final dot":     {"GET http://site.example.com.:PORT/ HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		"capitals":      {"GET HTTP://SITE.example.com:PORT/ HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		"empty line up": {"\r\nGET http://site.example.com:PORT/ HTTP/1.1\r\nHost: x\r\n\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "empty line up" {
				t.Skip("net/http refuses it with 400: RFC 9112 section 2.2 asks for tolerance")
			}
			got := make(chan string, 1)
			port := site(t, func(s *net.TCPConn) {
				req, err := http.ReadRequest(bufio.NewReader(s))
				if err != nil {
					got <- err.Error()
					return
				}
				b, err := io.ReadAll(req.Body)
				got <- fmt.Sprint(string(b), err)
				io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			})
			r := newRig(t, nil)
			method, _, _ := strings.Cut(strings.TrimSpace(c.says), " ")
			c2 := r.dial()
			io.WriteString(c2, strings.ReplaceAll(c.says, "PORT", fmt.Sprint(port)))
			in := bufio.NewReader(c2)
			resp, err := http.ReadResponse(in, &http.Request{Method: method})
			require.NoError(t, err)
			if resp.StatusCode == http.StatusContinue {
				resp, err = http.ReadResponse(in, &http.Request{Method: method})
				require.NoError(t, err)
			}
			require.Equal(t, 200, resp.StatusCode)
			require.Equal(t, c.body+"<nil>", <-got)
			o := r.one()
			require.Equal(t, policy.OK, o.Outcome)
			require.EqualValues(t, len(c.body), o.BytesUp)
			require.Equal(t, host, o.Name)
			require.Equal(t, method, o.Method)
		})
	}
}

// TestReuse: a client's several requests on one connection are one record each,
// and the connection stays usable.
func TestReuse(t *testing.T) {
	port := site(t, func(s *net.TCPConn) {
		origin("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")(s)
	})
	r := newRig(t, nil)
	c := r.dial()
	in := bufio.NewReader(c)
	for range 3 {
		io.WriteString(c, get(port))
		resp, err := http.ReadResponse(in, &http.Request{Method: "GET"})
		require.NoError(t, err)
		require.False(t, resp.Close, "the origin's Connection field is not for the client")
		_, err = io.ReadAll(resp.Body)
		require.NoError(t, err)
	}
	seen := r.closing(3)
	require.Len(t, seen, 3)
	require.NotEqual(t, seen[0].ID, seen[1].ID)
}

// TestHopByHop: what is between the client and us does not go on (RFC 9110
// section 7.6.1), credentials least of all; neither does it to a parent.
func TestHopByHop(t *testing.T) {
	fields := []string{"Proxy-Authorization: Basic Y2xpZW50OnNlY3JldA==", "Proxy-Connection: keep-alive",
		"Connection: X-Secret", "X-Secret: 1", "Keep-Alive: timeout=5", "User-Agent: u", "Accept-Encoding: br"}
	for name, parent := range map[string]bool{"origin": false, "parent": true} {
		t.Run(name, func(t *testing.T) {
			got := make(chan http.Header, 1)
			serve := func(s *net.TCPConn) {
				if req, err := http.ReadRequest(bufio.NewReader(s)); err == nil {
					got <- req.Header
					io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			}
			var change func(*Config)
			port := 80
			if parent {
				change = through(t, serve)
			} else {
				port = site(t, serve)
			}
			r := newRig(t, change)
			_, _, resp := r.say("GET", get(port, fields...))
			require.Equal(t, 200, resp.StatusCode)
			h := <-got
			require.NotContains(t, fmt.Sprint(h), "Y2xpZW50OnNlY3JldA")
			require.NotContains(t, h, "Proxy-Connection")
			require.Equal(t, "br", h.Get("Accept-Encoding"))
			require.Equal(t, "u", h.Get("User-Agent"))
			require.Equal(t, parent, h.Get("Proxy-Authorization") == "Basic YWxpY2U6czNjcmV0")
			require.Equal(t, parent, strings.Contains(h.Get("Via"), "egressaudit-"))
			o := fmt.Sprintf("%+v", r.one())
			for _, secret := range []string{"s3cret", "Y2xpZW50", "YWxpY2U"} {
				require.NotContains(t, o, secret)
			}
			require.NotContains(t, h, "X-Secret", "named by Connection")
		})
	}
}

// TestParent407: a client is never asked for credentials that it has nowhere to send.
func TestParent407(t *testing.T) {
	r := newRig(t, through(t, origin("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=corp\r\nContent-Length: 0\r\n\r\n")))
	_, _, resp := r.say("GET", get(80))
	require.Equal(t, http.StatusBadGateway, resp.StatusCode)
	require.Empty(t, resp.Header.Get("Proxy-Authenticate"))
	require.Equal(t, policy.ParentAuthRequired, r.one().Error)
}

// TestHalfClosedRequest: a client that ends its side behind the request, as nc -N
// does, gets its answer.
func TestHalfClosedRequest(t *testing.T) {
	port := site(t, func(s *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(s)); err == nil {
			s.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			s.Read(make([]byte, 1)) // an aborted request ends this at once
			io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	r := newRig(t, nil)
	c := r.dial()
	io.WriteString(c, get(port))
	c.CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "GET"})
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
}

// TestUntouched: an answer's fields are the origin's.
func TestUntouched(t *testing.T) {
	port := site(t, origin("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html"))
	r := newRig(t, nil)
	_, _, resp := r.say("GET", get(port))
	require.Empty(t, resp.Header.Get("Content-Type"), "net/http guesses one")
}

// TestSilentThenGoneRequest: the same of plain HTTP: an end long behind the request is
// a silence.
func TestSilentThenGoneRequest(t *testing.T) {
	port := site(t, func(s *net.TCPConn) { http.ReadRequest(bufio.NewReader(s)) })
	r := newRig(t, func(c *Config) { c.Limits.AnswerTimeout = time.Nanosecond })
	_, _, resp := r.say("GET", get(port))
	require.Equal(t, http.StatusGatewayTimeout, resp.StatusCode)
	require.Equal(t, policy.ConnectionReadTimeout, r.one().Error)
}

// TestStalledClient: a client that stops in the middle of its request, or of the
// answer, holds nothing for ever, and nobody else is blamed.
func TestStalledClient(t *testing.T) {
	for name, c := range map[string]struct {
		says    string
		outcome policy.Outcome
	}{
		"does not read": {"GET http://site.example.com:PORT/ HTTP/1.1\r\nHost: x\r\n\r\n", policy.OK},
		"does not send": {"PUT http://site.example.com:PORT/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", policy.Abandoned},
	} {
		t.Run(name, func(t *testing.T) {
			port := site(t, func(s *net.TCPConn) {
				if req, err := http.ReadRequest(bufio.NewReader(s)); err != nil || req.Method == "PUT" {
					io.Copy(io.Discard, s)
					return
				}
				io.WriteString(s, "HTTP/1.1 200 OK\r\n\r\n")
				for piece := make([]byte, 1<<20); ; {
					if _, err := s.Write(piece); err != nil {
						return
					}
				}
			})
			r := newRig(t, func(c *Config) { c.Limits.IdleTimeout = 100 * time.Millisecond })
			io.WriteString(r.dial(), strings.ReplaceAll(c.says, "PORT", fmt.Sprint(port)))
			o := r.one()
			require.Equal(t, c.outcome, o.Outcome, "%+v", o)
			require.Equal(t, 0, r.proxy.Open())
			require.Len(t, r.seen, 1, "and no silence of the destination")
		})
	}
}

// TestLeavesDuringUpload: a destination owes nothing while the request's body is on
// its way, however long that takes.
func TestLeavesDuringUpload(t *testing.T) {
	got := make(chan struct{})
	port := site(t, func(s *net.TCPConn) {
		req, err := http.ReadRequest(bufio.NewReader(s))
		if err == nil {
			io.ReadFull(req.Body, make([]byte, 4))
		}
		close(got)
		io.Copy(io.Discard, s)
	})
	r := newRig(t, func(c *Config) { c.Limits.AnswerTimeout = time.Nanosecond })
	c := r.dial()
	fmt.Fprintf(c, "PUT http://site.example.com:%d/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", port)
	<-got
	c.Close()
	o := r.one()
	require.Equal(t, abandoned(policy.StageHello), o.Verdict, "%+v", o)
}

// TestLongUpload: while a request's body flows the connection is not idle.
func TestLongUpload(t *testing.T) {
	const idle = 100 * time.Millisecond
	port := site(t, origin("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	r := newRig(t, func(c *Config) { c.Limits.IdleTimeout = idle })
	c := r.dial()
	fmt.Fprintf(c, "PUT http://site.example.com:%d/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", port)
	for begun := time.Now(); time.Since(begun) < 3*idle; {
		if _, err := io.WriteString(c, "1\r\nx\r\n"); err != nil {
			break
		}
	}
	io.WriteString(c, "0\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, policy.OK, r.one().Outcome)
}
