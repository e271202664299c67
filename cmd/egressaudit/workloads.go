package main

import (
	"errors"
	"fmt"

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
	own        []string
}

func (f *workloadFlags) register(c *cobra.Command) {
	group(c, "Who it was", func(s *pflag.FlagSet) {
		s.BoolVar(&f.kubernetes, "kubernetes", false, "name the pod or node behind each client, and record events of pods; reads pods and events of the cluster that serve runs in ("+nodeVariable+" is its node)")
		s.StringVar(&f.kubeconfig, "kubeconfig", "", "`FILE` that says how to reach the cluster for --kubernetes, where serve runs outside (default none: inside)")
		s.StringArrayVar(&f.own, "own-pods", nil, "`NAMESPACE/SELECTOR` of pods that are proxies of ours: the rules of --nftables leave alone what they send; needs --kubernetes; repeatable (default none)")
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

// ours reads which pods the rules of --nftables leave alone.
func (f *workloadFlags) ours(nftables bool) (list []workload.Selection, err error) {
	switch {
	case len(f.own) > 0 && !f.kubernetes:
		return nil, errors.New("--own-pods: only the cluster says which they are (add --kubernetes, or leave it out)")
	case len(f.own) > 0 && !nftables:
		return nil, errors.New("--own-pods: it does nothing without --nftables, whose rules leave them alone (add it, or leave this out)")
	}
	for _, text := range f.own {
		s, err := workload.ParseSelection(text)
		if err != nil {
			return nil, fmt.Errorf("--own-pods %w", err)
		}
		list = append(list, s)
	}
	return list, nil
}

// naming names the clients of a trial; the zero one names nobody.
type naming struct{ *workload.Cluster }

// follow begins to name clients.
func (t *trial) follow(s settings, node string) {
	if s.api == nil {
		return
	}
	c := workload.Config{Sink: t.record, Event: t.ledger.Event, Self: workload.Here(node), Select: s.ours, Log: s.log}
	if len(s.ours) > 0 {
		t.captures.own = newOwnPods(s.log)
		c.Selected = t.captures.own.leave
	}
	t.cluster.Cluster = workload.Watch(*s.api, c)
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
