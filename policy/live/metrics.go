package live

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/report"
)

// Metric is a number that is read whenever somebody asks for it.
type Metric struct {
	Name  string // without the leading "egressaudit_"
	Help  string
	Grows bool // a counter, else a gauge
	Value func() float64
}

const namespace = "egressaudit"

// counts are the observations so far, by what became of them.
type counts struct {
	registry *prometheus.Registry
	seen     map[policy.Kind]*prometheus.CounterVec
	probes   *prometheus.CounterVec
}

// What our own handshakes ended in.
const (
	probeTrusted   = "trusted"   // signed by somebody the public trusts
	probeUntrusted = "untrusted" // by somebody else: an inspecting device, mostly
	probeFailed    = "failed"    // no certificate was seen
)

func newCounts(metrics []Metric) *counts {
	c := &counts{registry: prometheus.NewRegistry(), seen: map[policy.Kind]*prometheus.CounterVec{}}
	c.probes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "certificate_probes_total", Help: "Handshakes of our own to see who signed a certificate, by what they showed.",
	}, []string{"result"})
	c.registry.MustRegister(c.probes)
	for _, result := range []string{probeTrusted, probeUntrusted, probeFailed} {
		c.probes.WithLabelValues(result) // 0, so that the first one is an increase
	}
	for kind, what := range map[policy.Kind]string{
		policy.KindConnection: "connections", policy.KindRequest: "requests", policy.KindQuery: "queries",
	} {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: what + "_total", Help: "Client " + what + " that ended, by outcome (status), how far they got, and what went wrong.",
		}, []string{"status", "stage", "error"})
		c.seen[kind] = v
		c.registry.MustRegister(v)
	}
	for _, m := range metrics {
		o := prometheus.Opts{Namespace: namespace, Name: m.Name, Help: m.Help}
		if m.Grows {
			c.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts(o), m.Value))
		} else {
			c.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts(o), m.Value))
		}
	}
	c.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return c
}

// Observe counts o: a client's, unless it is interim, and our own certificate probes.
func (s *Server) Observe(o *policy.Observation) {
	if o.Origin == policy.OriginProbe {
		s.counts.probes.WithLabelValues(probed(o)).Inc()
		return
	}
	if o.Open || o.Origin != "" && o.Origin != policy.OriginClient {
		return
	}
	if v := s.counts.seen[o.Kind]; v != nil {
		v.WithLabelValues(string(o.Outcome), string(o.Stage), string(o.Error)).Inc()
	}
}

// probed is what a handshake of our own showed.
func probed(o *policy.Observation) string {
	switch {
	case o.Outcome != policy.OK:
		return probeFailed
	case o.Detail["trusted"] == true:
		return probeTrusted
	}
	return probeUntrusted
}

// verdicts is how the recording stands, from the report engine behind the page. While
// the recording is still being read, or can no longer be, there are no such figures: a
// 0 would be an all-clear that nobody has checked.
type verdicts struct {
	server                                    *Server
	ready, live, endpoints, unlisted, verdict *prometheus.Desc
}

func newVerdicts(s *Server) *verdicts {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
	}
	return &verdicts{
		server:    s,
		ready:     desc("ready", "1 while /readyz says 200. Lost records do not make it 0: see ledger_lost_total."),
		live:      desc("recording_read", "1 while the figures of endpoints, unlisted destinations and verdict are of the whole recording; else there are none."),
		endpoints: desc("endpoints", "Required endpoints, by what the recording says of them so far.", "status"),
		unlisted:  desc("unlisted_destinations", "Destinations that were tried and stand in no catalog."),
		verdict:   desc("verdict", "1 for what a report would say now, 0 for the rest. Records lost make it cannot-tell at best.", "verdict"),
	}
}

// Describe implements prometheus.Collector.
func (v *verdicts) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{v.ready, v.live, v.endpoints, v.unlisted, v.verdict} {
		to <- d
	}
}

// Collect implements prometheus.Collector. The first one has the recording read.
func (v *verdicts) Collect(to chan<- prometheus.Metric) {
	tell := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	tell(v.ready, one(v.server.config.Ready() == nil))
	r := v.server.standing()
	tell(v.live, one(r != nil))
	if r == nil {
		return
	}
	sum := map[report.Status]int{report.Used: 0, report.Partial: 0, report.Blocked: 0, report.Reached: 0, report.Resolved: 0, report.Bypassed: 0, report.Unused: 0}
	for _, e := range r.Endpoints {
		if e.Required {
			sum[e.Status]++
		}
	}
	for status, n := range sum {
		tell(v.endpoints, float64(n), string(status))
	}
	tell(v.unlisted, float64(len(r.Unlisted)))
	for _, verdict := range []report.Verdict{report.Clear, report.Gaps, report.CannotTell} {
		tell(v.verdict, one(r.Verdict == verdict), string(verdict))
	}
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// standing is the report as of a second ago at most; nil where none can be made of
// the whole recording.
func (s *Server) standing() *report.Report {
	b := s.board()
	b.mu.Lock()
	state := b.standing().State
	b.mu.Unlock()
	if state != "live" {
		return nil
	}
	r, _, err := b.report()
	if err != nil {
		return nil
	}
	return r
}

func (c *counts) handler() http.Handler {
	return promhttp.HandlerFor(c.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}
