package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// report is what is read of egressaudit's, after contract section 5.
type report struct {
	Verdict    string
	Trial      struct{ Phases []string }
	Endpoints  []endpoint
	Unlisted   []unlisted
	Findings   []struct{ Kind, Text string }
	BlindSpots []string `json:"blind_spots"`
}

type endpoint struct {
	Catalog, Requirement, Host, Status string
	Port                               uint16
	Cause                              *cause
	Hosts                              []host
	Events                             []event
}

// event is of a pod, and names the endpoint that it stands beside.
type event struct{ Workload, Text string }

type host struct {
	Host      string
	Workloads []string
}

type unlisted struct {
	Host, Outcome string
	Port          uint16
	Workloads     []string
}

// cause is how something is blocked.
type cause struct {
	Stage, Error, By, Confidence string
	Detail                       map[string]any
}

// causes are what contract section 3 says of the faults; of these is the detail
// that must be there.
var causes = map[fault]cause{
	noName:        {"resolve", "dns_error", "resolver", "likely", map[string]any{"rcode": "NXDOMAIN"}},
	serverFailure: {"resolve", "dns_error", "resolver", "certain", map[string]any{"rcode": "SERVFAIL"}},
	sinkhole:      {"resolve", "dns_sinkhole", "resolver", "certain", nil},
	dropped:       {"connect", "connection_timeout", "network", "certain", nil},
	refused:       {"connect", "connection_refused", "network", "certain", nil},
	prohibited:    {"connect", "destination_ip_unroutable", "network", "certain", nil},
	nameReset:     {"hello", "connection_terminated", "network", "certain", map[string]any{"close": "rst"}},
	nameSilent:    {"hello", "connection_read_timeout", "network", "certain", nil},
	parentDenied:  {"parent", "parent_denied", "parent", "certain", map[string]any{"status": 403.0}},
}

// mistakes are what of the report is not so.
type mistakes struct{ list []string }

func (m *mistakes) Error() string {
	return fmt.Sprintf("cluster: the report is wrong:\n  %s", strings.Join(m.list, "\n  "))
}

func (m *mistakes) add(format string, args ...any) {
	m.list = append(m.list, fmt.Sprintf(format, args...))
}

// same notes where got is not want.
func (m *mistakes) same(what string, got, want any) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		m.add("%s: %v instead of %v", what, got, want)
	}
}

// judge makes the report of all ledgers and holds it against the truth.
func (l *lab) judge() error {
	ledgers, err := filepath.Glob(l.dir + "/[lg][ea]*/*.jsonl")
	if err != nil || len(ledgers) == 0 {
		return fmt.Errorf("no ledger in %q", l.dir)
	}
	var out, errs bytes.Buffer
	c := exec.Command(l.program, append([]string{"report", "--format", "json"}, ledgers...)...)
	c.Stdout, c.Stderr = &out, &errs
	var gaps *exec.ExitError
	if err := c.Run(); !errors.As(err, &gaps) || gaps.ExitCode() != 1 {
		return fmt.Errorf("egressaudit report: %v instead of exit status 1: %s", err, &errs)
	}
	if err := os.WriteFile(l.dir+"/report.json", out.Bytes(), 0o644); err != nil {
		return err
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return fmt.Errorf("egressaudit report: %w: %s", err, &errs)
	}
	strays, err := l.wires.astray()
	if err != nil {
		return err
	}
	m := &mistakes{}
	m.same("what went out though the script sent nothing there", strays, "")
	compare(m, l.truth.deeds, &r)
	if err := l.records(m, ledgers); err != nil {
		return err
	}
	if len(m.list) > 0 {
		return m
	}
	fmt.Fprintf(l.steps.out, "cluster: %d deeds, %d endpoints, %d unlisted, %d findings: the report says what the script did\n", len(l.truth.deeds), len(r.Endpoints), len(r.Unlisted), len(r.Findings))
	return nil
}

// compare holds a report against the deeds.
func compare(m *mistakes, deeds []deed, r *report) {
	visited := map[string][]deed{} // by catalog and pattern
	listed := map[string]bool{}
	for _, d := range deeds {
		m.same(fmt.Sprintf("client of %s (%s)", d.Host, d.Fault), d.OK, d.Fault == works)
		for _, e := range match(r.Endpoints, d) {
			visited[e] = append(visited[e], d)
			listed[d.Host] = true
		}
	}
	for _, e := range r.Endpoints {
		compareEndpoint(m, e, visited[key(e)])
	}
	compareUnlisted(m, r.Unlisted, slices.DeleteFunc(slices.Clone(deeds), func(d deed) bool { return listed[d.Host] }))
	compareFindings(m, r, deeds)
	m.same("verdict", r.Verdict, "gaps")
	for _, b := range r.BlindSpots {
		for _, word := range []string{"damaged", "lost", "canary", "running", "went by", "not known"} {
			if strings.Contains(b, word) {
				m.add("blind spot: %s", b)
			}
		}
	}
	var names []string
	for _, p := range phases {
		names = append(names, p.name)
	}
	m.same("phases", r.Trial.Phases, names)
}

func key(e endpoint) string { return fmt.Sprintf("%s %s:%d", e.Catalog, e.Host, e.Port) }

// match are the keys of the endpoints that a deed's destination belongs to: of each
// catalog the most specific, which is the pattern with the most letters that are
// its own.
func match(all []endpoint, d deed) []string {
	best := map[string]endpoint{}
	for _, e := range all {
		if e.Port != d.Port || !covers(e.Host, d.Host) {
			continue
		}
		if b, ok := best[e.Catalog]; !ok || weight(e.Host) > weight(b.Host) {
			best[e.Catalog] = e
		}
	}
	var keys []string
	for _, e := range best {
		keys = append(keys, key(e))
	}
	return keys
}

// covers says whether a pattern of the catalogs in force stands for a host.
func covers(pattern, host string) bool {
	if strings.HasPrefix(pattern, "*.") && !strings.Contains(pattern, "<region>") {
		return strings.HasSuffix(host, pattern[1:])
	}
	if rest, ok := strings.CutPrefix(pattern, "*."); ok {
		return strings.HasSuffix(host, "."+strings.ReplaceAll(rest, "<region>", "eastus"))
	}
	return strings.ReplaceAll(pattern, "<region>", "eastus") == host
}

func weight(pattern string) int {
	if strings.HasPrefix(pattern, "*.") {
		return len(pattern)
	}
	return 1000 + len(pattern)
}

// compareEndpoint holds an endpoint against the deeds at it.
func compareEndpoint(m *mistakes, e endpoint, deeds []deed) {
	name := key(e)
	status, bad := expected(deeds)
	m.same(name, e.Status, status)
	if bad != "" && e.Cause == nil {
		m.add("%s: no cause", name)
	} else if bad != "" {
		compareCause(m, name, *e.Cause, causes[bad])
	}
	for _, d := range deeds {
		if d.For != "" && !slices.ContainsFunc(e.Events, func(v event) bool { return v.Workload == d.For && strings.Contains(v.Text, d.Host) }) {
			m.add("%s: no event of %s that names %s beside it: %+v", name, d.For, d.Host, e.Events)
		}
	}
	if status != "resolved" && status != "unused" {
		compareHosts(m, name, e.Hosts, deeds)
	}
}

// expected is the status that an endpoint must have after these deeds, and the fault
// that is its cause, if there is one.
func expected(deeds []deed) (status string, bad fault) {
	status = "unused"
	for _, d := range deeds {
		switch {
		case d.Around:
			if status == "unused" {
				status = "resolved"
			}
		case d.Fault != works:
			bad = d.Fault
		default:
			status = "used"
		}
	}
	switch {
	case bad != "" && status == "used":
		status = "partial"
	case bad != "":
		status = "blocked"
	}
	return status, bad
}

// compareHosts: who called which host of an endpoint.
func compareHosts(m *mistakes, name string, got []host, deeds []deed) {
	who, seen := map[string]map[string]bool{}, map[string]bool{}
	for _, d := range deeds {
		if d.Around {
			continue
		}
		if who[d.Host] == nil {
			who[d.Host] = map[string]bool{}
		}
		who[d.Host][d.Who] = true
	}
	for _, h := range got {
		seen[h.Host] = true
		m.same(name+": workloads of "+h.Host, slices.Sorted(slices.Values(h.Workloads)), slices.Sorted(maps.Keys(who[h.Host])))
	}
	m.same(name+": hosts", slices.Sorted(maps.Keys(seen)), slices.Sorted(maps.Keys(who)))
}

func compareCause(m *mistakes, name string, got, want cause) {
	m.same(name+": cause", []string{got.Stage, got.Error, got.By, got.Confidence}, []string{want.Stage, want.Error, want.By, want.Confidence})
	for k, v := range want.Detail {
		m.same(name+": detail."+k, got.Detail[k], v)
	}
}

// compareUnlisted holds what is unlisted against the deeds that no endpoint covers.
func compareUnlisted(m *mistakes, got []unlisted, deeds []deed) {
	want, say := map[string]bool{}, map[string]bool{}
	for _, d := range deeds {
		outcome := "worked"
		if d.Fault != works {
			outcome = "blocked"
		}
		want[fmt.Sprintf("%s:%d %s %s", d.Host, d.Port, outcome, []string{d.Who})] = true
	}
	for _, u := range got {
		say[fmt.Sprintf("%s:%d %s %s", u.Host, u.Port, u.Outcome, u.Workloads)] = true
	}
	m.same("unlisted", slices.Sorted(maps.Keys(say)), slices.Sorted(maps.Keys(want)))
}

// compareFindings: those that go around egressaudit are named with their owner, and
// nothing else is found.
func compareFindings(m *mistakes, r *report, deeds []deed) {
	around := map[string]string{}
	for _, d := range deeds {
		if d.Around {
			around[d.Who] = d.Owner
		}
	}
	for _, f := range r.Findings {
		known := false
		for who, owner := range around {
			if f.Kind == "bypass" && strings.Contains(f.Text, who) && strings.Contains(f.Text, owner) {
				delete(around, who)
				known = true
			}
		}
		if !known {
			m.add("finding %s: %s", f.Kind, f.Text)
		}
	}
	for who, owner := range around {
		m.add("no finding says that %s (%s) goes around us", who, owner)
	}
}
