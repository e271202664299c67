package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// The addresses of the cluster.
const (
	nodeName  = "node1"
	nodeAddr  = "10.1.0.2"
	podRange  = "10.244.0.0/24"
	services  = "10.96.0.0/16"
	apiServer = "https://" + nodeAddr + ":6443"
	pause     = "lab.invalid/pause:1"
)

// boot starts Kubernetes on the node, from etcd to the kubelet, and waits until the
// node is ready for pods. The image archives are put into containerd's store.
func (n *node) boot(ctx context.Context, images ...string) error {
	if err := errors.Join(n.certificates(), n.settings()); err != nil {
		return err
	}
	if err := n.control(ctx); err != nil {
		return err
	}
	if err := n.runtime(ctx, nil); err != nil {
		return err
	}
	for _, archive := range images {
		if _, err := n.ctr("images", "import", archive); err != nil {
			return err
		}
	}
	if err := n.kubelet(); err != nil {
		return err
	}
	if err := until(ctx, "node ready", time.Minute, func() error {
		_, err := n.kubectl("wait", "--for=condition=Ready", "node/"+nodeName, "--timeout=5s")
		return err
	}); err != nil {
		return err
	}
	return until(ctx, "service account", 30*time.Second, func() error {
		_, err := n.kubectl("get", "serviceaccount", "default")
		return err
	})
}

// certificates makes a CA, what it signs, and the kubeconfigs with them.
func (n *node) certificates() error {
	ca, err := newAuthority("cluster lab")
	if err != nil {
		return err
	}
	dir := n.path("pki")
	errs := []error{os.MkdirAll(dir, 0o700)}
	errs = append(errs, os.WriteFile(filepath.Join(dir, "ca.crt"), ca.pem(), 0o644), accountKey(filepath.Join(dir, "accounts.key")))
	for name, who := range map[string]struct {
		subject pkix.Name
		names   []string
	}{
		"apiserver": {pkix.Name{CommonName: "kube-apiserver"}, []string{"127.0.0.1", "10.96.0.1", nodeAddr, "kubernetes.default.svc"}},
		"admin":     {pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}, nil},
		"kubelet":   {pkix.Name{CommonName: "system:node:" + nodeName, Organization: []string{"system:nodes"}}, []string{nodeName, nodeAddr}},
	} {
		c, err := ca.issue(who.subject, who.names...)
		if err != nil {
			return err
		}
		errs = append(errs, write(dir, name, c))
	}
	return errors.Join(append(errs, n.kubeconfig("kubeconfig", "admin"), n.kubeconfig("kubelet.kubeconfig", "kubelet"))...)
}

// accountKey makes the key that signs the tokens of service accounts.
func accountKey(path string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), 0o600)
}

func (n *node) kubeconfig(file, user string) error {
	pki := n.path("pki")
	return os.WriteFile(n.path(file), fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: lab
clusters: [{name: lab, cluster: {server: %q, certificate-authority: %s/ca.crt}}]
users: [{name: u, user: {client-certificate: %s/%s.crt, client-key: %s/%s.key}}]
contexts: [{name: lab, context: {cluster: lab, user: u}}]
`, apiServer, pki, pki, user, pki, user), 0o600)
}

// settings writes the files that containerd and the kubelet read.
func (n *node) settings() error {
	cni := filepath.Join(n.dir, "cni")
	return errors.Join(os.MkdirAll(cni, 0o755),
		os.WriteFile(filepath.Join(cni, "10-pods.conflist"), fmt.Appendf(nil, podNetwork, podRange), 0o644),
		os.WriteFile(n.path("containerd.toml"), fmt.Appendf(nil, containerdSettings, n.disk, pause, cni), 0o644),
		os.WriteFile(n.path("kubelet.yaml"), fmt.Appendf(nil, kubeletSettings, n.path("pki"), nodeAddr), 0o644))
}

const podNetwork = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`

// Without CAP_SYS_RESOURCE nobody may lower oom_score_adj.
const containerdSettings = `version = 2
root = "%s/containerd"
state = "/run/containerd"
oom_score = 0
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = %q
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
`

// An image pulled under a second name breaks an imported one, unless credentials
// are never verified.
const kubeletSettings = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: %[1]s/ca.crt}, webhook: {enabled: true}}
authorization: {mode: Webhook}
tlsCertFile: %[1]s/kubelet.crt
tlsPrivateKeyFile: %[1]s/kubelet.key
failSwapOn: false
imagePullCredentialsVerificationPolicy: NeverVerify
enforceNodeAllocatable: [pods]
evictionHard: {memory.available: 100Mi, nodefs.available: 1%%, imagefs.available: 1%%, nodefs.inodesFree: 1%%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
address: %[2]s
syncFrequency: 5s
nodeStatusUpdateFrequency: 2s
`

// control starts etcd and what stands on it.
func (n *node) control(ctx context.Context) error {
	if _, err := n.start("etcd", n.command("etcd", "--data-dir", n.disk+"/etcd", "--unsafe-no-fsync")); err != nil {
		return err
	}
	admin, pki := n.path("kubeconfig"), n.path("pki")
	if err := n.part("apiserver", "--etcd-servers=http://127.0.0.1:2379", "--bind-address="+nodeAddr, "--advertise-address="+nodeAddr,
		"--tls-cert-file="+pki+"/apiserver.crt", "--tls-private-key-file="+pki+"/apiserver.key", "--client-ca-file="+pki+"/ca.crt",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+pki+"/accounts.key", "--service-account-signing-key-file="+pki+"/accounts.key",
		"--service-cluster-ip-range="+services, "--authorization-mode=Node,RBAC", "--allow-privileged=true",
		"--kubelet-client-certificate="+pki+"/admin.crt", "--kubelet-client-key="+pki+"/admin.key"); err != nil {
		return err
	}
	if err := until(ctx, "API server ready", time.Minute, func() error {
		_, err := n.kubectl("get", "--raw=/readyz")
		return err
	}); err != nil {
		return err
	}
	as := []string{"--kubeconfig=" + admin, "--authentication-kubeconfig=" + admin, "--authorization-kubeconfig=" + admin, "--leader-elect=false"}
	return errors.Join(
		n.part("controller-manager", append(as, "--service-account-private-key-file="+pki+"/accounts.key", "--root-ca-file="+pki+"/ca.crt",
			"--use-service-account-credentials", "--allocate-node-cidrs", "--cluster-cidr="+podRange, "--node-cidr-mask-size=24", "--pvclaimbinder-sync-period=1s")...),
		n.part("scheduler", as...),
		n.part("proxy", "--kubeconfig="+admin, "--proxy-mode=nftables", "--hostname-override="+nodeName, "--cluster-cidr="+podRange,
			"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"))
}

// part starts a part of Kubernetes.
func (n *node) part(name string, args ...string) error {
	_, err := n.start(name, n.command(n.kube, append([]string{name}, args...)...))
	return err
}

func (n *node) kubelet() error {
	return n.part("kubelet", "--config="+n.path("kubelet.yaml"), "--kubeconfig="+n.path("kubelet.kubeconfig"), "--hostname-override="+nodeName, "--node-ip="+nodeAddr)
}

// runtime starts containerd with these variables beside its environment, instead of
// one that runs, as systemctl restart would after a new drop-in.
func (n *node) runtime(ctx context.Context, env []string) error {
	if n.stopRuntime != nil {
		n.stopRuntime()
	}
	c := n.command("containerd", "-c", n.path("containerd.toml"))
	c.Env = append(c.Env, env...)
	ended, err := n.start("containerd", c)
	if err != nil {
		return err
	}
	n.stopRuntime = func() {
		c.Process.Signal(os.Interrupt)
		<-ended
	}
	return until(ctx, "containerd", 20*time.Second, func() error {
		_, err := n.ctr("version")
		return err
	})
}

func (n *node) ctr(args ...string) (string, error) {
	return n.run("", "ctr", append([]string{"-a", "/run/containerd/containerd.sock", "-n", "k8s.io"}, args...)...)
}
