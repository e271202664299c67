package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

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
	return l.called(deed{Phase: phase, Who: who, Owner: p.kind + "/" + p.name, Account: p.name, Around: p.around}, log)
}

// called writes down what a client's log says that it met.
func (l *lab) called(by deed, log string) error {
	for line := range strings.Lines(log) {
		if line == "done\n" {
			break
		}
		var met struct {
			URL string
			OK  bool
		}
		if err := json.Unmarshal([]byte(line), &met); err != nil {
			return fmt.Errorf("log of %q: %w", by.Who, err)
		}
		u, err := url.Parse(met.URL)
		if err != nil {
			return err
		}
		by.OK = met.OK
		if err := l.truth.note(by, u.Hostname()); err != nil {
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
