package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"
)

// void are the elements of HTML without an end tag.
var void = []string{"br", "meta", "img", "input", "hr", "link"}

// allowed are all elements of the page, and attributes are all attributes.
var (
	allowed = strings.Fields(`html head meta title style body header main section footer h1 h2 h3 h4 p b span ul ol li dl div dt dd a code br
		figure figcaption details summary table thead tbody tr th td svg g rect line circle text desc`)
	attributes = strings.Fields(`lang charset http-equiv content name class id href rel aria-hidden aria-label aria-labelledby aria-describedby
		role tabindex scope data-scope viewBox xmlns xmlns:xlink x y x1 y1 x2 y2 r cx cy width height text-anchor`)
)

// requirePage walks a page token by token: tags are balanced, ids are unique and
// all that refer to one find it, headings are in order, nothing but our own
// elements and attributes stands there, nothing is loaded or run, and the policy
// names the style that is there.
func requirePage(t *testing.T, page []byte) {
	t.Helper()
	require.True(t, bytes.HasPrefix(page, []byte("<!doctype html>\n")))
	w := walk{t: t, ids: map[string]bool{}}
	for z := html.NewTokenizer(bytes.NewReader(page)); ; {
		kind := z.Next()
		if kind == html.ErrorToken {
			require.ErrorIs(t, z.Err(), io.EOF)
			break
		}
		w.token(kind, z.Token())
	}
	require.Empty(t, w.open, "elements without an end")
	for _, r := range w.refs {
		require.True(t, w.ids[r], "nothing has the id %q", r)
	}
	sum := sha256.Sum256([]byte(w.style))
	require.Equal(t, "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'; base-uri 'none'; form-action 'none'", w.policy)
	require.NotContains(t, w.style, "@import")
	require.NotContains(t, w.style, "url(")
	_, err := html.Parse(bytes.NewReader(page))
	require.NoError(t, err)
}

type walk struct {
	t             *testing.T
	open          []string
	ids           map[string]bool
	refs          []string
	heading       int
	style, policy string
}

func (w *walk) token(kind html.TokenType, tok html.Token) {
	t := w.t
	t.Helper()
	switch kind {
	case html.StartTagToken, html.SelfClosingTagToken:
		w.start(tok)
		if kind == html.StartTagToken && !slices.Contains(void, tok.Data) {
			w.open = append(w.open, tok.Data)
		}
	case html.EndTagToken:
		require.NotEmpty(t, w.open)
		require.Equal(t, w.open[len(w.open)-1], tok.Data)
		w.open = w.open[:len(w.open)-1]
	case html.TextToken:
		if n := len(w.open); n > 0 && w.open[n-1] == "style" {
			w.style += tok.Data
		}
	case html.CommentToken:
		require.Fail(t, "a comment", tok.Data)
	}
}

func (w *walk) start(tok html.Token) {
	t := w.t
	t.Helper()
	require.Contains(t, allowed, tok.Data)
	if len(tok.Data) == 2 && tok.Data[0] == 'h' && tok.Data[1] >= '1' && tok.Data[1] <= '6' {
		level := int(tok.Data[1] - '0')
		require.LessOrEqual(t, level, w.heading+1, "a heading is left out")
		w.heading = level
	}
	attr := map[string]string{}
	for _, a := range tok.Attr {
		require.Contains(t, attributes, attributeName(a.Key), "<%s %s>", tok.Data, a.Key)
		require.NotContains(t, attr, a.Key)
		attr[a.Key] = a.Val
		switch a.Key {
		case "id":
			require.False(t, w.ids[a.Val], "the id %q comes twice", a.Val)
			w.ids[a.Val] = true
		case "aria-labelledby", "aria-describedby":
			w.refs = append(w.refs, strings.Fields(a.Val)...)
		case "href":
			if ref, ok := strings.CutPrefix(a.Val, "#"); ok {
				w.refs = append(w.refs, ref)
			} else {
				require.Regexp(t, "^https?://", a.Val)
			}
		}
	}
	if attr["http-equiv"] == "Content-Security-Policy" {
		w.policy = attr["content"]
	}
}

// attributeName is the name as the page writes it, for the tokenizer lowers it.
func attributeName(key string) string {
	if key == "viewbox" {
		return "viewBox"
	}
	return key
}

func TestPage(t *testing.T) {
	for name, r := range map[string]*Report{
		"every":   everyReport(),
		"clear":   started().conn("quay.io", ok).stop().report(Options{Catalogs: []*policy.Catalog{small}}),
		"nothing": quiet().halt().report(Options{Catalogs: []*policy.Catalog{small}}),
		"empty":   Build(Options{}, nothing),
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			require.NoError(t, r.WriteHTML(&b))
			requirePage(t, b.Bytes())
			plain := plainText(t, b.Bytes())
			for _, n := range append(r.steps(), r.BlindSpots...) {
				require.Contains(t, plain, plainSpace(sentence(n)[1:]))
			}
			for _, e := range r.Endpoints {
				require.Contains(t, plain, Escape(target(e.Host, e.Port)))
			}
			for _, u := range r.wanted() {
				require.Contains(t, plain, plainSpace(u.Ask))
			}
		})
	}
}

// The verdict stands before anything else, and never says more than the text's.
func TestPageVerdict(t *testing.T) {
	for _, r := range []*Report{everyReport(), quiet().halt().report(Options{Catalogs: []*policy.Catalog{small}})} {
		var b bytes.Buffer
		require.NoError(t, r.WriteHTML(&b))
		word, rest, _ := strings.Cut(r.Sentence(), ": ")
		_, body, _ := strings.Cut(plainText(t, b.Bytes()), "Egress audit")
		at := strings.Index(strings.ToUpper(body), word)
		require.GreaterOrEqual(t, at, 0)
		require.Contains(t, body[at:at+300], sentence(rest))
		require.NotContains(t, body[:at+300], "✓ Clear")
	}
}

// A trial without an end is not ticked off.
func TestPageOfARunningTrial(t *testing.T) {
	r := started().conn("quay.io", ok).report(Options{Catalogs: []*policy.Catalog{small}})
	require.Equal(t, Clear, r.Verdict)
	var b bytes.Buffer
	require.NoError(t, r.WriteHTML(&b))
	require.Contains(t, plainText(t, b.Bytes()), "… Clear so far, and the trial has no end")
}

// A picture has a bounded size, whatever the trial was.
func TestPictureIsBounded(t *testing.T) {
	tape := started()
	for i := range 3000 {
		tape.conn(fmt.Sprintf("host%d.example%d.net", i, i%7), ok).conn("quay.io", reset1)
	}
	r := tape.stop().report(Options{Catalogs: []*policy.Catalog{small}})
	svg := string(r.visible().picture(wideLayout))
	require.Less(t, len(svg), maxLanes*maxSteps*400)
	require.Equal(t, maxLanes, strings.Count(svg, `class="name"`))
	require.Contains(t, svg, `class="failed"`)
}

func TestTick(t *testing.T) {
	for _, seconds := range []int64{0, 1, 7, 59, 61, 600, 3600, 90_000, 900_000, 40_000_000, 3e9} {
		span := timeOf(seconds)
		step := tick(span, 9)
		require.Positive(t, step)
		require.LessOrEqual(t, int64(span/step), int64(9))
	}
}

// Nothing is half written: what fails says so.
func TestWriteFails(t *testing.T) {
	for _, format := range Formats {
		require.ErrorIs(t, everyReport().Write(full{}, format, TextOptions{}), errFull, format)
	}
	require.EqualError(t, everyReport().Write(io.Discard, "pdf", TextOptions{}), `"pdf": write text, json, markdown, html, csv or junit`)
}

type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

// plainText is what a reader sees of a page, with single blanks.
func plainText(t *testing.T, page []byte) string {
	t.Helper()
	var b strings.Builder
	hidden := false
	for z := html.NewTokenizer(bytes.NewReader(page)); ; {
		switch z.Next() {
		case html.ErrorToken:
			return plainSpace(b.String())
		case html.StartTagToken:
			tag, _ := z.TagName()
			hidden = string(tag) == "style"
		case html.EndTagToken:
			hidden = false
		case html.TextToken:
			if !hidden {
				b.Write(z.Text())
			}
		}
	}
}

func plainSpace(s string) string { return strings.Join(strings.Fields(html.UnescapeString(s)), " ") }

// requireTables demands that all rows of a table have as many cells.
func requireTables(t *testing.T, page []byte) {
	t.Helper()
	doc, err := html.Parse(bytes.NewReader(page))
	require.NoError(t, err)
	tables := 0
	for n := range doc.Descendants() {
		if n.Data != "table" {
			continue
		}
		tables++
		widths := map[int]bool{}
		for row := range n.Descendants() {
			if row.Data == "tr" {
				cells := 0
				for c := range row.ChildNodes() {
					cells += bit(c.Data == "td" || c.Data == "th")
				}
				widths[cells] = true
			}
		}
		require.Len(t, widths, 1)
	}
	require.Greater(t, tables, 2)
}

func timeOf(seconds int64) time.Duration { return time.Duration(seconds) * time.Second }
