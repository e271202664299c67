package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
)

// record is what is read of a ledger's, after contract section 4.
type record struct {
	Kind, Workload string
	Detail         map[string]any
}

// records holds the ledgers against the deeds: every record of a pod has its owner
// and its service account.
func (l *lab) records(m *mistakes, ledgers []string) error {
	owners := map[string]map[string]bool{}
	for _, path := range ledgers {
		if err := eachRecord(path, func(r record) {
			if r.Workload == "" || r.Kind == "event" {
				return
			}
			if owners[r.Workload] == nil {
				owners[r.Workload] = map[string]bool{}
			}
			owners[r.Workload][fmt.Sprint(r.Detail["owner"], " ", r.Detail["service_account"])] = true
		}); err != nil {
			return err
		}
	}
	for _, d := range l.truth.deeds {
		if d.Owner != "" {
			m.same("owners and accounts of "+d.Who, slices.Collect(maps.Keys(owners[d.Who])), []string{d.Owner + " " + d.Account})
		}
	}
	return nil
}

func eachRecord(path string, do func(record)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("ledger %q: %w", path, err)
		}
		do(r)
	}
	return lines.Err()
}
