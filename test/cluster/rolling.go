package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The rolling restart: our chart with two replicas, load from a pod through their
// Service to a destination in the internet, and rollouts meanwhile. Program and load
// are those of test/rolling, which judges, too.
const (
	rollingProxy = "10.96.3.129"
	rollingHost  = "echo.rolling.test"
	rollingAddr  = "198.18.0.9"
	rollingPort  = "7000"
	loadImage    = "lab.invalid/rolling:1"
	rollouts     = 2
)

// pace is what a rolling restart is asked for, and given.
type pace struct {
	tunnels     int
	rate, floor int           // new connections a second: asked, and what still proves something
	delay       time.Duration // shutdownDelaySeconds
	drain       time.Duration // drainSeconds
}

// replicas are what kubectl said of egressaudit's pods while they were replaced.
const replicas = "logs/replicas.log"

// rolling plays the rolling restart, and judges.
func (l *lab) rolling(ctx context.Context) error {
	echo := exec.Command(l.rollingProgram, "-echo", rollingAddr+":"+rollingPort)
	if err := l.wires.beyond.Start(echo); err != nil {
		return err
	}
	defer func() {
		echo.Process.Kill()
		echo.Wait()
	}()
	var loaded <-chan struct{}
	for _, s := range []struct {
		what string
		do   func() error
	}{
		{"rolling: two replicas, by helm", l.installReplicas},
		{"rolling: helm test", func() error { return l.rollingHelm("test", "egressaudit", "--timeout", "60s") }},
		{"rolling: the load begins", func() (err error) { loaded, err = l.load(ctx); return err }},
		{fmt.Sprintf("rolling: %d restarts under load", rollouts), l.restart},
		{"rolling: the load ends, and egressaudit", func() error { return l.unload(ctx, loaded) }},
		{"rolling: hold ledgers against the load", l.judgeRolling},
	} {
		if err := l.steps.do(s.what, s.do); err != nil {
			return err
		}
	}
	return nil
}

// installReplicas installs egressaudit once more, in a namespace of its own, with a
// volume that outlives its pods.
func (l *lab) installReplicas() error {
	if err := errors.Join(os.Mkdir(l.path("rolling"), 0o777), os.Chmod(l.path("rolling"), 0o777)); err != nil {
		return err
	}
	if err := l.node.apply(fmt.Sprintf(rollingNeeds, l.path("rolling"))); err != nil {
		return err
	}
	image, tag, _ := strings.Cut(auditImage, ":")
	values, err := json.Marshal(map[string]any{
		"image":        map[string]any{"repository": image, "tag": tag, "pullPolicy": "Never"},
		"clients":      []string{podRange},
		"proxy":        map[string]any{"replicas": 2, "service": map[string]any{"clusterIP": rollingProxy}},
		"resolver":     nameServer,
		"catalogs":     map[string]any{"builtin": []string{}, "own": map[string]any{"echo.yaml": rollingCatalog}},
		"ledger":       map[string]any{"persistence": map[string]any{"enabled": true, "existingClaim": "ledgers", "accessModes": []string{"ReadWriteMany"}}},
		"drainSeconds": l.pace.drain.Seconds(), "shutdownDelaySeconds": l.pace.delay.Seconds(),
	})
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(l.path("rolling.json"), values, 0o644), os.WriteFile(l.path("echo.yaml"), []byte(rollingCatalog), 0o644)); err != nil {
		return err
	}
	chart, err := filepath.Abs(l.chart)
	if err != nil {
		return err
	}
	return l.rollingHelm("install", "egressaudit", chart, "--values", l.path("rolling.json"), "--wait", "--timeout", "90s")
}

func (l *lab) rollingHelm(args ...string) error {
	_, err := l.node.run("", l.helm, append(args, "--namespace", "rolling")...)
	return err
}

func (l *lab) rollingKubectl(args ...string) (string, error) {
	return l.node.kubectl(append(args, "--namespace", "rolling")...)
}

// load starts the pod that makes the load, and waits until all tunnels are open. The
// channel closes when the load has said what it did.
func (l *lab) load(ctx context.Context) (<-chan struct{}, error) {
	program, err := os.ReadFile(l.rollingProgram)
	if err != nil {
		return nil, err
	}
	archive := l.path("rolling.tar")
	if err := pack(archive, loadImage, packed{"rolling", program}); err != nil {
		return nil, err
	}
	if _, err := l.node.ctr("images", "import", archive); err != nil {
		return nil, err
	}
	if err := l.node.apply(fmt.Sprintf(rollingLoad, loadImage, rollingProxy, rollingHost, rollingPort, l.pace.rate, l.pace.tunnels)); err != nil {
		return nil, err
	}
	if _, err := l.rollingKubectl("wait", "--for=condition=Ready", "pod/load", "--timeout=30s"); err != nil {
		return nil, err
	}
	ended, err := l.node.start("load", l.node.command(l.kube, "kubectl", "logs", "-n", "rolling", "-f", "load"))
	if err != nil {
		return nil, err
	}
	return ended, until(ctx, "the load", time.Minute, func() error {
		said, err := os.ReadFile(l.path("logs/load.log"))
		if err == nil && !bytes.Contains(said, []byte("all tunnels are open")) {
			err = fmt.Errorf("not all tunnels are open: %s", said)
		}
		return err
	})
}

// restart replaces all replicas, several times, and each time waits until the old
// ones are gone. When each was told to end is written down.
func (l *lab) restart() error {
	_, err := l.node.start(strings.TrimSuffix(filepath.Base(replicas), ".log"), l.node.command(l.kube, "kubectl", "get", "pods", "-n", "rolling",
		"-l", "app.kubernetes.io/component=proxy", "--watch", "--no-headers", "-o", "custom-columns=N:.metadata.name,T:.metadata.deletionTimestamp,G:.metadata.deletionGracePeriodSeconds"))
	if err != nil {
		return err
	}
	for range rollouts {
		old, err := l.replicas()
		if err != nil {
			return err
		}
		for _, args := range [][]string{
			{"rollout", "restart", "deployment/egressaudit"},
			{"rollout", "status", "deployment/egressaudit", "--timeout=90s"},
			append([]string{"wait", "--for=delete", "--timeout=90s"}, old...),
		} {
			if _, err := l.rollingKubectl(args...); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lab) replicas() ([]string, error) {
	out, err := l.rollingKubectl("get", "pods", "-l", "app.kubernetes.io/component=proxy", "-o", "name")
	return strings.Fields(out), err
}

// unload ends the load and then the replicas, which close their ledgers.
func (l *lab) unload(ctx context.Context, loaded <-chan struct{}) error {
	if _, err := l.rollingKubectl("delete", "pod", "load", "--wait=false"); err != nil {
		return err
	}
	select {
	case <-loaded:
	case <-time.After(time.Minute):
		return errors.New("the load does not end")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := l.rollingHelm("uninstall", "egressaudit", "--wait", "--timeout", "60s"); err != nil {
		return err
	}
	return until(ctx, "the replicas' end", time.Minute, func() error {
		left, err := l.replicas()
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%v are still there", left)
		}
		return err
	})
}

const rollingCatalog = `schema: egressaudit/catalog/1
name: echo
title: the destination of the rolling restart
revision: "1"
source: {title: test/cluster, url: "https://github.com/egressaudit/egressaudit"}
requirements:
  - id: echo
    scope: workload
    hosts: [` + rollingHost + `]
    port: ` + rollingPort + `
    protocol: tcp
    purpose: sends lines back
`

const rollingNeeds = `apiVersion: v1
kind: Namespace
metadata: {name: rolling, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: rolling}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteMany]
  storageClassName: lab
  hostPath: {path: %[1]s}
  claimRef: {namespace: rolling, name: ledgers} # bound at once
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: ledgers, namespace: rolling}
spec:
  storageClassName: lab
  volumeName: rolling
  accessModes: [ReadWriteMany]
  resources: {requests: {storage: 1Gi}}
`

const rollingLoad = `apiVersion: v1
kind: Pod
metadata: {name: load, namespace: rolling}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 40
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: load
      image: %[1]q
      imagePullPolicy: Never
      args: [-proxy, "%[2]s:3128", -target, "%[3]s:%[4]s", -rate, "%[5]d", -tunnels, "%[6]d", -duration, 10m]
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
`
