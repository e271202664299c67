//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// machine says when and on what the figures were made.
func machine() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	toolchain, _ := exec.Command("go", "env", "GOVERSION").Output()
	haproxy, _ := exec.Command("haproxy", "-v").Output()
	first, _, _ := bytes.Cut(haproxy, []byte(" - "))
	commit, _ := exec.Command("git", "--no-optional-locks", "describe", "--always", "--dirty").Output()
	return fmt.Sprintf("on %s from commit %s: %d processors, Linux %s, %s, %s, load at the start %s", time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		bytes.TrimSpace(commit), runtime.NumCPU(), bytes.TrimSpace(kernel), bytes.TrimSpace(toolchain), first, load())
}

// load is the system's load of the last minute.
func load() string {
	b, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(b), " ")
	return one
}

const beginMark, endMark = "<!-- captured: begin -->\n", "<!-- captured: end -->\n"

// splice puts the table between the marks of a page.
func splice(path, table string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, began := strings.Cut(string(b), beginMark)
	_, after, ended := strings.Cut(rest, endMark)
	if !began || !ended {
		return fmt.Errorf("write %q: the marks %q and %q are missing", path, strings.TrimSpace(beginMark), strings.TrimSpace(endMark))
	}
	return os.WriteFile(path, []byte(before+beginMark+table+endMark+after), 0o644)
}
