package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// decoder reads YAML nodes into Go values. It goes on after a mistake with the
// zero value, and keeps the mistake that stands first in the file.
type decoder struct {
	line int
	err  error
}

// fail keeps the error, unless one of an earlier line is known. Line 0 stands
// for the file as a whole.
func (d *decoder) fail(line int, format string, args ...any) {
	if d.err == nil || line < d.line {
		d.line, d.err = line, fmt.Errorf(format, args...)
	}
}

// document reads the one document of the file; nil after a failure.
func (d *decoder) document(data []byte) ast.Node {
	if len(data) > maxFile {
		d.fail(0, "the file is larger than 1 MiB")
		return nil
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if i := firstBad(data); i >= 0 {
		d.fail(1+bytes.Count(data[:i], []byte("\n")), "the byte 0x%02x is not UTF-8 text", data[i])
		return nil
	}
	file := d.parse(string(data))
	switch {
	case file == nil:
		return nil
	case len(file.Docs) > 1:
		d.fail(lineOf(file.Docs[1]), "a second document begins: a catalog file holds one")
		return nil
	case len(file.Docs) == 0 || file.Docs[0].Body == nil:
		d.fail(0, "the file is empty")
		return nil
	}
	return file.Docs[0].Body
}

// parse is the parser's work, guarded; nil after a failure.
func (d *decoder) parse(text string) (file *ast.File) {
	defer func() {
		if r := recover(); r != nil {
			d.fail(0, "the YAML cannot be understood: %s", printable(fmt.Sprint(r)))
			file = nil
		}
	}()
	tokens := lexer.Tokenize(text)
	if t := tokens.InvalidToken(); t != nil {
		d.syntax(t.Position.Line, t.Error)
		return nil
	}
	if g := (guard{decoder: d}); !g.check(tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err == nil {
		return file
	}
	line, message := 0, err.Error()
	if y := yaml.Error(nil); errors.As(err, &y) {
		message = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			line = t.Position.Line
		}
	}
	d.syntax(line, message)
	return nil
}

// firstBad is the index of the first byte that no text holds, or -1.
func firstBad(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 || r == 0 {
			return i
		}
		i += size
	}
	return -1
}

// noMapping is what the parser says of two colons in one line.
const noMapping = "mapping value is not allowed in this context"

// hints tell what to write where the parser's own words do not.
var hints = map[string]string{
	noMapping: ` (text that holds ": " stands in quotes)`,
	"found character '\t' that cannot start any token": " (indent with blanks, not with tabs)",
}

// syntax makes one line of a parser's error.
func (d *decoder) syntax(line int, text string) {
	d.fail(line, "%s%s", printable(text), hints[text])
}

// printable is s in one line, without control characters.
func printable(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || disguises(r) }), " ")
}

// disguises says that a character could change what a terminal shows beside it.
func disguises(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Bidi_Control) }

// guard refuses, before the parser sees it, the YAML that a catalog does not
// need, and with it all that makes the parser deep or slow: it recurses once a
// level and once a key of a mapping, and shifts all tokens for an empty value.
type guard struct {
	*decoder
	prev  *token.Token // comments left out
	open  []bracket
	keys  map[int]int // keys of block mappings by column
	colon int         // line of the last colon outside of brackets
}

// bracket is a flow collection that is open.
type bracket struct {
	mapping bool
	colon   bool // seen since the last comma
}

// Limits of what guard lets pass.
const (
	maxBrackets = 8
	maxKeys     = 1024
)

func (g *guard) check(tokens token.Tokens) bool {
	g.keys = map[int]int{}
	for _, t := range tokens {
		if t.Type == token.CommentType {
			continue
		}
		g.foreign(t)
		if len(g.open) > 0 {
			g.flow(t)
		} else {
			g.block(t)
		}
		g.nest(t)
		if g.err != nil {
			return false
		}
		g.prev = t
	}
	return true
}

// foreign refuses tokens that no catalog has.
func (g *guard) foreign(t *token.Token) {
	line := t.Position.Line
	switch t.Type {
	case token.AliasType:
		text := "*"
		if t.Next != nil && t.Next.Position.Line == line {
			text += printable(t.Next.Value)
		}
		g.fail(line, "%s begins with *, which YAML reads as an alias: put it in quotes: %q", text, text)
	case token.AnchorType:
		g.fail(line, "an anchor (&) does not belong into a catalog: write the value out, or put it in quotes")
	case token.TagType:
		g.fail(line, "a tag (!) does not belong into a catalog: write the value plainly, or put it in quotes")
	case token.MergeKeyType, token.MappingKeyType, token.DirectiveType:
		g.fail(line, "%q does not belong into a catalog", printable(t.Value))
	}
}

func (g *guard) nest(t *token.Token) {
	switch t.Type {
	case token.MappingStartType, token.SequenceStartType:
		g.open = append(g.open, bracket{mapping: t.Type == token.MappingStartType})
		if len(g.open) > maxBrackets {
			g.fail(t.Position.Line, "brackets are nested more than %d deep", maxBrackets)
		}
	case token.MappingEndType, token.SequenceEndType:
		g.open = g.open[:max(0, len(g.open)-1)]
	}
}

// flow refuses what is empty between brackets.
func (g *guard) flow(t *token.Token) {
	in := &g.open[len(g.open)-1]
	if t.Type == token.MappingValueType {
		in.colon = true
		return
	}
	if t.Type != token.CollectEntryType && t.Type != token.MappingEndType && t.Type != token.SequenceEndType {
		return
	}
	before := g.prev.Type
	nothing := before == token.CollectEntryType || before == token.MappingStartType || before == token.SequenceStartType
	switch {
	case nothing && t.Type == token.CollectEntryType:
		g.fail(t.Position.Line, "a comma with nothing before it")
	case before == token.MappingValueType && g.prev.Prev != nil:
		g.noValue(g.prev.Prev)
	case in.mapping && !in.colon && !nothing:
		g.noValue(g.prev)
	}
	in.colon = false
}

// block refuses what is empty outside of brackets, and counts the keys of
// mappings. A column is left, and its mapping ended, where a line begins
// further left.
func (g *guard) block(t *token.Token) {
	if g.prev == nil {
		return
	}
	here, before := t.Position, g.prev.Position
	if before.Line < here.Line {
		maps.DeleteFunc(g.keys, func(column, _ int) bool { return column > here.Column })
	}
	if t.Type == token.MappingValueType {
		if here.Line == g.colon {
			g.syntax(here.Line, noMapping)
		}
		g.colon = here.Line
		if g.keys[before.Column]++; g.keys[before.Column] > maxKeys {
			g.fail(here.Line, "more than %d keys in one mapping", maxKeys)
		}
	}
	entry := t.Type == token.SequenceEntryType
	switch key := g.prev.Prev; {
	case g.prev.Type == token.SequenceEntryType:
		if entry || here.Line > before.Line && here.Column <= before.Column {
			g.fail(before.Line, "a list entry is empty")
		}
	case g.prev.Type == token.MappingValueType && key != nil && here.Line > before.Line:
		if here.Column < key.Position.Column || here.Column == key.Position.Column && !entry {
			g.noValue(key)
		}
	}
}

func (g *guard) noValue(key *token.Token) {
	g.fail(key.Position.Line, "key %q has no value", printable(key.Value))
}

func lineOf(n ast.Node) int {
	if d, ok := n.(*ast.DocumentNode); ok && d.Start != nil {
		return d.Start.Position.Line
	} else if ok && d.Body != nil {
		return lineOf(d.Body)
	}
	if n != nil {
		if t := n.GetToken(); t != nil && t.Position != nil {
			return t.Position.Line
		}
	}
	return 0
}
