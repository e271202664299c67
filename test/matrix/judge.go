package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// report is what the matrix reads of egressaudit's, after contract section 5.
type report struct {
	Verdict   string                        `json:"verdict"`
	Endpoints []endpoint                    `json:"endpoints"`
	Unlisted  []endpoint                    `json:"unlisted"`
	Findings  []struct{ Kind, Text string } `json:"findings"`
}

type endpoint struct {
	Host   string `json:"host"`
	Port   uint16 `json:"port"`
	Status string `json:"status"`
	Cause  struct {
		Stage, Error, By, Confidence, Ask string
		Detail                            map[string]any
	} `json:"cause"`
	Hosts []host `json:"hosts"`

	Outcome  string `json:"outcome"`  // of an unlisted one
	Attempts int    `json:"attempts"` // of an unlisted one
}

// finds says whether a finding of that kind names the host.
func (r *report) finds(kind, host string) bool {
	for _, f := range r.Findings {
		if f.Kind == kind && strings.Contains(f.Text, host) {
			return true
		}
	}
	return false
}

// host is a concrete host of an endpoint.
type host struct{ Attempts, OK, Failed int }

// find is what the report says of a cell.
func (r *report) find(c *cell) (endpoint, bool) {
	from := r.Endpoints
	if c.unlisted {
		from = r.Unlisted
	}
	i := slices.IndexFunc(from, func(e endpoint) bool { return e.Host == c.host && e.Port == c.port })
	if i < 0 {
		return endpoint{}, false
	}
	e := from[i]
	if c.unlisted {
		e.Status = "unlisted " + e.Outcome
		e.Hosts = []host{{Attempts: e.Attempts}}
	}
	return e, true
}

func readReport(text []byte) (*report, error) {
	r := &report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return r, nil
}

// whole says whether the report as a whole is right: no endpoint was missed, and
// nothing was seen that the matrix did not do.
func (r *report) whole(cells []*cell) error {
	verdict, listed, unlisted := "clear", 0, 0
	for _, c := range cells {
		switch {
		case c.want.status == "reached" && verdict == "clear":
			verdict = "cannot-tell"
		case c.want.status != "reached" && c.want.status != "used":
			verdict = "gaps"
		}
		if c.unlisted {
			unlisted++
		} else {
			listed++
		}
		if c.beside {
			listed++
		}
	}
	switch {
	case len(r.Endpoints) != listed:
		return fmt.Errorf("report: %d endpoints for %d cells", len(r.Endpoints), listed)
	case r.Verdict != verdict:
		return fmt.Errorf("report: verdict %q instead of %q", r.Verdict, verdict)
	case len(r.Unlisted) != unlisted:
		return fmt.Errorf("report: %d destinations are called unlisted, %q the first, instead of %d", len(r.Unlisted), r.Unlisted[0].Host, unlisted)
	}
	return nil
}

// result is what became of a cell.
type result struct {
	cell *cell
	got  verdict  // as the report says it
	off  []string // what is wrong; empty: nothing
}

// judge holds one cell against the report; met is what its client met.
func judge(c *cell, r *report, met error) result {
	res := result{cell: c, got: verdict{status: "absent"}}
	if r == nil || errors.Is(met, errNotRun) {
		res.off = append(res.off, fmt.Sprintf("did not run: %v", met))
		return res
	}
	e, ok := r.find(c)
	if !ok {
		res.off = append(res.off, "is not in the report")
		return res
	}
	res.got = verdict{status: e.Status, stage: e.Cause.Stage, error: e.Cause.Error, by: e.Cause.By, confidence: e.Cause.Confidence}
	res.compare(e)
	res.check(e, met)
	if intercepted := r.finds("tls_intercepted", c.host); intercepted != (c.want.finding != "") {
		res.wrong("finding tls_intercepted: %t", intercepted)
	}
	return res
}

func (r *result) wrong(format string, args ...any) {
	r.off = append(r.off, fmt.Sprintf(format, args...))
}

func (r *result) compare(e endpoint) {
	if stages := strings.Split(r.cell.want.stage, " or "); slices.Contains(stages, r.got.stage) {
		r.cell.want.stage = r.got.stage
	}
	want, got := r.cell.want, r.got
	for _, f := range [][3]string{
		{"status", got.status, want.status}, {"stage", got.stage, want.stage}, {"error", got.error, want.error},
		{"by", got.by, want.by}, {"confidence", got.confidence, want.confidence},
	} {
		if f[1] != f[2] {
			r.wrong("%s is %q, not %q", f[0], f[1], f[2])
		}
	}
	for name, value := range want.detail {
		switch v, ok := e.Cause.Detail[name]; {
		case !ok:
			r.wrong("detail has no %s", name)
		case value != "?" && fmt.Sprint(v) != value:
			r.wrong("detail.%s is %v, not %s", name, v, value)
		}
	}
}

// check holds the ask, the count, and what the client met, against the cell.
func (r *result) check(e endpoint, met error) {
	c, ask := r.cell, e.Cause.Ask
	words := slices.Clone(c.want.ask)
	blamed := c.want.status != "used" && c.want.status != "reached"
	if blamed {
		words = append(words, c.host)
		if c.want.by == "network" || c.want.by == "parent" {
			words = append(words, fmt.Sprintf("port %d", c.port))
		}
	}
	if sides[c.through].address != "" && blamed && c.want.stage != "handshake" && c.want.by != "client" {
		words = append(words, sides[c.through].address)
	}
	for _, w := range words {
		if !strings.Contains(ask, w) && c.want.key != "loop" {
			r.wrong("ask does not say %q: %s", w, ask)
		}
	}
	if p := sides[c.through]; p.user != "" && strings.Contains(ask, "s3cret") {
		r.wrong("ask gives the password away: %s", ask)
	}
	several := c.cause == "parent-loop" || c.direct && c.want.stage == "resolve" // a client asks as often as it likes
	if n := len(e.Hosts); n != 1 || e.Hosts[0].Attempts != 1 && !several {
		r.wrong("%d hosts, attempts %+v, instead of one attempt", n, e.Hosts)
	}
	switch content := met == nil; {
	case c.want.status == "used" && !c.dies && !content:
		r.wrong("the client failed: %v", met)
	case c.want.status != "used" && !c.get && !c.lives && content && c.want.stage != "data":
		r.wrong("the client was content")
	}
	if len(r.off) > 0 && met != nil {
		r.wrong("(client: %.160v)", met)
	}
}

// confusion prints what the lab did against what the report says.
func confusion(out io.Writer, results []result) {
	var labels []string
	count := map[[2]string]int{}
	note := func(l string) {
		if !slices.Contains(labels, l) {
			labels = append(labels, l)
		}
	}
	for _, r := range results {
		note(r.cell.want.label())
		count[[2]string{r.cell.want.label(), r.got.label()}]++
	}
	slices.Sort(labels)
	for _, r := range results {
		note(r.got.label())
	}
	fmt.Fprintf(out, "rows: what the lab did; columns: what the report says\n%75s", "")
	for i := range labels {
		fmt.Fprintf(out, "%4d", i+1)
	}
	for i, row := range labels {
		fmt.Fprintf(out, "\n%2d %-72s", i+1, row)
		for _, column := range labels {
			if n := count[[2]string{row, column}]; n > 0 {
				fmt.Fprintf(out, "%4d", n)
			} else {
				fmt.Fprintf(out, "%4s", "·")
			}
		}
	}
	fmt.Fprintln(out)
}
