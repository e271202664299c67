package report

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// Bounds of what is kept of a text and of a record's detail.
const (
	maxText   = 300
	maxFacts  = 32
	maxInList = 16
)

// short is s, cut to what is kept of a text. It is for comparing; keep is for
// keeping.
func short(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "..."
}

// words are texts that records repeat; keeping one of them costs nothing.
var words = func() map[string]string {
	out := map[string]string{}
	for _, w := range strings.Fields("ok failed denied abandoned client probe check A AAAA present absent ech not_tls" +
		" resolver network parent origin self certain likely guess connect http redirect tproxy") {
		out[w] = w
	}
	for _, r := range asks {
		out[string(r.stage)] = string(r.stage)
		out[string(r.error)] = string(r.error)
	}
	return out
}()

// keep is a copy of s, so that no line of a ledger stays in memory for it.
func keep(s string) string {
	if w, ok := words[s]; ok {
		return w
	}
	return strings.Clone(short(s))
}

func keepVerdict(v policy.Verdict) policy.Verdict {
	return policy.Verdict{
		Outcome:    policy.Outcome(keep(string(v.Outcome))),
		Stage:      policy.Stage(keep(string(v.Stage))),
		Error:      policy.Error(keep(string(v.Error))),
		By:         policy.By(keep(string(v.By))),
		Confidence: policy.Confidence(keep(string(v.Confidence))),
	}
}

// keepDetail is a bounded copy of d.
func keepDetail(d map[string]any) map[string]any {
	if len(d) == 0 {
		return nil
	}
	out := make(map[string]any, min(len(d), maxFacts))
	if len(d) <= maxFacts {
		for k, v := range d {
			out[keep(k)] = keepFact(v)
		}
		return out
	}
	for _, k := range slices.Sorted(maps.Keys(d))[:maxFacts] { // the same ones each time
		out[keep(k)] = keepFact(d[k])
	}
	return out
}

func keepFact(v any) any {
	switch v := v.(type) {
	case nil, bool, int, int64, uint64:
		return v
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Sprint(v)
		}
		return v
	case string:
		return keep(v)
	case json.Number:
		if len(v) <= maxText && json.Valid([]byte(v)) {
			return json.Number(strings.Clone(string(v)))
		}
		return keep(string(v))
	case []string:
		out := make([]string, 0, min(len(v), maxInList))
		for _, s := range v[:min(len(v), maxInList)] {
			out = append(out, keep(s))
		}
		return out
	case []any:
		out := make([]any, 0, min(len(v), maxInList))
		for _, e := range v[:min(len(v), maxInList)] {
			if s, ok := e.([]any); ok {
				e = fmt.Sprint(len(s)) + " entries"
			}
			out = append(out, keepFact(e))
		}
		return out
	}
	return keep(fmt.Sprint(v))
}

// keepObservation is a copy of what the book reads of o.
func keepObservation(o *policy.Observation) *policy.Observation {
	return &policy.Observation{
		ID: keep(o.ID), Open: o.Open, Origin: policy.Origin(keep(string(o.Origin))), Listener: keep(o.Listener),
		Workload: keep(o.Workload), Asked: keep(o.Asked), SNI: keep(o.SNI), SNIState: policy.SNIState(keep(string(o.SNIState))),
		Resolved: keep(o.Resolved), Name: keep(o.Name), Host: keep(o.Host), Port: o.Port, Client: o.Client, Address: o.Address, Protocol: keep(o.Protocol),
		Type: keep(o.Type), RCode: keep(o.RCode), Upstream: keep(o.Upstream), Verdict: keepVerdict(o.Verdict),
		Answers: slices.Clone(o.Answers), Detail: keepDetail(o.Detail), BytesUp: o.BytesUp, BytesDown: o.BytesDown,
	}
}

// fact is one fact of a detail as text, "" where it is missing.
func fact(d map[string]any, name string) string {
	switch v := d[name].(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []string:
		return strings.Join(v, ", ")
	case []any:
		out := make([]string, len(v))
		for i, e := range v {
			out[i] = fmt.Sprint(e)
		}
		return strings.Join(out, ", ")
	default:
		return fmt.Sprint(v)
	}
}
