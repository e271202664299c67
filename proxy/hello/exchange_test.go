package hello_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

const (
	get    = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	chunky = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
)

// TestExchange: after each turn, whether a reply has begun and not ended, and whether
// that is known at all, in however small pieces the octets come.
func TestExchange(t *testing.T) {
	const short, lost, whole = "short", "lost", "whole"
	for why, c := range map[string]struct {
		turns []string // the client's first, then by turns
		want  string
	}{
		"nothing":                          {[]string{""}, whole},
		"no answer yet":                    {[]string{get, ""}, whole},
		"an octet of one":                  {[]string{get, "H"}, short},
		"only a blank line":                {[]string{get, "\r\n"}, whole},
		"half a header":                    {[]string{get, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"}, short},
		"an interim reply":                 {[]string{get, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"}, short},
		"and the final one":                {[]string{get, "HTTP/1.1 103 x\r\n\r\nHTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n"}, whole},
		"a length":                         {[]string{get, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwhat"}, whole},
		"short of its length":              {[]string{get, "HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nwhat"}, short},
		"short, behind a blank line":       {[]string{"\r\n" + get, "\r\nHTTP/1.0 200 OK\nContent-Length: 5\n\nwhat"}, short},
		"two lengths alike":                {[]string{get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nwhat"}, short},
		"two lengths":                      {[]string{get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nwhat"}, lost},
		"a length that is none":            {[]string{get, "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nwhat"}, lost},
		"a length too large":               {[]string{get, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nwhat"}, lost},
		"to the end":                       {[]string{get, "HTTP/1.1 200 OK\r\n\r\nwhat"}, lost},
		"to the end, coded":                {[]string{get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 9\r\n\r\nwhat"}, lost},
		"chunks":                           {[]string{get, chunky + "4;x=y\r\nwhat\r\n00\r\n\r\n"}, whole},
		"chunks over a length":             {[]string{get, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: gzip , Chunked\r\n\r\n0\r\n\r\n"}, whole},
		"no last chunk":                    {[]string{get, chunky + "4\r\nwhat\r\n"}, short},
		"half a chunk":                     {[]string{get, chunky + "4\r\nwh"}, short},
		"no end behind the last chunk":     {[]string{get, chunky + "0\r\n"}, short},
		"a trailer":                        {[]string{get, chunky + "0\r\nX: y\r\n\r\n"}, whole},
		"a chunk without size":             {[]string{get, chunky + "x\r\n"}, lost},
		"a chunk longer than it says":      {[]string{get, chunky + "2\r\nwhat\r\n"}, lost},
		"a long extension":                 {[]string{get, chunky + "4;" + strings.Repeat("x", 9000) + "\r\nwhat\r\n0\r\n\r\n"}, whole},
		"a long field":                     {[]string{get, "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 9000) + "\r\nContent-Length: 5\r\n\r\nwhat"}, short},
		"a long length":                    {[]string{get, "HTTP/1.1 200 OK\r\nContent-Length: " + strings.Repeat(" ", 200) + "5\r\n\r\nwhat"}, lost},
		"to HEAD":                          {[]string{"HEAD / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"}, whole},
		"to CONNECT":                       {[]string{"CONNECT a:1 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"}, lost},
		"to CONNECT, denied":               {[]string{"CONNECT a:1 HTTP/1.1\r\n\r\n", "HTTP/1.1 403 no\r\nContent-Length: 4\r\n\r\n"}, short},
		"an upgrade":                       {[]string{get, "HTTP/1.1 101 x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"}, lost},
		"HTTP/2":                           {[]string{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 400 x\r\nContent-Length: 4\r\n\r\n"}, lost},
		"no HTTP":                          {[]string{get, "SSH-2.0\r\n"}, lost},
		"nobody asked":                     {[]string{"", "HTTP/1.1 408 x\r\nContent-Length: 4\r\n\r\n"}, lost},
		"more than was asked":              {[]string{get, "HTTP/1.1 204 x\r\n\r\nHTTP/1.1 204 x\r\n\r\n"}, lost},
		"the second, short":                {[]string{get, "HTTP/1.1 204 x\r\n\r\n", get, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"}, short},
		"the second, not begun":            {[]string{get, "HTTP/1.1 204 x\r\n\r\n", get, ""}, whole},
		"asked at once":                    {[]string{"HEAD / HTTP/1.1\r\n\r\n" + get, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"}, short},
		"behind a body":                    {[]string{"PUT / HTTP/1.1\r\nContent-Length: 27\r\n\r\n" + get + "HEAD / HTTP/1.1\r\n\r\n", "HTTP/1.1 204 x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"}, whole},
		"behind a body in chunks":          {[]string{"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nGET\r\n0\r\n\r\nHEAD / HTTP/1.1\r\n\r\n", "HTTP/1.1 204 x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"}, whole},
		"an answer before the body's end":  {[]string{"PUT / HTTP/1.1\r\nContent-Length: 28\r\n\r\n", "HTTP/1.1 413 x\r\nContent-Length: 4\r\n\r\n"}, short},
		"a body of nobody knows what size": {[]string{"PUT / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 413 x\r\nContent-Length: 4\r\n\r\n"}, lost},
		"more requests than are counted":   {[]string{strings.Repeat(get, 65), "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"}, lost},
		"as many as are counted":           {[]string{strings.Repeat(get, 64), "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"}, short},
	} {
		t.Run(why, func(t *testing.T) {
			for _, piece := range []int{1, 2, 3, 7, 1 << 20} {
				var x hello.Exchange
				for i, turn := range c.turns {
					for b := range slices.Chunk([]byte(turn), piece) {
						if i%2 == 0 {
							x.Client(b)
						} else {
							x.Server(b)
						}
					}
				}
				got := map[[2]bool]string{{true, false}: short, {false, true}: lost, {false, false}: whole}[[2]bool{x.Short(), x.Lost()}]
				require.Equal(t, c.want, got, "in pieces of %d", piece)
			}
		})
	}
}

// TestExchangeUnseen: bodies may go by unseen, and their ends are found all the same.
func TestExchangeUnseen(t *testing.T) {
	next := "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
	for why, c := range map[string]struct {
		asks, begins, unseen string
		again                string
		whole, lost          bool
	}{
		"a length":                      {get, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "what", get, true, false},
		"less than that":                {get, next, "what", "", false, false},
		"more than that":                {get, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "what?", "", false, true},
		"chunks":                        {get, chunky + "200\r\n", strings.Repeat("x", 512) + "\r\n0\r\n\r\n", get, true, false},
		"chunks and a trailer":          {get, chunky + "4\r\nwh", "at\r\n0\r\nX-Y: z\r\n\r\n", get, true, false},
		"a trailer too long to be seen": {get, chunky + "4\r\nwh", "at\r\n0\r\nX-Y: " + strings.Repeat("z", 500) + "\r\n\r\n", get, true, false},
		"no last chunk":                 {get, chunky + "200\r\n", strings.Repeat("x", 512) + "\r\n", "", false, false},
		"lines of text":                 {get, chunky + "208\r\n", strings.Repeat("text\r\n", 87)[:520] + "\r\n", "", false, false},
		"asked again before the end":    {get, chunky + "200\r\n", "xx", get, false, true},
	} {
		t.Run(why, func(t *testing.T) {
			var x hello.Exchange
			x.Client([]byte(c.asks))
			x.Server([]byte(c.begins))
			require.NotZero(t, x.UnseenServer())
			show := x.SkipServer(int64(len(c.unseen)))
			require.LessOrEqual(t, show, int64(128))
			x.Server([]byte(c.unseen[len(c.unseen)-int(show):]))
			require.Equal(t, []bool{!c.whole && (!c.lost || c.again != ""), c.lost && c.again == ""}, []bool{x.Short(), x.Lost()})
			x.Client([]byte(c.again))
			require.Equal(t, c.lost, x.Lost())
			if c.whole {
				require.Zero(t, x.UnseenServer(), "a header must be seen")
				x.Server([]byte(next + "what"))
				require.True(t, x.Short())
				x.Server([]byte("!"))
				require.False(t, x.Short() || x.Lost())
			}
		})
	}
	t.Run("an upload", func(t *testing.T) {
		var x hello.Exchange
		x.Client([]byte("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n"))
		show := x.SkipClient(1007)
		x.Client([]byte(strings.Repeat("x", int(show)-7) + "\r\n0\r\n\r\n"))
		x.Server([]byte("HTTP/1.1 204 x\r\n\r\n"))
		x.Client([]byte("HEAD / HTTP/1.1\r\n\r\n"))
		x.Server([]byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"))
		require.False(t, x.Short() || x.Lost())
	})
	t.Run("another reply may follow", func(t *testing.T) {
		var x hello.Exchange
		x.Client([]byte(get + get))
		x.Server([]byte(chunky + "4\r\n"))
		require.Zero(t, x.UnseenServer())
	})
}

// TestExchangeUnseenFrom: wherever the looking ends and however the rest is cut, what is
// known is what it were if all had been seen.
func TestExchangeUnseenFrom(t *testing.T) {
	for _, reply := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwhat",
		chunky + "4\r\nwhat\r\n0\r\n\r\n",
		chunky + "4;x=y\r\nwhat\r\n00;x=y\r\n\r\n",
		chunky + "4\r\nwhat\r\n2\r\n!\n\r\n0\r\nX: y\r\nZ: y\r\n\r\n",
		chunky + "82\r\n" + strings.Repeat("x", 130) + "\r\n0\r\n\r\n",
	} {
		for to := range len(reply) + 1 {
			var all hello.Exchange
			all.Client([]byte(get))
			all.Server([]byte(reply[:to]))
			for from := range to + 1 {
				for cut := from; cut <= to; cut++ {
					var x hello.Exchange
					x.Client([]byte(get))
					x.Server([]byte(reply[:from]))
					passUnseen(&x, reply[from:cut])
					passUnseen(&x, reply[cut:to])
					require.Equal(t, []bool{all.Short(), all.Lost()}, []bool{x.Short(), x.Lost()}, "%q, then unseen", reply[:from])
				}
			}
		}
	}
}

// passUnseen shows of a destination's octets what must be.
func passUnseen(x *hello.Exchange, piece string) {
	for len(piece) > 0 {
		n := min(x.UnseenServer(), int64(len(piece)))
		if n == 0 {
			x.Server([]byte(piece))
			return
		}
		show := x.SkipServer(n)
		x.Server([]byte(piece[n-show : n]))
		piece = piece[n:]
	}
}

// FuzzExchange demands that cuts change nothing, and that what net/http reads whole
// is not short, nor whole what breaks off for it.
func FuzzExchange(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhat"), []byte{3, 20})
	f.Add([]byte(chunky+"4\r\nwhat\r\n0\r\nX: y\r\n\r\n"), []byte{1})
	f.Add([]byte("HTTP/1.1 100 x\r\n\r\nHTTP/1.1 304 x\r\n\r\n"), []byte{9})
	f.Add([]byte("HTTP/1.0 200 \nContent-Length :1\n\n"), []byte("0")) // curl and net/http take it for no length
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		follow := func(pieces ...[]byte) [2]bool {
			var x hello.Exchange
			x.Client([]byte(get))
			for _, b := range pieces {
				if len(b) > 0 {
					x.Server(b)
				}
			}
			return [2]bool{x.Short(), x.Lost()}
		}
		before := slices.Clone(stream)
		got := follow(stream)
		require.Equal(t, got, follow(slice(stream, cuts)...), "cuts change the result")
		require.Equal(t, got, follow(bytewise(stream)...), "single bytes change the result")
		require.Equal(t, before, stream, "the input was changed")
		if short, lost := got[0], got[1]; !lost && len(stream) > 0 {
			in := bufio.NewReader(bytes.NewReader(stream))
			resp, err := http.ReadResponse(in, &http.Request{Method: "GET"})
			if err != nil || resp.StatusCode < 200 {
				return // net/http is stricter with what a header may say
			}
			if _, err = io.Copy(io.Discard, resp.Body); err == nil || err == io.ErrUnexpectedEOF {
				require.Equal(t, err != nil, short, "%q", stream)
			}
		}
	})
}
