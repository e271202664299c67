package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// record is what is read of a ledger's, after contract section 4.
type record struct {
	Kind, Workload, Reason, Text, Origin, Name string
	Detail                                     map[string]any
}

// records holds the ledgers against the deeds: whose every connection was, with
// owner and service account, and a pod event for every image that could not be
// pulled, which names the host.
func (l *lab) records(m *mistakes, ledgers []string) error {
	owners, told := map[string]string{}, map[string][]string{}
	for _, path := range ledgers {
		if err := eachRecord(path, func(r record) {
			switch {
			case r.Kind == "event":
				told[r.Workload] = append(told[r.Workload], r.Reason+": "+r.Text)
			case r.Workload != "":
				owners[r.Workload] = fmt.Sprint(r.Detail["owner"], " ", r.Detail["service_account"])
			}
		}); err != nil {
			return err
		}
	}
	for _, d := range l.truth.deeds {
		if d.Owner != "" {
			m.same("owner and account of "+d.Who, owners[d.Who], d.Owner+" "+d.Account)
		}
		if d.For != "" && !strings.Contains(strings.Join(told[d.For], "\n"), d.Host) {
			m.add("no event of %s names %s: %q", d.For, d.Host, told[d.For])
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
