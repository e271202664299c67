package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lab is all that stands while a cluster stands.
type lab struct {
	options
	dir   string
	steps steps
	wires *network
	node  *node
	truth *truth
	rules string // of the node, before egressaudit came
}

// play makes everything, plays the trial, and judges.
func (o options) play(ctx context.Context, out io.Writer) (err error) {
	if o.keep != "" {
		if err := os.MkdirAll(o.keep, 0o755); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", prefix, os.Getpid()))
	if err != nil {
		return err
	}
	l := &lab{options: o, dir: dir, steps: steps{out, time.Now()}}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		kept := l.save()
		cancel()
		err = errors.Join(err, kept, l.steps.do("take everything down", l.close))
		fmt.Fprintf(out, "cluster: %.0f s in all\n", time.Since(l.steps.begun).Seconds())
	}()
	if err := l.build(ctx); err != nil {
		return err
	}
	if o.hold {
		fmt.Fprintln(out, "cluster: it stands until ^C; look inside with: make cluster-sh")
		<-ctx.Done()
		return nil
	}
	return l.playStages(ctx)
}

// playStages plays what -play names. A wrong report does not keep the next stage from
// being played.
func (l *lab) playStages(ctx context.Context) error {
	var judged error
	if l.plays("trial") {
		if err := l.trial(ctx); err != nil {
			return err
		}
		var wrong *mistakes
		if judged = l.steps.do("hold the report against the truth", l.judge); judged != nil && !errors.As(judged, &wrong) {
			return judged
		}
	}
	if l.plays("rolling") {
		return errors.Join(judged, l.rolling(ctx))
	}
	return judged
}

func (l *lab) plays(stage string) bool {
	return slices.Contains(strings.Split(l.options.stages, ","), stage)
}

// build makes the network, the cluster, and egressaudit in it.
func (l *lab) build(ctx context.Context) error {
	if err := errors.Join(os.Chmod(l.dir, 0o711), os.Mkdir(l.dir+"/logs", 0o777), os.Chmod(l.dir+"/logs", 0o777)); err != nil {
		return err
	}
	type step struct {
		what string
		do   func(context.Context) error
	}
	all := []step{{"network, firewall, internet, parent", l.lay}, {"images into the registries", l.images}, {"Kubernetes", l.boot}}
	if l.die {
		all = append(all, step{"the end, by SIGKILL", l.killed})
	}
	if l.hold || l.plays("trial") {
		all = append(all, step{"egressaudit, by helm", l.installAudit}, step{"containerd through egressaudit", l.through})
	}
	for _, s := range all {
		if err := l.steps.do(s.what, func() error { return s.do(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// path is a file of this trial.
func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

func (l *lab) lay(ctx context.Context) (err error) {
	if l.wires, err = lay(); err != nil {
		return err
	}
	return l.wires.people(ctx, l.dir)
}

// images packs the install's one program under several names, each with a file of
// its own, so that every image has to be fetched, and puts them into the registries.
func (l *lab) images(context.Context) error {
	program, err := os.ReadFile(l.client)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(l.dir + "/ca.pem")
	if err != nil {
		return err
	}
	put := func(archive, name string) error {
		return pack(l.dir+"/"+archive, name, packed{"client", program}, packed{"etc/ssl/certs/ca-certificates.crt", ca}, packed{"image", []byte(name)})
	}
	errs := []error{put("pause.tar", pause)}
	for i, r := range repositories {
		archive := fmt.Sprintf("image%d.tar", i)
		errs = append(errs, put(archive, r.registry+"/"+r.repository+":1"), l.wires.out.push(l.dir+"/"+archive, r.repository+":1"))
	}
	return errors.Join(errs...)
}

// killed is what may befall us: no time to clean up.
func (l *lab) killed(context.Context) error { return syscall.Kill(os.Getpid(), syscall.SIGKILL) }

func (l *lab) boot(ctx context.Context) (err error) {
	if l.node, err = startNode(ctx, l.wires.node, l.dir, l.kube); err != nil {
		return err
	}
	if err := l.tools(); err != nil {
		return err
	}
	return l.node.boot(ctx, l.dir+"/pause.tar", l.image)
}

// tools are for make cluster-sh: who to enter, and what to type there.
func (l *lab) tools() error {
	return errors.Join(os.Mkdir(l.path("bin"), 0o755), os.Symlink(l.helm, l.path("bin/helm")), os.Symlink(l.program, l.path("bin/egressaudit")),
		os.WriteFile(l.path("bin/kubectl"), fmt.Appendf(nil, "#!/bin/sh\nexec %s kubectl \"$@\"\n", l.kube), 0o755),
		os.WriteFile(l.path("init.pid"), []byte(strconv.Itoa(l.node.init.Process.Pid)), 0o644))
}

// through restarts containerd with the drop-in that egressaudit prints for it.
func (l *lab) through(ctx context.Context) error {
	dropIn, err := l.settings("containerd")
	if err != nil {
		return err
	}
	env := []string{"SSL_CERT_FILE=" + l.dir + "/ca.pem"}
	for line := range strings.Lines(dropIn) {
		list, ok := strings.CutPrefix(line, "Environment=")
		if !ok {
			continue
		}
		for _, v := range strings.Fields(list) {
			v, err := strconv.Unquote(v)
			if err != nil {
				return fmt.Errorf("the drop-in for containerd: %q: %w", line, err)
			}
			env = append(env, v)
		}
	}
	return l.node.runtime(ctx, env)
}

// close takes everything down; it may be called at any time.
func (l *lab) close() error {
	var errs []error
	if l.node != nil {
		errs = append(errs, l.node.stop())
	}
	if l.wires != nil {
		errs = append(errs, l.wires.net.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}

// save keeps what tells of a trial, in the folder that -keep names.
func (l *lab) save() error {
	if l.keep == "" {
		return nil
	}
	if l.node != nil && l.node.space != nil {
		for name, args := range map[string][]string{"pods": {"get", "pods", "-A", "-o", "yaml"}, "events": {"get", "events", "-A"}, "audit": {"logs", "-n", "egressaudit", "-l", "app.kubernetes.io/name=egressaudit", "--tail=-1"},
			"rolling": {"logs", "-n", "rolling", "-l", "app.kubernetes.io/name=egressaudit", "--prefix", "--tail=-1"}} {
			out, err := l.node.kubectl(args...)
			os.WriteFile(l.dir+"/logs/"+name+".txt", fmt.Append(nil, out, err), 0o644)
		}
	}
	if out, err := exec.Command("cp", "-r", l.dir+"/.", l.keep).CombinedOutput(); err != nil {
		return fmt.Errorf("keep %q: %w: %s", l.keep, err, out)
	}
	return nil
}
