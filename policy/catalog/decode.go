package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/egressaudit/egressaudit/policy"
)

// mapping is a YAML mapping whose keys are known to be allowed and to stand
// once.
type mapping struct {
	*decoder
	what  string // "" or `requirement "x": `
	line  int
	nodes map[string]ast.Node
	lines map[string]int
}

// mapping reads n, demands the keys of required and allows those of optional.
// An empty mapping after a failure.
func (d *decoder) mapping(n ast.Node, line int, what string, required, optional []string) mapping {
	m := d.anyMapping(n, line, what)
	if m.nodes == nil {
		return m
	}
	known, odd := slices.Concat(required, optional), false
	for _, key := range slices.Sorted(maps.Keys(m.nodes)) {
		if slices.Contains(known, key) {
			continue
		}
		hint := policy.DidYouMean(policy.Nearest(key, known))
		if hint == "" {
			hint = " (known are " + policy.List(known, "and") + ")"
		}
		d.fail(m.lines[key], "%sunknown key %q%s", what, printable(key), hint)
		odd = true
	}
	for _, key := range required {
		if m.nodes[key] == nil && !odd { // a mistyped key is told, not the one it was meant for
			d.fail(m.line, "%skey %q is missing", what, key)
		}
	}
	return m
}

// anyMapping reads n, whose keys may be any.
func (d *decoder) anyMapping(n ast.Node, line int, what string) mapping {
	m := mapping{decoder: d, what: what, line: line}
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		d.fail(line, "%skeys with values are wanted here, not %s", what, kind(n))
		return m
	}
	m.nodes, m.lines = map[string]ast.Node{}, map[string]int{}
	for _, v := range values {
		key, at := v.Key.GetToken().Value, lineOf(v.Key)
		if first, ok := m.lines[key]; ok {
			d.fail(at, "%skey %q stands twice, first in line %d", what, printable(key), first)
			continue
		}
		m.nodes[key], m.lines[key] = v.Value, at
	}
	if len(values) > 0 {
		m.line = min(m.line, lineOf(values[0].Key))
	}
	return m
}

// kind names what a node is, for people.
func kind(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys with values"
	}
	return "something else"
}

// text reads a scalar that is text, with runs of white space as one blank. It
// is "" after a failure.
func (d *decoder) text(n ast.Node, line int, what string) string {
	var s string
	switch n := n.(type) {
	case *ast.StringNode:
		s = n.Value
	case *ast.LiteralNode:
		s = n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode, *ast.BoolNode:
		d.fail(line, "%s: text is wanted, not %s: put it in quotes: %q", what, kind(n), n.GetToken().Value)
		return ""
	default:
		d.fail(line, "%s: text is wanted, not %s", what, kind(n))
		return ""
	}
	s = strings.Join(strings.Fields(s), " ")
	if i := strings.IndexFunc(s, disguises); i >= 0 {
		d.fail(line, "%s: a control character does not belong into text", what)
	} else if s == "" {
		d.fail(line, "%s: the text is empty", what)
	}
	return s
}

// text reads the value of key; "" where the key is missing.
func (m mapping) text(key string) string {
	if m.nodes[key] == nil {
		return ""
	}
	return m.decoder.text(m.nodes[key], m.lines[key], m.what+key)
}

// word reads a value that flags and records name: it has no blanks.
func (m mapping) word(key string) string {
	s := m.text(key)
	if s != "" && !isWord(s) {
		var hint []string
		if w := strings.NewReplacer(" ", "-", "/", "-", ",", "-", ":", "-").Replace(strings.ToLower(s)); isWord(w) {
			hint = append(hint, w)
		}
		m.fail(m.lines[key], "%s%s %q: made of lower-case letters, digits, -, _ and .%s", m.what, key, s, policy.DidYouMean(hint))
	}
	return s
}

func isWord(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.", rune(c)) {
			return false
		}
	}
	return s != "" && s[0] != '-'
}

// oneOf reads a value out of few.
func oneOf[T ~string](m mapping, n ast.Node, line int, key string, values ...T) T {
	s := T(m.decoder.text(n, line, m.what+key))
	if s == "" || slices.Contains(values, s) {
		return s
	}
	var words []string
	for _, v := range values {
		words = append(words, string(v))
	}
	hint := policy.DidYouMean(policy.Nearest(string(s), words))
	if hint == "" {
		hint = " (known are " + policy.List(words, "and") + ")"
	}
	m.fail(line, "%s%s %q is not known%s", m.what, key, string(s), hint)
	return s
}

// items are the entries of a list with their lines.
func (m mapping) items(key string) ([]ast.Node, []int) {
	n := m.nodes[key]
	if n == nil {
		return nil, nil
	}
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		hint := ""
		if s, ok := n.(*ast.StringNode); ok {
			hint = fmt.Sprintf(" (did you mean [%q]?)", s.Value)
		}
		m.fail(m.lines[key], "%s%s: a list is wanted, not %s%s", m.what, key, kind(n), hint)
		return nil, nil
	}
	if len(seq.Values) == 0 {
		m.fail(m.lines[key], "%s%s: the list is empty", m.what, key)
	}
	var lines []int
	for i, v := range seq.Values {
		line := lineOf(v)
		if line == 0 && i < len(seq.Entries) && seq.Entries[i] != nil {
			line = lineOf(seq.Entries[i])
		}
		lines = append(lines, max(line, m.lines[key]))
	}
	return seq.Values, lines
}

func (m mapping) bool(key string) bool {
	n := m.nodes[key]
	if n == nil {
		return false
	}
	b, ok := n.(*ast.BoolNode)
	if !ok {
		m.fail(m.lines[key], "%s%s: true or false is wanted, not %s", m.what, key, quoted(n))
		return false
	}
	return b.Value
}

func (m mapping) port(key string) uint16 {
	n := m.nodes[key]
	if n == nil {
		return 0
	}
	if i, ok := n.(*ast.IntegerNode); ok {
		switch v := i.Value.(type) {
		case uint64:
			if v >= 1 && v <= 65535 {
				return uint16(v)
			}
		case int64:
			if v >= 1 && v <= 65535 {
				return uint16(v)
			}
		}
	}
	m.fail(m.lines[key], "%s%s: a number from 1 to 65535 is wanted, not %s", m.what, key, quoted(n))
	return 0
}

// date reads a day, which begins at midnight UTC; zero where the key is missing.
func (m mapping) date(key string) time.Time {
	if m.nodes[key] == nil {
		return time.Time{}
	}
	s := m.text(key)
	t, err := time.Parse(time.DateOnly, s)
	if err != nil && s != "" {
		m.fail(m.lines[key], "%s%s: a day is written like 2021-12-07, not %q", m.what, key, s)
	}
	return t
}

// quoted shows a scalar as it is written in the file.
func quoted(n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return policy.List([]string{n.Value}, "")
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return printable(n.GetToken().Value)
	}
	return kind(n)
}
