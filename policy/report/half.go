package report

import (
	"fmt"
	"slices"
	"strings"
)

// requirement names one row of a catalog.
type requirement struct{ catalog, id string }

// halves tells, for each requirement of which some hosts work and others do not,
// which is which: a registry that answers while the hosts of its blobs are
// blocked looks well to whoever only tries its name.
func (r *Report) halves() map[requirement]string {
	all := map[requirement][]Endpoint{}
	for _, e := range r.Endpoints {
		k := requirement{e.Catalog, e.Requirement}
		all[k] = append(all[k], e)
	}
	out := map[requirement]string{}
	for k, endpoints := range all {
		if s := half(endpoints); s != "" {
			out[k] = s
		}
	}
	return out
}

// half is the sentence for the endpoints of one requirement; "" where all work
// or none does.
func half(endpoints []Endpoint) string {
	var good, bad []string
	front, blobs := false, true // the first endpoint works; only others do not
	for i, e := range endpoints {
		for _, h := range e.Hosts {
			switch {
			case h.State == Used:
				good, front = append(good, h.Host), front || i == 0
			case h.State == Blocked:
				bad, blobs = append(bad, h.Host), blobs && i > 0
			}
		}
	}
	if len(good) == 0 || len(bad) == 0 {
		return ""
	}
	what := ""
	if front && blobs && stores(endpoints[0]) {
		what = plural(uint64(len(bad)), "its blob host ", "its blob hosts ")
	}
	return fmt.Sprintf("half of it works: %s %s, %s%s %s not", escapedList(good, 3), plural(uint64(len(good)), "answers", "answer"),
		what, escapedList(bad, 3), plural(uint64(len(bad)), "does", "do"))
}

// stores says whether e belongs to a registry, by its purpose: the first of its
// hosts is then the registry, and the others have the blobs.
func stores(e Endpoint) bool {
	text := strings.ToLower(e.Requirement + " " + e.Purpose)
	return slices.ContainsFunc([]string{"image", "registry", "chart", "layer", "blob", "container"}, func(w string) bool { return strings.Contains(text, w) })
}
