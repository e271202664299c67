package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// auditImage is what the archive of -image holds: run.sh names it so.
const auditImage = "lab.invalid/egressaudit:1"

// The addresses of egressaudit's services.
const (
	auditProxy = "10.96.3.128"
	auditDNS   = "10.96.0.53"
)

// installAudit installs egressaudit by its chart, and waits until it is ready. The
// parent is that of the company, but for the destinations that have a way of their
// own. In its namespace only restricted pods may run.
func (l *lab) installAudit(ctx context.Context) error {
	ca, err := os.ReadFile(l.dir + "/ca.pem")
	if err != nil {
		return err
	}
	if l.rules, err = l.node.rules(); err != nil {
		return err
	}
	for _, dir := range []string{"ledgers", "gateway"} {
		if err := errors.Join(os.Mkdir(l.path(dir), 0o777), os.Chmod(l.path(dir), 0o777)); err != nil {
			return err
		}
	}
	if err := l.node.apply(fmt.Sprintf(auditNeeds, ca, squid, l.path("ledgers"))); err != nil {
		return err
	}
	if _, err := l.node.kubectl("wait", "-n", "egressaudit", "persistentvolumeclaim/ledgers", "--for=jsonpath={.status.phase}=Bound", "--timeout=30s"); err != nil {
		return err
	}
	values, err := json.Marshal(l.auditValues())
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.path("audit.json"), values, 0o644); err != nil {
		return err
	}
	return l.helmAudit()
}

// auditValues are the values of egressaudit's chart.
func (l *lab) auditValues() map[string]any {
	image, tag, _ := strings.Cut(auditImage, ":")
	return map[string]any{
		"image":        map[string]any{"repository": image, "tag": tag, "pullPolicy": "Never"},
		"clients":      []string{podRange, nodeAddr + "/32"},
		"proxy":        map[string]any{"replicas": 1, "service": map[string]any{"clusterIP": auditProxy}},
		"dns":          map[string]any{"enabled": true, "service": map[string]any{"clusterIP": auditDNS}},
		"gateway":      map[string]any{"skip": []string{services, "10.1.0.0/16"}, "ledgerPath": l.path("gateway")},
		"attribution":  map[string]any{"enabled": true},
		"parentSecret": map[string]any{"name": "parent"},
		"noProxy":      noProxy(),
		"resolver":     nameServer,
		"trust":        map[string]any{"configMap": "roots"},
		"trial":        "lab",
		"ledger":       map[string]any{"persistence": map[string]any{"enabled": true, "existingClaim": "ledgers"}},
		"drainSeconds": 1, "shutdownDelaySeconds": 0,
		"extraArgs": []string{"--bypass-window=3s", "--connect-timeout=3s"},
	}
}

// helmAudit installs egressaudit, or changes it.
func (l *lab) helmAudit(flags ...string) error {
	chart, err := filepath.Abs(l.chart)
	if err != nil {
		return err
	}
	_, err = l.node.run("", l.helm, append([]string{"upgrade", "--install", "egressaudit", chart, "--namespace", "egressaudit",
		"--values", l.path("audit.json"), "--wait", "--timeout", "90s"}, flags...)...)
	return err
}

// gateway switches the chart's gateway on, which no restricted pod can be.
func (l *lab) gateway() error {
	if _, err := l.node.kubectl("label", "namespace", "egressaudit", "--overwrite", "pod-security.kubernetes.io/enforce=privileged"); err != nil {
		return err
	}
	if err := l.helmAudit("--set", "gateway.enabled=true"); err != nil {
		return err
	}
	// To helm a DaemonSet that may lack one pod is ready with none.
	if _, err := l.node.kubectl("rollout", "status", "-n", "egressaudit", "daemonset/egressaudit-gateway", "--timeout=60s"); err != nil {
		return err
	}
	rules, err := l.node.rules()
	if err == nil && !strings.Contains(rules, "table inet egressaudit") {
		err = fmt.Errorf("the gateway is ready, and its rules are not there: %s", changed(l.rules, rules))
	}
	return err
}

// settings are what egressaudit env prints for the cluster.
func (l *lab) settings(format string) (string, error) {
	out, err := l.node.run("", l.program, "env", "--format", format, "--proxy", auditProxy+":3128", "--pods", podRange, "--services", services, "--skip", nodeAddr+"/32")
	if err != nil {
		return "", fmt.Errorf("egressaudit env --format %s: %w", format, err)
	}
	return out, nil
}

// mark names a phase, in every pod of egressaudit.
func (l *lab) mark(phase string) error {
	pods, err := l.auditPods()
	if err != nil {
		return err
	}
	for _, pod := range pods {
		if _, err := l.node.kubectl("exec", "-n", "egressaudit", pod, "--", "/egressaudit", "mark", "--admin", "127.0.0.1:3180", "--admin-token-file", "/etc/egressaudit-admin/token", phase); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) auditPods() ([]string, error) {
	out, err := l.node.kubectl("get", "pods", "-n", "egressaudit", "-l", "app.kubernetes.io/component in (proxy, gateway)", "-o", "name")
	return strings.Fields(out), err
}

// removeAudit takes egressaudit out of the cluster and waits until its pods are
// gone, which have then closed their ledgers.
func (l *lab) removeAudit(ctx context.Context) error {
	if _, err := l.node.run("", l.helm, "uninstall", "egressaudit", "--namespace", "egressaudit", "--wait", "--timeout", "60s"); err != nil {
		return err
	}
	if err := until(ctx, "egressaudit's end", 30*time.Second, func() error {
		pods, err := l.auditPods()
		if err == nil && len(pods) > 0 {
			err = fmt.Errorf("%v are still there", pods)
		}
		return err
	}); err != nil {
		return err
	}
	// kube-proxy takes its time with the rules of services that are gone.
	return until(ctx, "the rules of before", 30*time.Second, func() error {
		rules, err := l.node.rules()
		if err == nil && rules != l.rules {
			err = fmt.Errorf("they are not as before: %s", changed(l.rules, rules))
		}
		return err
	})
}

// emptyChain is one without a rule: kube-proxy keeps those of services that are gone
// for a while.
var emptyChain = regexp.MustCompile(`\tchain [^\n]+ \{\n\t\}\n`)

var blankLines = regexp.MustCompile(`\n{2,}`)

// rules are all rules of the node's network, without their counters, and its routes
// beyond the usual ones.
func (n *node) rules() (string, error) {
	out, err := n.run("", "sh", "-ec", `nft -s list ruleset; for f in -4 -6; do ip $f rule; ip $f route show table all | grep 'table [^l]' || :; done`)
	out = emptyChain.ReplaceAllString(out, "")
	return blankLines.ReplaceAllString(out, "\n"), err
}

// changed are the lines that are more and less than before.
func changed(before, after string) string {
	var out []string
	for sign, texts := range map[string][2]string{"+": {after, before}, "-": {before, after}} {
		for line := range strings.Lines(texts[0]) {
			if !strings.Contains(texts[1], line) {
				out = append(out, sign+strings.TrimSpace(line))
			}
		}
	}
	if len(out) == 0 {
		return "another order:\n" + after
	}
	return strings.Join(out, "\n")
}

// auditNeeds are what a cluster's administrator makes before the chart: a namespace
// with Pod Security, the company's certificates, the way out, and a volume.
const auditNeeds = `apiVersion: v1
kind: Namespace
metadata: {name: egressaudit, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: roots, namespace: egressaudit}
data: {ca.crt: %[1]q}
---
apiVersion: v1
kind: Secret
metadata: {name: parent, namespace: egressaudit}
stringData: {url: "http://%[2]s"}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: ledgers}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: lab
  hostPath: {path: %[3]s}
  claimRef: {namespace: egressaudit, name: ledgers} # bound at once
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: ledgers, namespace: egressaudit}
spec:
  storageClassName: lab
  volumeName: ledgers
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
`
