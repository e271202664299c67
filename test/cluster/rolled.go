package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// judgeRolling has test/rolling compare load and ledgers, and reads the report of all
// of them.
func (l *lab) judgeRolling() error {
	said, err := os.ReadFile(l.path("logs/load.log"))
	if err != nil {
		return err
	}
	result := said[max(bytes.Index(said, []byte("\n{"))+1, 0):]
	if err := os.WriteFile(l.path("load.json"), result, 0o644); err != nil {
		return err
	}
	log, err := os.ReadFile(l.path(replicas))
	if err != nil {
		return err
	}
	told, err := toldAt(string(log))
	if err != nil {
		return err
	}
	ledgers, err := filepath.Glob(l.path("rolling/*.jsonl"))
	if err != nil {
		return err
	}
	m := &mistakes{}
	m.same("rolling: ledgers", len(ledgers), 2*(1+rollouts))
	args := []string{"-judge", l.path("load.json"), "-floor", fmt.Sprint(l.pace.floor)}
	for _, path := range ledgers {
		at, ok := told[strings.TrimSuffix(filepath.Base(path), ".jsonl")]
		if !ok {
			m.add("rolling: nobody told the replica of %q to end", path)
		}
		args = append(args, path+"="+at.Add(l.pace.delay+l.pace.drain).Format(time.RFC3339Nano))
	}
	if err := errors.Join(l.compareRolling(m, args), l.reportRolling(m, ledgers)); err != nil {
		return err
	}
	if len(m.list) > 0 {
		return m
	}
	return nil
}

// toldAt is when each pod was told to end, to the second and never later, after what
// kubectl said: NAME TIME GRACE, the time being when its grace is over.
func toldAt(log string) (map[string]time.Time, error) {
	told := map[string]time.Time{}
	for line := range strings.Lines(log) {
		f := strings.Fields(line)
		if len(f) != 3 || f[1] == "<none>" {
			continue
		}
		over, err := time.Parse(time.RFC3339, f[1])
		grace, bad := time.ParseDuration(f[2] + "s")
		if err := errors.Join(err, bad); err != nil {
			return nil, fmt.Errorf("what kubectl said of %q: %w", f[0], err)
		}
		if at := over.Add(-grace); told[f[0]].IsZero() || at.Before(told[f[0]]) {
			told[f[0]] = at
		}
	}
	return told, nil
}

// compareRolling runs test/rolling's comparison.
func (l *lab) compareRolling(m *mistakes, args []string) error {
	var out, errs bytes.Buffer
	c := exec.Command(l.rollingProgram, args...)
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	fmt.Fprint(l.steps.out, out.String())
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		m.list = append(m.list, strings.Split(strings.TrimSpace(errs.String()), "\n")...)
		return nil
	}
	if err != nil {
		return fmt.Errorf("rolling -judge: %w: %s", err, &errs)
	}
	return nil
}

// reportRolling demands of the report over all ledgers that it sees everything, and
// the phase that helm test named.
func (l *lab) reportRolling(m *mistakes, ledgers []string) error {
	var out, errs bytes.Buffer
	c := exec.Command(l.program, append([]string{"report", "--format", "json", "--catalog", l.path("echo.yaml")}, ledgers...)...)
	c.Stdout, c.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &exit) {
		return err
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return fmt.Errorf("egressaudit report: %w: %s", err, &errs)
	}
	m.same("rolling: exit status of the report", c.ProcessState.ExitCode(), 0)
	m.same("rolling: verdict", r.Verdict, "clear")
	for _, b := range r.BlindSpots {
		if !slices.ContainsFunc(limits, func(known string) bool { return strings.HasPrefix(b, known) }) {
			m.add("rolling: blind spot: %s", b)
		}
	}
	m.same("rolling: phases", r.Trial.Phases, []string{"helm test"})
	return nil
}

// limits begin the blind spots of any recording by a proxy alone.
var limits = []string{"only programs that use the proxy settings were seen", "UDP was not in the path", "DNS was not in our hands", "seen from cluster alone"}
