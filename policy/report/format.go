package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Formats are the names of the renderings that Write knows, for --format.
var Formats = []string{"text", "json", "markdown", "html", "csv", "junit"}

// CheckFormat refuses a format that is none of Formats, and says what to write.
func CheckFormat(format string) error {
	if slices.Contains(Formats, format) {
		return nil
	}
	n := len(Formats) - 1
	return fmt.Errorf("%q: write %s or %s", format, strings.Join(Formats[:n], ", "), Formats[n])
}

// Write renders the report in one of Formats; o is for text alone.
func (r *Report) Write(w io.Writer, format string, o TextOptions) error {
	switch format {
	case "text":
		return r.WriteText(w, o)
	case "json":
		return r.WriteJSON(w)
	case "markdown":
		return r.WriteMarkdown(w)
	case "html":
		return r.WriteHTML(w)
	case "csv":
		return r.WriteCSV(w)
	case "junit":
		return r.WriteJUnit(w)
	}
	return CheckFormat(format)
}
