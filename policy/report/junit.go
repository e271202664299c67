package report

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// The shape is that of Ant's JUnit task, which CI servers read: the elements and
// attributes that its schema demands, and no others.
type (
	junitSuites struct {
		XMLName xml.Name      `xml:"testsuites"`
		Suites  []*junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Package    string          `xml:"package,attr"`
		ID         int             `xml:"id,attr"`
		Timestamp  string          `xml:"timestamp,attr"`
		Hostname   string          `xml:"hostname,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Skipped    int             `xml:"skipped,attr"`
		Time       string          `xml:"time,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
		Out        string          `xml:"system-out"`
		Err        string          `xml:"system-err"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Name    string       `xml:"name,attr"`
		Class   string       `xml:"classname,attr"`
		Time    string       `xml:"time,attr"`
		Skipped *junitSkip   `xml:"skipped"`
		Error   *junitResult `xml:"error"`
		Failure *junitResult `xml:"failure"`
	}
	junitSkip struct {
		Message string `xml:"message,attr"`
	}
	junitResult struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes the report as JUnit XML: one suite a catalog with one test
// case an endpoint, one suite for destinations in no list, and one with the case
// "verdict". An endpoint that is blocked or partial is a failure, as a
// destination in no list is; one that was reached or resolved only is an error;
// one that was bypassed or unused, or that does not count, is skipped. What
// cannot be cleared is an error of the case "verdict". The time of a case is
// from when it was first to when it was last seen, in seconds. Findings and blind
// spots stand in the output of the case "verdict". --fail-on has no say in it.
func (r *Report) WriteJUnit(w io.Writer) error {
	r = r.visible()
	out := junitSuites{Suites: []*junitSuite{r.verdictSuite()}}
	for _, g := range r.groups() {
		s := r.suite(g.Name, junitProperty{"revision", g.Revision}, junitProperty{"digest", g.Digest}, junitProperty{"page", g.Page.URL})
		for _, q := range g.Requirements {
			for _, e := range q.Endpoints {
				s.add(e.junit())
			}
		}
		out.Suites = append(out.Suites, s)
	}
	s := r.suite("in-no-list")
	for _, u := range r.Unlisted {
		s.add(u.junit())
	}
	out.Suites = append(out.Suites, s)
	for i, s := range out.Suites {
		s.ID = i
	}
	return writeXML(w, out)
}

func writeXML(w io.Writer, v any) error {
	b, err := xml.MarshalIndent(v, "", "  ")
	if err == nil {
		_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, b)
	}
	if err != nil {
		return fmt.Errorf("write report as JUnit XML: %w", err)
	}
	return nil
}

// suite is one without cases.
func (r *Report) suite(name string, properties ...junitProperty) *junitSuite {
	t := r.Trial
	s := &junitSuite{
		Name: cmp.Or(name, "unnamed"), Package: "egressaudit", Hostname: cmp.Or(t.Vantage, "localhost"),
		Timestamp: t.Started.UTC().Format("2006-01-02T15:04:05"), Time: lasting(t.Started, t.Ended),
	}
	s.Properties = slices.DeleteFunc(properties, func(p junitProperty) bool { return p.Value == "" })
	return s
}

// lasting is how long from..to is; 0 where either is unknown.
func lasting(from, to time.Time) string {
	if from.IsZero() || to.Before(from) {
		return "0"
	}
	return fmt.Sprintf("%.3f", to.Sub(from).Seconds())
}

func (s *junitSuite) add(c junitCase) {
	s.Cases = append(s.Cases, c)
	s.Tests++
	s.Failures += bit(c.Failure != nil)
	s.Errors += bit(c.Error != nil)
	s.Skipped += bit(c.Skipped != nil)
}

func (r *Report) verdictSuite() *junitSuite {
	s := r.suite("trial", junitProperty{"verdict", string(r.Verdict)}, junitProperty{"vantage", r.Trial.Vantage},
		junitProperty{"trial", r.Trial.Name}, junitProperty{"ledgers", list(r.Trial.Ledgers)}, junitProperty{"version", r.Version})
	c := junitCase{Name: "verdict", Class: "trial", Time: lasting(r.Trial.Started, r.Trial.Ended)}
	if len(r.Doubts) > 0 {
		c.Error = &junitResult{Message: "nothing can be cleared: " + r.Doubts[0], Type: string(CannotTell), Text: strings.Join(r.Doubts, "\n")}
	}
	s.add(c)
	lines := []string{r.Sentence()}
	for _, f := range r.Findings {
		lines = append(lines, string(f.Kind)+": "+f.Text)
	}
	s.Out = strings.Join(append(lines, r.BlindSpots...), "\n")
	return s
}

func (e endpointView) junit() junitCase {
	c := junitCase{
		Name: policy.JoinPort(e.Host, e.Port) + " (" + e.Requirement + ")", Class: e.Catalog + "." + e.Scope,
		Time: lasting(e.span()),
	}
	switch {
	case !e.Required && e.Status != Used:
		c.Skipped = &junitSkip{string(e.Status) + "; " + e.remark()}
	case e.Status == Blocked, e.Status == Partial:
		c.Failure = failureOf(e.Status, e.Cause)
	case e.Status == Reached, e.Status == Resolved:
		c.Error = &junitResult{Message: meaning[e.Status], Type: string(e.Status)}
	case e.Status != Used:
		c.Skipped = &junitSkip{joined("; ", string(e.Status)+": "+meaning[e.Status], e.remark())}
	}
	return c
}

func failureOf(s Status, c *Cause) *junitResult {
	if c == nil {
		return &junitResult{Message: string(s), Type: string(s)}
	}
	return &junitResult{Message: c.Ask, Type: cmp.Or(string(c.Error), string(s)), Text: string(s) + ": " + c.line()}
}

func (u Unlisted) junit() junitCase {
	c := junitCase{Name: target(u.Host, u.Port), Class: "in-no-list", Time: lasting(u.First, u.Last)}
	c.Failure = failureOf(Status(u.Outcome), u.Cause)
	if u.Cause == nil {
		c.Failure.Message = "in no list: " + u.Outcome + ", " + tried(u.Attempts, u.OK)
	}
	if u.Near != "" {
		c.Failure.Text = strings.TrimSpace(c.Failure.Text + "\nnear: " + u.Near)
	}
	return c
}
