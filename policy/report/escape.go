package report

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// longestName is how many octets of a text Cut leaves: those of the longest name.
const longestName = 253

// Cut is s, cut before a letter where it is longer than a name can be; "..." tells.
// What is cut is not escaped.
func Cut(s string) string {
	if len(s) <= longestName {
		return s
	}
	n := longestName
	for n > longestName-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}

// Escape makes a text of somebody else safe to print: control characters (ESC,
// NUL, the C1 range), bidi and other invisible format characters, unusual
// blanks and bytes that are no UTF-8 become \x1b or \u202e. The result is one
// line; printable text stays as it is.
func Escape(s string) string {
	if safe(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += n
	}
	return b.String()
}

func safe(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
