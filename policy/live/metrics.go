package live

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/egressaudit/egressaudit/policy"
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
}

func newCounts(metrics []Metric) *counts {
	c := &counts{registry: prometheus.NewRegistry(), seen: map[policy.Kind]*prometheus.CounterVec{}}
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

// Observe counts o, unless it is interim or not a client's.
func (s *Server) Observe(o *policy.Observation) {
	if o.Open || o.Origin != "" && o.Origin != policy.OriginClient {
		return
	}
	if v := s.counts.seen[o.Kind]; v != nil {
		v.WithLabelValues(string(o.Outcome), string(o.Stage), string(o.Error)).Inc()
	}
}

func (c *counts) handler() http.Handler {
	return promhttp.HandlerFor(c.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}
