package report

import (
	"bytes"
	"fmt"
	"html/template"
	"slices"
	"strings"
)

// Bounds of Sections: a page that is renewed each second has room for so much.
const (
	liveHosts    = 12 // of an endpoint
	liveWanted   = 16 // rules to ask for, which stand above the checklist
	liveUnlisted = 100
	liveFindings = 100
)

// Style is the style sheet of the page, for pages that show Sections.
func Style() string { return pageStyle }

// SectionNames are the sections of the page in their order, but for its picture.
var SectionNames = []string{"verdict", "next", "endpoints", "unlisted", "findings", "settings", "blind", "provenance"}

// Sections are the parts of the page that WriteHTML writes, by SectionNames, for a
// page that renews them while the trial runs: in the same words and with the same
// classes, "" where there is nothing to tell. What somebody else chose is escaped.
// They are bounded: what is above 16 rules to ask for, 12 hosts of an endpoint, 100
// destinations in no list or 100 findings is but counted, and those that failed stand
// first.
func (r *Report) Sections() (map[string]template.HTML, error) {
	s, out := newLiveSheet(r), map[string]template.HTML{}
	empty := map[string]bool{"unlisted": len(s.Unlisted) == 0, "findings": len(s.Findings) == 0, "settings": s.Settings.Empty(), "blind": len(s.Blind) == 0}
	for _, name := range SectionNames {
		if empty[name] {
			out[name] = ""
			continue
		}
		var b bytes.Buffer
		if err := pageTemplate.ExecuteTemplate(&b, name, s); err != nil {
			return nil, fmt.Errorf("write section %q of the report: %w", name, err)
		}
		out[name] = template.HTML(b.String()) // html/template made it
	}
	return out, nil
}

// newLiveSheet lays out what has room of a trial that runs.
func newLiveSheet(r *Report) *sheet {
	few := *r
	if len(r.Unlisted) > liveUnlisted {
		few.Unlisted = slices.SortedStableFunc(slices.Values(r.Unlisted), func(a, b Unlisted) int {
			return bit(a.Outcome != string(Blocked)) - bit(b.Outcome != string(Blocked))
		})[:liveUnlisted]
	}
	few.Findings = r.Findings[:min(len(r.Findings), liveFindings)]
	s := newSheet(few.visible())
	s.most, s.Next = liveHosts, r.steps()
	s.Wanted, s.MoreWanted = s.Wanted[:min(len(s.Wanted), liveWanted)], max(0, len(r.wanted())-liveWanted)
	s.MoreUnlisted, s.MoreFindings = len(r.Unlisted)-len(few.Unlisted), len(r.Findings)-len(few.Findings)
	if t := r.Trial; t.Ended.IsZero() && !t.Started.IsZero() {
		s.When = "since " + t.Started.Format("2006-01-02 15:04:05") + " UTC"
		s.Word = strings.TrimSuffix(s.Word, ", and the trial has no end")
		if r.Verdict == CannotTell && !r.Incomplete { // time may mend it
			s.Word, s.Next = s.Word+" yet", []string{"Let the install run: this page follows it."}
		}
	}
	return s
}
