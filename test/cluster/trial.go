package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
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
	if err := l.trial(ctx); err != nil {
		return err
	}
	return l.steps.do("hold the report against the truth", l.judge)
}

// build makes the network, the cluster, and egressaudit in it.
func (l *lab) build(ctx context.Context) error {
	if err := errors.Join(os.Chmod(l.dir, 0o711), os.Mkdir(l.dir+"/logs", 0o777), os.Chmod(l.dir+"/logs", 0o777)); err != nil {
		return err
	}
	for _, s := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"network, firewall, internet, parent", l.lay}, {"images into the registries", l.images},
		{"Kubernetes", l.boot}, {"the end, by SIGKILL", l.killed}, {"egressaudit, by helm", l.installAudit}, {"containerd through egressaudit", l.through},
	} {
		if s.what == "the end, by SIGKILL" && !l.die {
			continue
		}
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

// trial installs the extension, phase by phase, and writes down what happens.
func (l *lab) trial(ctx context.Context) (err error) {
	if l.truth, err = newTruth(l.dir + "/truth.jsonl"); err != nil {
		return err
	}
	env, err := l.settings("pod")
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.dir+"/env.yaml", []byte(env), 0o644); err != nil {
		return err
	}
	var parts []part
	for _, p := range phases {
		parts = append(parts, p.parts...)
		if p.gateway {
			if err := l.steps.do("the gateway, by helm", l.gateway); err != nil {
				return err
			}
		}
		if err := l.steps.do("phase: "+p.name, func() error { return l.phase(ctx, p, parts) }); err != nil {
			return err
		}
	}
	return l.steps.do("take egressaudit away again", func() error { return l.removeAudit(ctx) })
}

func (l *lab) phase(ctx context.Context, p phase, all []part) error {
	if err := l.mark(p.name); err != nil {
		return err
	}
	values, err := json.Marshal(map[string]any{"dns": auditDNS, "parts": partValues(all)})
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.dir+"/values.json", values, 0o644); err != nil {
		return err
	}
	chart, err := filepath.Abs("chart")
	if err != nil {
		return err
	}
	if _, err := l.node.run("", l.helm, "upgrade", "--install", "extension", chart, "--namespace", "azureml", "--create-namespace",
		"--values", l.dir+"/env.yaml", "--values", l.dir+"/values.json"); err != nil {
		return err
	}
	for _, q := range p.parts {
		if err := l.await(ctx, p.name, q); err != nil {
			return err
		}
	}
	return nil
}

func partValues(parts []part) []map[string]any {
	var vs []map[string]any
	for _, p := range parts {
		vs = append(vs, map[string]any{"name": p.name, "kind": p.kind, "image": p.image, "args": append([]string{p.role}, p.urls...), "proxy": !p.around && !p.plain})
	}
	return vs
}

// pods is what kubectl says of pods.
type pods struct {
	Items []struct {
		Metadata struct{ Name string }
		Status   struct {
			ContainerStatuses []struct {
				State struct {
					Waiting *struct{ Reason string }
				}
			}
		}
	}
}

// await waits until a part has done what it is to do, and writes it down: what its
// image took, and what its client met.
func (l *lab) await(ctx context.Context, phase string, p part) error {
	var name, log string
	err := until(ctx, "part "+p.name, time.Minute, func() (err error) {
		if name, err = l.pod(p); err != nil || p.fails {
			return err
		}
		if log, err = l.node.kubectl("logs", "-n", "azureml", name); err == nil && !strings.HasSuffix(log, "done\n") {
			err = fmt.Errorf("pod %q: is not done:\n%s", name, log)
		}
		return err
	})
	if err != nil {
		return err
	}
	who := "azureml/" + name
	if err := l.pulled(phase, who, p); err != nil {
		return err
	}
	for line := range strings.Lines(log) {
		if line == "done\n" {
			break
		}
		var met struct {
			URL string
			OK  bool
		}
		if err := json.Unmarshal([]byte(line), &met); err != nil {
			return fmt.Errorf("log of %q: %w", name, err)
		}
		u, err := url.Parse(met.URL)
		if err != nil {
			return err
		}
		d := deed{Phase: phase, Who: who, Owner: p.kind + "/" + p.name, Account: p.name, OK: met.OK, Around: p.around}
		if err := l.truth.note(d, u.Hostname()); err != nil {
			return err
		}
	}
	return nil
}

// pod is the name of a part's pod; an error while it is not as it should be.
func (l *lab) pod(p part) (string, error) {
	out, err := l.node.kubectl("get", "pods", "-n", "azureml", "-l", "part="+p.name, "-o", "json")
	if err != nil {
		return "", err
	}
	var list pods
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return "", err
	}
	if len(list.Items) != 1 {
		return "", fmt.Errorf("%d pods", len(list.Items))
	}
	pod := list.Items[0]
	waits := ""
	if s := pod.Status.ContainerStatuses; len(s) > 0 && s[0].State.Waiting != nil {
		waits = s[0].State.Waiting.Reason
	}
	if failed := waits == "ErrImagePull" || waits == "ImagePullBackOff"; failed != p.fails {
		return "", fmt.Errorf("pod %q: waits for %q", pod.Metadata.Name, waits)
	}
	return pod.Metadata.Name, nil
}

// pulled writes down what containerd fetched for a part, which is the node's doing,
// and whether it could.
func (l *lab) pulled(phase, who string, p part) error {
	for _, r := range repositories {
		if p.image != r.registry+"/"+r.repository+":1" {
			continue
		}
		at := []string{r.registry}
		if r.blobs != "" {
			at = append(at, r.blobs)
		}
		for _, host := range at {
			d := deed{Phase: phase, Who: "node:" + nodeName, OK: !p.fails || host != at[len(at)-1]}
			if !d.OK {
				d.For = who
			}
			if err := l.truth.note(d, host); err != nil {
				return err
			}
		}
	}
	return nil
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
		for name, args := range map[string][]string{"pods": {"get", "pods", "-A", "-o", "yaml"}, "events": {"get", "events", "-A"}, "audit": {"logs", "-n", "egressaudit", "-l", "app.kubernetes.io/name=egressaudit", "--tail=-1"}} {
			out, err := l.node.kubectl(args...)
			os.WriteFile(l.dir+"/logs/"+name+".txt", fmt.Append(nil, out, err), 0o644)
		}
	}
	if out, err := exec.Command("cp", "-r", l.dir+"/.", l.keep).CombinedOutput(); err != nil {
		return fmt.Errorf("keep %q: %w: %s", l.keep, err, out)
	}
	return nil
}
