package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The node's processes are in cgroups of their own, below this program's in every
// hierarchy; a cgroup namespace makes them the node's root. In the root are
// groupNode, with what the node itself runs, and what the kubelet makes for pods.

const groupNode = "node"

// hierarchy is a mounted tree of cgroups.
type hierarchy struct {
	mount string // "/sys/fs/cgroup/memory"
	own   string // the folder of this program's group
}

// hierarchies are those that are mounted here, after proc(5) and cgroups(7).
func hierarchies() ([]hierarchy, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var hs []hierarchy
	for line := range strings.Lines(string(mounts)) {
		before, after, _ := strings.Cut(line, " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(kind) < 3 || !strings.HasPrefix(kind[0], "cgroup") || slices.ContainsFunc(hs, func(h hierarchy) bool { return h.mount == f[4] }) {
			continue
		}
		own := ownGroup(string(groups), kind[0], strings.Split(kind[2], ","))
		hs = append(hs, hierarchy{f[4], filepath.Join(f[4], strings.TrimPrefix(own, strings.TrimSuffix(f[3], "/")))})
	}
	return hs, nil
}

// ownGroup finds this program's group in the text of /proc/self/cgroup, for a
// hierarchy of that type and with these options.
func ownGroup(groups, kind string, options []string) string {
	for line := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) < 3 {
			continue
		}
		if f[1] == "" && kind == "cgroup2" {
			return f[2]
		}
		of := func(c string) bool { return slices.Contains(options, c) }
		if f[1] != "" && kind == "cgroup" && !slices.ContainsFunc(strings.Split(f[1], ","), func(c string) bool { return !of(c) }) {
			return f[2]
		}
	}
	return "/"
}

// groupName is the name of the groups of the node that process pid made.
func groupName(pid int) string { return prefix + strconv.Itoa(pid) }

// makeGroups makes the node's groups in every hierarchy.
func makeGroups(name string) error {
	hs, err := hierarchies()
	if err != nil {
		return fmt.Errorf("find the cgroups: %w", err)
	}
	for _, h := range hs {
		root := filepath.Join(h.own, name)
		for _, dir := range []string{root, filepath.Join(root, groupNode)} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			// An empty set of processors takes no process.
			for _, set := range []string{"cpuset.cpus", "cpuset.mems"} {
				if text, err := os.ReadFile(filepath.Join(dir, "..", set)); err == nil {
					if err := os.WriteFile(filepath.Join(dir, set), text, 0); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// removeGroups removes the groups of that name with all below them, as soon as
// their last process is gone.
func removeGroups(name string) error {
	hs, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range hs {
		errs = append(errs, removeTree(filepath.Join(h.own, name)))
	}
	return errors.Join(errs...)
}

func removeTree(root string) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var dirs []string
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		var last error
		for _, dir := range slices.Backward(dirs) {
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				last = err
			}
		}
		if last == nil || time.Now().After(deadline) {
			return last
		}
	}
}

// sweepGroups removes what programs left that are no more.
func sweepGroups() error {
	hs, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range hs {
		left, _ := filepath.Glob(filepath.Join(h.own, prefix+"*"))
		for _, dir := range left {
			if gone(strings.TrimPrefix(filepath.Base(dir), prefix)) {
				errs = append(errs, removeTree(dir))
			}
		}
	}
	return errors.Join(errs...)
}
