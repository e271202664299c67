package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/egressaudit/egressaudit/policy"
)

func newExplain(env environ) *cobra.Command {
	var r required
	c := &cobra.Command{
		Use:   "explain [flags] HOST[:PORT]",
		Short: "Which endpoints match, which nearly do, and why not",
		Long: `explain says which endpoints of the catalogs a host and port meet, and where it
meets none, which it nearly meets and why not. The port is 443 where none is
given.

Exit status: 0 something matches, 1 nothing does, 2 trouble.`,
		Example: `  egressaudit explain cdn03.quay.io
  egressaudit explain --region eastus eastus.obo.arc.azure.com:8084`,
		Args: wants(1, "one HOST[:PORT]"),
		RunE: func(c *cobra.Command, args []string) error {
			catalogs, err := r.load()
			if err != nil {
				return err
			}
			name, port, err := hostPort(args[0])
			if err != nil {
				return err
			}
			return whole(env.stdout, func(w io.Writer) error {
				if !explain(w, policy.NewIndex(catalogs...), name, port) {
					return exit(exitGap)
				}
				return nil
			})
		},
	}
	r.register(c, "")
	return c
}

// hostPort reads HOST[:PORT].
func hostPort(s string) (policy.Name, uint16, error) {
	n, err := policy.ParseName(s)
	if err == nil || !strings.Contains(s, ":") {
		return n, 443, err
	}
	return policy.ParseTarget(s)
}

// explain prints what is known of a host, and says whether a catalog lists it.
func explain(w io.Writer, x *policy.Index, n policy.Name, port uint16) bool {
	at := policy.JoinPort(n.String(), port)
	found := x.Match(nil, n, port)
	if len(found) == 0 {
		fmt.Fprintf(w, "%s is in no catalog\n", at)
	} else {
		fmt.Fprintf(w, "%s matches\n", at)
	}
	counts := map[*policy.Endpoint]bool{}
	for _, e := range x.Best(nil, n, port) {
		counts[e] = true
	}
	for _, e := range found {
		note := ""
		if !counts[e] {
			note = " (a more specific endpoint of that catalog counts instead)"
		}
		fmt.Fprintf(w, "  %s  %s, %s, scope %s: %s%s\n", e, e.Catalog.Name, e.Requirement.ID, e.Requirement.Scope, e.Requirement.Purpose, note)
		if needs := e.Requirement.Needs; len(needs) > 0 {
			words := make([]string, len(needs))
			for i, need := range needs {
				words[i] = string(need)
			}
			fmt.Fprintf(w, "    needs %s\n", strings.Join(words, ", "))
		}
	}
	if near := x.Near(n, port); len(near) > 0 && len(found) == 0 {
		fmt.Fprintln(w, "near it:")
		for _, e := range near {
			fmt.Fprintf(w, "  %s  %s, %s: %s\n", e.Endpoint, e.Endpoint.Catalog.Name, e.Endpoint.Requirement.ID, e.Why)
		}
	}
	return len(found) > 0
}
