package hello_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

func TestParserHTTP(t *testing.T) {
	get := func(host string) hello.Hello {
		return hello.Hello{Protocol: hello.HTTP, Reason: hello.NotTLS, Method: "GET", Host: host}
	}
	bad := hello.Hello{Protocol: hello.HTTP, Reason: hello.Malformed, Method: "GET"}
	broken := hello.Hello{Protocol: hello.HTTP, Reason: hello.Truncated, Method: "GET"}
	for _, c := range []struct {
		why, in string
		want    hello.Hello
	}{
		{"the Host field, port and case as sent", "GET / HTTP/1.1\r\nHost: A.example:8080\r\n\r\n", get("A.example:8080")},
		{"names of fields have no case", "GET / HTTP/1.0\r\nx: y\r\nhOsT:\ta \t\r\n\r\n", get("a")},
		{"bare line feeds", "GET / HTTP/1.1\nHost: a\n\n", get("a")},
		{"one empty line before the request", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", get("a")},
		{"two are nobody's", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", foreign},
		{"no Host field", "GET / HTTP/1.0\r\n\r\n", get("")},
		{"an empty Host field", "GET / HTTP/1.1\r\nHost:\r\n\r\n", get("")},
		{"the body is not ours", "GET / HTTP/1.1\r\nHost: a\r\n\r\nHost: b\r\n", get("a")},
		{"the absolute form wins over Host", "GET http://b:80/x?y HTTP/1.1\r\nHost: a\r\n\r\n", get("b:80")},
		{"an absolute form that is all authority", "GET http://b HTTP/1.1\r\n\r\n", get("b")},
		{"a query ends the authority", "GET http://b?http://c/ HTTP/1.1\r\n\r\n", get("b")},
		{"a URL inside the path is none", "GET /http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", get("a")},
		{"CONNECT names its authority", "CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n", hello.Hello{Protocol: hello.HTTP, Reason: hello.NotTLS, Method: "CONNECT", Host: "b:443"}},
		{"any token is a method", "M-SEARCH * HTTP/1.1\r\nHost: a\r\n\r\n", hello.Hello{Protocol: hello.HTTP, Reason: hello.NotTLS, Method: "M-SEARCH", Host: "a"}},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", hello.Hello{Protocol: hello.HTTP, Reason: hello.NotTLS, Method: "PRI"}},

		{"two Host fields, even equal ones", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", bad},
		{"a folded line", "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", bad},
		{"a folded first line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", bad},
		{"a space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", bad},
		{"a line without a colon", "GET / HTTP/1.1\r\nHost\r\n\r\n", bad},
		{"a carriage return inside a line", "GET / HTTP/1.1\r\nX: a\rHost: b\r\nHost: a\r\n\r\n", bad},
		{"a name with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", bad},
		{"a name with credentials", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", bad},
		{"a target with credentials", "GET http://a@b/ HTTP/1.1\r\n\r\n", bad},
		{"an absolute form without authority", "GET http:///x HTTP/1.1\r\n\r\n", bad},
		{"a target with a space", "GET /a b HTTP/1.1\r\n\r\n", bad},
		{"an empty target", "GET  HTTP/1.1\r\n\r\n", bad},
		{"a host longer than any", "GET / HTTP/1.1\r\nHost: " + strings.Repeat("a", 513) + "\r\n\r\n", bad},

		{"the stream ends in the header: what it said so far is not claimed", "GET / HTTP/1.1\r\nHost: a\r\n", broken},
		{"the stream ends in the first line: not HTTP yet", "GET / HTTP/1", foreign},
		{"HTTP/0.9 has no name and no version", "GET /\r\n", foreign},
		{"another version", "GET / HTTP/3.0\r\n", foreign},
		{"SIP looks alike", "INVITE sip:bob@example.com SIP/2.0\r\n", foreign},
		{"a mail client", "EHLO a.example\r\n", foreign},
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", foreign},
		{"a method longer than any", strings.Repeat("A", 33) + " / HTTP/1.1\r\n\r\n", foreign},
		{"no method", " / HTTP/1.1\r\n", foreign},
		{"a zero byte", "GET \x00", foreign},
		{"only one word", "GET\r\n", foreign},
		{"a carriage return inside the first line", "GET /\ra HTTP/1.1\r\n\r\n", foreign},
	} {
		t.Run(c.why, func(t *testing.T) {
			got, _ := everySplit(t, 0, []byte(c.in))
			require.Equal(t, c.want, got)
		})
	}
}

func TestReply(t *testing.T) {
	web := func(status int, server string) hello.Reply {
		return hello.Reply{Protocol: hello.HTTP, Status: status, Server: server}
	}
	class := func(c string) hello.Reply { return hello.Reply{Protocol: hello.Other, Class: c} }
	for _, c := range []struct {
		why, in string
		want    hello.Reply
	}{
		{"nothing", "", hello.Reply{Class: "empty"}},
		{"a block page", "HTTP/1.1 403 Forbidden\r\nserver: squid/5.7\r\n\r\n<html>", web(403, "squid/5.7")},
		{"a status line without reason or fields", "HTTP/1.0 200\r\n\r\n", web(200, "")},
		{"a header cut off", "HTTP/1.1 302 Found\r\nServer: x\r\nLoc", web(302, "x")},
		{"a status line cut off", "HTTP/1.1 302", web(302, "")},
		{"the first of two", "HTTP/1.1 200 OK\nServer: a\nServer: b\n\n", web(200, "a")},
		{"odd lines are passed over", "HTTP/1.1 200 OK\r\nnonsense\r\n folded\r\nServer : a\r\n\r\n", web(200, "a")},
		{"what is not printable", "HTTP/1.1 200 OK\r\nServer: a\x1b[31m\u202e\r\n\r\n", web(200, "a?[31m???")},
		{"a long server", "HTTP/1.1 200 OK\r\nServer: " + strings.Repeat("a", 99) + "\r\n\r\n", web(200, strings.Repeat("a", 64))},
		{"a header longer than the limit", "HTTP/1.1 200 OK\r\nServer: a\r\nX: " + strings.Repeat("x", 9000), web(200, "a")},
		{"a status that is none", "HTTP/1.1 099 x\r\n\r\n", class("text")},
		{"a record of TLS", "\x15\x03\x01\x00\x02\x02\x28", hello.Reply{Protocol: hello.TLS}},
		{"nearly one", "\x15\x04", class("binary")},
		{"the first byte of one", "\x15", class("binary")},
		{"only at the very start", "\n\x15\x03", class("binary")},
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", class("ssh")},
		{"mail", "220 mx.example ESMTP ready\r\n", class("smtp")},
		{"mail, many lines", "220-mx.example ESMTP\r\n220 ready\r\n", class("smtp")},
		{"files", "220 (vsFTPd 3.0.5)\r\n", class("ftp")},
		{"one of the two", "220 welcome\r\n", class("220-greeting")},
		{"a page without a status line", "\r\n\r\n  <!DOCTYPE html>\r\n<html>", class("html")},
		{"a page with a byte order mark", "\xef\xbb\xbf<html>", class("html")},
		{"POP3", "+OK ready\r\n", class("text")},
		{"no end of line", "hello", class("text")},
		{"a long line", strings.Repeat("a", 600), class("text")},
		{"only blank lines", "\r\n\r\n", class("text")},
		{"MySQL", "J\x00\x00\x00\x0a8.0.36\x00", class("binary")},
		{"a name in Latin-1", "caf\xe9\r\n", class("binary")},
		{"settings of HTTP/2", "\x00\x00\x12\x04\x00", class("binary")},
	} {
		t.Run(c.why, func(t *testing.T) {
			reply := func(pieces ...[]byte) hello.Reply {
				var p hello.ReplyParser
				for _, b := range pieces {
					p.Feed(b)
				}
				p.End(hello.Truncated)
				return p.Reply()
			}
			b := []byte(c.in)
			require.Equal(t, c.want, reply(b))
			require.Equal(t, c.want, reply(bytewise(b)...))
			for i := range b {
				require.Equal(t, c.want, reply(b[:i], b[i:]), "cut at %d", i)
			}
		})
	}
}
