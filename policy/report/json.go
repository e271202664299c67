package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// WriteJSON writes the report as contract section 5 has it, indented, with a
// final newline. Characters that a terminal could take for orders, or that
// reorder text, are written as \u escapes. Nothing is written on an error of
// the encoding.
func (r *Report) WriteJSON(w io.Writer) error { return writeJSON(w, "report", r) }

// writeJSON writes v, which errors call what.
func writeJSON(w io.Writer, what string, v any) error {
	out := visibly{w: w}
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	switch {
	case out.err != nil:
		return fmt.Errorf("write %s: %w", what, out.err)
	case err != nil:
		return fmt.Errorf("write %s as JSON: %w", what, err)
	}
	return nil
}

// visibly makes visible what an Encoder writes, which it does once and whole.
type visibly struct {
	w   io.Writer
	err error
}

func (p *visibly) Write(b []byte) (int, error) {
	_, p.err = p.w.Write(visible(b))
	return len(b), p.err
}

// visible escapes what is not printable. In JSON that encoding/json wrote, it
// can stand in strings only, but for line breaks.
func visible(in []byte) []byte {
	out := make([]byte, 0, len(in))
	for i := 0; i < len(in); {
		r, n := utf8.DecodeRune(in[i:])
		switch {
		case r == '\n' || r < utf8.RuneSelf && r != 0x7f || strconv.IsPrint(r):
			out = append(out, in[i:i+n]...)
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		}
		i += n
	}
	return out
}
