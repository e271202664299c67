package report

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// color is an ANSI SGR sequence.
type color string

const (
	red    color = "\x1b[1;31m"
	yellow color = "\x1b[1;33m"
	green  color = "\x1b[1;32m"
	bold   color = "\x1b[1m"
	reset        = "\x1b[0m"
)

// page lays out text in columns. Texts given to it are escaped already.
type page struct {
	strings.Builder
	width int
	color bool
}

func newPage(o TextOptions) *page {
	width := o.Width
	if width == 0 {
		width = 100
	}
	return &page{width: max(width, 40), color: o.Color}
}

// paint writes text, wrapped, in a colour.
func (p *page) paint(c color, text string) {
	for _, line := range wrap(text, p.width) {
		if p.color {
			line = string(c) + line + reset
		}
		p.WriteString(line + "\n")
	}
}

// heading begins a section.
func (p *page) heading(title, number, meaning string, c ...color) {
	if number != "" {
		title += " (" + number + ")"
	}
	if meaning != "" {
		title += ": " + meaning
	}
	p.WriteString("\n")
	p.paint(append(c, bold)[0], title)
}

// hang writes label, and text wrapped beside it from column at on, or further
// left where a word (a host name) would have to be broken there. A label that
// is too long has a line of its own.
func (p *page) hang(label string, at int, text string) {
	if at > indent && longestWord(text) > p.width-at {
		p.long(label)
		label, at = "", indent
	}
	margin := strings.Repeat(" ", at)
	lines := wrap(text, p.width-at)
	if n := utf8.RuneCountInString(label); n < at {
		label += margin[n:]
	} else if at > 0 {
		p.long(label)
		label = margin
	}
	for _, l := range lines {
		p.WriteString(strings.TrimRight(label+l, " ") + "\n")
		label = margin
	}
}

// long writes a label on lines of its own, indented as it is.
func (p *page) long(label string) {
	text := strings.TrimLeft(label, " ")
	margin := label[:len(label)-len(text)]
	for _, l := range wrap(text, p.width-len(margin)-2) {
		p.WriteString(margin + l + "\n")
		margin = strings.Repeat(" ", len(label)-len(text)+2)
	}
}

// some writes a list, where there is one.
func (p *page) some(label string, list []string) {
	if len(list) > 0 {
		p.hang(label, 13, escapedList(list, 12))
	}
}

func longestWord(text string) int {
	most := 0
	for _, w := range strings.Fields(text) {
		most = max(most, utf8.RuneCountInString(w))
	}
	return most
}

// wrap breaks text between words so that no line is longer than width; a word
// longer than that is broken, too.
func wrap(text string, width int) []string {
	var out []string
	line, used := "", 0
	for _, w := range strings.Fields(text) {
		n := utf8.RuneCountInString(w)
		if used > 0 && used+1+n > width {
			out, line, used = append(out, line), "", 0
		}
		for ; n > width; n -= width {
			r := []rune(w)
			out, w = append(out, string(r[:width])), string(r[width:])
		}
		if used > 0 {
			line, used = line+" ", used+1
		}
		line, used = line+w, used+n
	}
	return append(out, line)
}

// size is a number of bytes for people.
func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for ; f >= 1000 && i < len(units)-1; i++ {
		f /= 1000
	}
	if i == 0 || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, units[i])
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
