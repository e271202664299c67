//go:build linux

package e2e

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// registry is what the container pulls need.
var registry = []string{"skopeo", "docker-registry"}

// www is where the pages of a host are.
func (w *world) www(host string, name ...string) string {
	return filepath.Join(append([]string{w.dir, "www", host}, name...)...)
}

// offerGit makes a bare repository with one commit, to be read as plain files.
func (w *world) offerGit(t *testing.T) {
	bare := w.www("git.egress.test", "repo.git")
	who := []string{"-c", "user.name=e2e", "-c", "user.email=e2e@egress.test", "-c", "init.defaultBranch=main"}
	git := func(args ...string) { w.output(t, nil, append(append([]string{"git"}, who...), args...)...) }
	w.write(t, "source/README", "hello\n")
	git("init", "-q", "source")
	git("-C", "source", "add", ".")
	git("-C", "source", "commit", "-q", "-m", "first")
	git("clone", "-q", "--bare", "source", bare)
	git("-C", bare, "update-server-info")
}

// offerPip makes an index of one wheel.
func (w *world) offerPip(t *testing.T) {
	const wheel = "demo-0.1.0-py3-none-any.whl"
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range map[string]string{
		"demo.py":                       "print('demo')\n",
		"demo-0.1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: demo\nVersion: 0.1.0\n",
		"demo-0.1.0.dist-info/WHEEL":    "Wheel-Version: 1.0\nGenerator: e2e\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		"demo-0.1.0.dist-info/RECORD":   "demo.py,,\ndemo-0.1.0.dist-info/METADATA,,\ndemo-0.1.0.dist-info/WHEEL,,\ndemo-0.1.0.dist-info/RECORD,,\n",
	} {
		f, err := z.Create(name)
		require.NoError(t, err)
		_, err = f.Write([]byte(text))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	w.write(t, "www/pypi.egress.test/files/"+wheel, b.String())
	w.write(t, "www/pypi.egress.test/simple/demo/index.html",
		fmt.Sprintf(`<!DOCTYPE html><html><body><a href="/files/%s#sha256=%x">%s</a></body></html>`, wheel, sha256.Sum256(b.Bytes()), wheel))
}

// offerApt makes a flat repository of one package that nobody installs.
func (w *world) offerApt(t *testing.T, scheme string) {
	var z bytes.Buffer
	g := gzip.NewWriter(&z)
	_, err := g.Write([]byte("Package: demo\nVersion: 1\nArchitecture: all\nMaintainer: e2e\nFilename: ./demo.deb\nSize: 1\nSHA256: " +
		fmt.Sprintf("%x", sha256.Sum256([]byte("x"))) + "\nDescription: demo\n\n"))
	require.NoError(t, err)
	require.NoError(t, g.Close())
	w.write(t, "www/apt.egress.test/Packages.gz", z.String())
	w.write(t, "sources.list", "deb [trusted=yes] "+scheme+"://apt.egress.test/ ./\n")
	for _, dir := range []string{"state/lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d"} {
		require.NoError(t, os.MkdirAll(filepath.Join(w.dir, "apt", dir), 0o755))
	}
	w.write(t, "apt/status", "")
	w.write(t, "apt.conf", "Dir::Etc::main \"/nonexistent\";\nDir::Etc::parts \"/nonexistent\";\n")
}

// aptEnv keeps the machine's own settings away, which may name another proxy.
func aptEnv(w *world) []string { return []string{"APT_CONFIG=" + w.dir + "/apt.conf"} }

// aptUpdate touches nothing of the machine's own apt; the proxy comes from the
// environment alone.
func aptUpdate(w *world) []string {
	args := []string{"apt-get"}
	for _, o := range []string{
		"Dir::Etc::sourcelist=" + w.dir + "/sources.list", "Dir::Etc::sourceparts=-",
		"Dir::State=" + w.dir + "/apt/state", "Dir::State::status=" + w.dir + "/apt/status", "Dir::Cache=" + w.dir + "/apt/cache",
		"APT::Sandbox::User=root", "Acquire::Languages=none", "Acquire::Retries=0",
		"Acquire::https::CAInfo=" + w.ca,
	} {
		args = append(args, "-o", o)
	}
	return append(args, "update")
}

// offerImage starts Debian's docker-registry behind a counting relay, and
// pushes an image to it, past the proxy.
func (w *world) offerImage(t *testing.T) {
	w.writeImage(t)
	w.write(t, "certs.d/ca.crt", string(w.authority.pem))
	address := w.address("reg.egress.test")
	free, err := net.Listen("tcp", address+":0") // nobody else uses this address
	require.NoError(t, err)
	server := free.Addr().String()
	require.NoError(t, free.Close())
	w.command(t, nil, "docker-registry", "serve", w.registryConfig(t, server, "")).start()
	eventually(t, "docker-registry listens", func() bool {
		c, err := net.Dial("tcp", server)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	m := newMeter(t, address+":5000")
	w.meters[address+":5000"] = m
	go m.relay(func() (net.Conn, error) { return net.Dial("tcp", server) })
	w.output(t, trustFile(w), "skopeo", "--insecure-policy", "copy", "docker-archive:image.tar", "docker://"+address+":5000/demo/app:v1")
	m.settled(t, false)
}

// registryConfig configures docker-registry; more is YAML to add.
func (w *world) registryConfig(t *testing.T, server, more string) string {
	cert, key := w.write(t, "reg.crt", string(w.authority.leafPEM)), w.write(t, "reg.key", string(w.authority.keyPEM))
	return w.write(t, "registry.yml", fmt.Sprintf("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q, secret: e2e, tls: {certificate: %q, key: %q}}\n%s",
		w.dir+"/registry", server, cert, key, more))
}

// writeImage makes image.tar from scratch: one layer of 3 MiB that cannot be
// compressed.
func (w *world) writeImage(t *testing.T) {
	layer := tarOf(t, [][2]string{{"app", incompressible(3 << 20)}})
	diff := fmt.Sprintf("%x", sha256.Sum256([]byte(layer)))
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z", "config": map[string]any{"Entrypoint": []string{"/app"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + diff}},
		"history": []any{map[string]any{"created": "1970-01-01T00:00:00Z"}},
	})
	require.NoError(t, err)
	name := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]any{map[string]any{"Config": name, "RepoTags": []string{"demo:v1"}, "Layers": []string{diff + "/layer.tar"}}})
	require.NoError(t, err)
	w.write(t, "image.tar", tarOf(t, [][2]string{{"manifest.json", string(manifest)}, {name, string(config)}, {diff + "/layer.tar", layer}}))
}

// incompressible is a text of n bytes, always the same.
func incompressible(n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}

func tarOf(t *testing.T, files [][2]string) string {
	var b bytes.Buffer
	a := tar.NewWriter(&b)
	for _, f := range files {
		require.NoError(t, a.WriteHeader(&tar.Header{Name: f[0], Mode: 0o755, Size: int64(len(f[1]))}))
		_, err := a.Write([]byte(f[1]))
		require.NoError(t, err)
	}
	require.NoError(t, a.Close())
	return b.String()
}
