package main

import (
	"errors"
	"fmt"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/live"
	"github.com/egressaudit/egressaudit/policy/workload"
)

// nodeVariable is where the node's name stands in the environment, by the downward
// API (spec.nodeName).
const nodeVariable = "EGRESSAUDIT_NODE"

// workloadFlags say whether clients are named by Kubernetes.
type workloadFlags struct {
	kubernetes bool
	kubeconfig string
}

func (f *workloadFlags) register(c *cobra.Command) {
	group(c, "Who it was", func(s *pflag.FlagSet) {
		s.BoolVar(&f.kubernetes, "kubernetes", false, "name the pod or node behind each client, and record events of pods; reads pods and events of the cluster that serve runs in ("+nodeVariable+" is its node)")
		s.StringVar(&f.kubeconfig, "kubeconfig", "", "`FILE` that says how to reach the cluster for --kubernetes, where serve runs outside (default none: inside)")
	})
}

// connect reads how to reach the cluster; nil where nobody asked for it.
func (f *workloadFlags) connect() (*workload.API, error) {
	if !f.kubernetes {
		if f.kubeconfig != "" {
			return nil, fmt.Errorf("--kubeconfig: it does nothing without --kubernetes (add --kubernetes, or leave it out)")
		}
		return nil, nil
	}
	api, err := workload.Connect(f.kubeconfig, "egressaudit/"+version())
	switch {
	case errors.Is(err, workload.ErrNotInside):
		return nil, hinted(fmt.Errorf("--kubernetes: %w", err), "name a kubeconfig: --kubernetes --kubeconfig FILE")
	case err != nil && f.kubeconfig == "":
		return nil, hinted(fmt.Errorf("--kubernetes: %w", err), "give the pod a service account token: automountServiceAccountToken: true")
	case err != nil:
		return nil, fmt.Errorf("--kubernetes: %w", err)
	}
	return &api, nil
}

// naming names the clients of a trial; the zero one names nobody.
type naming struct{ *workload.Cluster }

// follow begins to name clients.
func (t *trial) follow(api *workload.API, node string, log zerolog.Logger) {
	if api != nil {
		t.cluster.Cluster = workload.Watch(*api, workload.Config{
			Sink: t.record, Event: t.ledger.Event, Self: workload.Here(node), Log: log,
		})
	}
}

// sink takes what sensors observe.
func (t *trial) sink(o *policy.Observation) error {
	if t.cluster.Cluster == nil {
		return t.record(o)
	}
	return t.cluster.Observe(o)
}

// end hands on what still waits, and says who could not be named.
func (c naming) end() (blind []string) {
	if c.Cluster == nil {
		return nil
	}
	c.Close()
	return c.BlindSpots()
}

// metrics are the figures of naming.
func (c naming) metrics() []live.Metric {
	if c.Cluster == nil {
		return nil
	}
	return []live.Metric{
		{Name: "kubernetes_watched", Help: "1 while the pods of the cluster can be watched, so that clients have names.", Value: func() float64 {
			if c.Known() {
				return 1
			}
			return 0
		}},
		{Name: "kubernetes_waiting", Help: "Observations that wait for the name of their client.", Value: func() float64 { return float64(c.Waiting()) }},
	}
}
