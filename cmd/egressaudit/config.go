package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/policy"
)

// fromFile is the annotation of a flag that the configuration file has set.
const fromFile = "egressaudit_from_file"

// maxConfig bounds a configuration file, in octets.
const maxConfig = 1 << 20

// configure sets those flags of c that stand in the configuration file at path,
// and were not given; "" is no file. Its keys are the names of the flags. The error
// names file and line.
func configure(c *cobra.Command, path string) error {
	if path == "" {
		return nil
	}
	entries, err := readConfig(path)
	if err != nil {
		return fmt.Errorf("--config %q: %w", path, err)
	}
	seen := map[string]int{}
	for _, e := range entries {
		name, line := keyOf(e)
		if first := seen[name]; first != 0 {
			return fmt.Errorf("--config %q line %d: %q stands in line %d already", path, line, name, first)
		}
		seen[name] = line
		if err := setFlag(c, name, e.Value); err != nil {
			return fmt.Errorf("--config %q line %d: %w", path, line, err)
		}
		if f := c.Flags().Lookup(name); f.Annotations[fromFile] != nil {
			f.Annotations[fromFile] = []string{fmt.Sprintf("--config %q line %d", path, line)}
		}
	}
	return nil
}

// configured puts in front of an error about a flag where the configuration file
// has it.
func configured(c *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	c.Flags().Visit(func(f *pflag.Flag) {
		rest, about := strings.CutPrefix(err.Error(), "--"+f.Name)
		if at := f.Annotations[fromFile]; at != nil && about && strings.IndexAny(rest, " :") == 0 {
			err = fmt.Errorf("%s: %w", at[0], err)
		}
	})
	return err
}

func keyOf(e *ast.MappingValueNode) (name string, line int) {
	t := e.Key.GetToken()
	return t.Value, t.Position.Line
}

// readConfig reads the entries of the file's one mapping.
func readConfig(path string) (entries []*ast.MappingValueNode, err error) {
	i, err := os.Stat(path)
	if err != nil {
		return nil, cause(err)
	}
	if i.Size() > maxConfig {
		return nil, fmt.Errorf("%d octets are too many for a configuration", i.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, cause(err)
	}
	defer func() {
		if r := recover(); r != nil {
			entries, err = nil, errors.New("the YAML cannot be understood")
		}
	}()
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, yamlError(err)
	}
	for _, d := range file.Docs {
		switch body := d.Body.(type) {
		case nil, *ast.CommentGroupNode, *ast.NullNode:
		case *ast.MappingNode:
			entries = append(entries, body.Values...)
		default:
			return nil, fmt.Errorf("line %d: write \"key: value\" lines, such as proxy: 127.0.0.1:3128", body.GetToken().Position.Line)
		}
	}
	return entries, nil
}

// yamlError is the parser's complaint in one line.
func yamlError(err error) error {
	if y := yaml.Error(nil); errors.As(err, &y) {
		if t := y.GetToken(); t != nil && t.Position != nil {
			return fmt.Errorf("line %d: %s", t.Position.Line, y.GetMessage())
		}
		return errors.New(y.GetMessage())
	}
	return err
}

// setFlag gives a flag the value that the file has for it, unless it was given.
func setFlag(c *cobra.Command, name string, value ast.Node) error {
	f := c.Flags().Lookup(name)
	if f == nil || name == "config" || name == "help" {
		return unknownKey(c, name)
	}
	texts, err := scalars(value)
	switch {
	case err != nil:
		return fmt.Errorf("%q: %w", name, err)
	case (len(texts) == 0 || slices.Contains(texts, "")) && !mayBeEmpty[name]:
		return fmt.Errorf("%q: the value is empty (leave the key out for its default)", name)
	}
	if f.Changed {
		return nil
	}
	if s, list := f.Value.(pflag.SliceValue); list && value.Type() == ast.SequenceType {
		err = s.Replace(texts)
		f.Changed = true
	} else if len(texts) != 1 {
		return fmt.Errorf("%q: write one value, not a list", name)
	} else {
		err = c.Flags().Set(name, texts[0])
	}
	if err != nil {
		return flagError(c, err)
	}
	f.Annotations[fromFile] = []string{"yes"}
	return nil
}

// unknownKey says which key may have been meant.
func unknownKey(c *cobra.Command, name string) error {
	var keys []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "config" && f.Name != "help" {
			keys = append(keys, f.Name)
		}
	})
	meant := policy.DidYouMean(policy.Nearest(name, keys))
	if meant == "" {
		meant = " (keys are the flags of " + c.CommandPath() + " --help)"
	}
	return fmt.Errorf("unknown key %q%s", name, meant)
}

// scalars are the texts of a value: one, or those of a list.
func scalars(value ast.Node) ([]string, error) {
	list, ok := value.(*ast.SequenceNode)
	if !ok {
		one, err := scalar(value)
		return []string{one}, err
	}
	var out []string
	for _, v := range list.Values {
		one, err := scalar(v)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// scalar is the text of a value as it was written, without quotes.
func scalar(n ast.Node) (string, error) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, nil
	case *ast.NullNode:
		return "", errors.New("the value is missing")
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return "", fmt.Errorf("write the value itself, not %s (in quotes it is a text)", v.GetToken().Value)
	case *ast.LiteralNode:
		return v.Value.Value, nil
	case ast.ScalarNode:
		return v.GetToken().Value, nil
	}
	return "", errors.New("write a value or a list of values")
}

// copyFlag gives one flag the value of another of the same type.
func copyFlag(to, from *pflag.Flag) error {
	if list, ok := from.Value.(pflag.SliceValue); ok {
		return to.Value.(pflag.SliceValue).Replace(list.GetSlice())
	}
	return to.Value.Set(from.Value.String())
}
