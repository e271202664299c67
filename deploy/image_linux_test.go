package deploy

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/suite"
)

// archive is what an image's archive holds, by name.
func archive(t *testing.T, r io.Reader) (files map[string][]byte, headers map[string]*tar.Header) {
	t.Helper()
	files, headers = map[string][]byte{}, map[string]*tar.Header{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files, headers
		}
		require.NoError(t, err)
		b, err := io.ReadAll(tr)
		require.NoError(t, err)
		files[h.Name], headers[h.Name] = b, h
	}
}

// build makes the image of the checkout in dir.
func build(t *testing.T, dir, arch string) (archive []byte, digest string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image.tar")
	c := exec.Command("sh", filepath.Join(dir, "deploy/image.sh"), out)
	c.Env = append(os.Environ(), "GOARCH="+arch, "VERSION=v1.2.3", "IMAGE=lab.invalid/egressaudit:v1.2.3")
	var complaint bytes.Buffer
	c.Stderr = &complaint
	said, err := c.Output()
	require.NoError(t, err, complaint.String())
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	name, digest, _ := strings.Cut(strings.TrimSpace(string(said)), " ")
	require.Equal(t, "lab.invalid/egressaudit:v1.2.3", name)
	require.Regexp(t, "^sha256:[0-9a-f]{64}$", digest)
	return b, digest
}

// elsewhere is a copy of the checkout in another folder, without its history.
func elsewhere(t *testing.T) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "somewhere", "else")
	require.NoError(t, os.MkdirAll(to, 0o755))
	c := exec.Command("sh", "-ec", `git ls-files -co --exclude-standard -z | xargs -0 cp --parents -t "$0"`, to)
	c.Dir = ".."
	out, err := c.CombinedOutput()
	require.NoError(t, err, string(out))
	return to
}

// TestImage: one static program of an unprivileged user, folders that it may write
// to, and the same octets from another folder.
func TestImage(t *testing.T) {
	suite.Need(t, "buildah", "git")
	image, digest := build(t, "..", "amd64")
	again, same := build(t, elsewhere(t), "amd64")
	require.Equal(t, digest, same)
	require.True(t, bytes.Equal(image, again), "the archives differ")

	files, _ := archive(t, bytes.NewReader(image))
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	require.NoError(t, json.Unmarshal(files["manifest.json"], &manifest))
	require.Equal(t, []string{"lab.invalid/egressaudit:v1.2.3"}, manifest[0].RepoTags)
	var layers []string
	owners := map[string]int{}
	for _, l := range manifest[0].Layers {
		_, headers := archive(t, bytes.NewReader(files[l]))
		for name, h := range headers {
			layers = append(layers, name)
			owners[name] = h.Uid
			require.Zero(t, h.ModTime.Unix(), name)
		}
	}
	require.ElementsMatch(t, []string{"egressaudit", "ledger/", "tmp/", "run/", "run/egressaudit/"}, layers)
	require.Zero(t, owners["egressaudit"], "what runs cannot write itself")
	require.Equal(t, 64042, owners["ledger/"])
	var config struct {
		Architecture string
		Created      string
		Config       struct {
			User       string
			Entrypoint []string
			Labels     map[string]string
		}
	}
	require.NoError(t, json.Unmarshal(files[manifest[0].Config], &config))
	require.Equal(t, "64042:64042", config.Config.User)
	require.Equal(t, []string{"/egressaudit"}, config.Config.Entrypoint)
	require.Equal(t, "v1.2.3", config.Config.Labels["org.opencontainers.image.version"])
	require.Equal(t, "1970-01-01T00:00:00Z", config.Created)
	runs(t, files[manifest[0].Layers[0]])
}

// runs starts the program of a layer where there is nothing else, as its user.
func runs(t *testing.T, layer []byte) {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, os.Chmod(root, 0o755))
	files, _ := archive(t, bytes.NewReader(layer))
	require.NoError(t, os.WriteFile(filepath.Join(root, "egressaudit"), files["egressaudit"], 0o755))
	out, err := exec.Command("chroot", "--userspec=64042:64042", root, "/egressaudit", "version").CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, "egressaudit v1.2.3\n", string(out))
}

// TestImageArm: the other architecture is built here, too.
func TestImageArm(t *testing.T) {
	suite.Need(t, "buildah")
	image, _ := build(t, "..", "arm64")
	files, _ := archive(t, bytes.NewReader(image))
	var config struct{ Architecture string }
	for name, b := range files {
		if strings.HasSuffix(name, ".json") && name != "manifest.json" {
			require.NoError(t, json.Unmarshal(b, &config))
		}
	}
	require.Equal(t, "arm64", config.Architecture)
}
