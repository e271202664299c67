package catalog

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNames(t *testing.T) {
	require.Equal(t, []string{
		"aks-cluster-extensions", "aml-extension", "aml-kubernetes", "arc-data-services",
		"azure-arc", "azure-arc-china", "azure-arc-usgov",
		"azure-policy", "azure-policy-china", "azure-policy-usgov",
		"container-insights", "container-insights-china", "container-insights-usgov",
		"defender-for-containers", "key-vault-secrets-provider",
	}, Names())
	for _, f := range loadAll(t) {
		require.Equal(t, "embedded/"+f.Name+".yaml", f.Path)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(one("a.example.org")), 0o600))
	}
	write("mine.yaml")
	write("mine")
	write("azure-arc")

	for _, name := range []string{"mine.yaml", "mine", "./azure-arc", filepath.Join(dir, "mine")} {
		f, err := Load(name)
		require.NoError(t, err, name)
		require.Equal(t, "x", f.Name, name)
		require.Equal(t, name, f.Path)
	}
	f, err := Load("azure-arc")
	require.NoError(t, err)
	require.Equal(t, "azure-arc", f.Name, "an embedded name goes before a file")
}

func TestLoadErrors(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("big.yaml", make([]byte, maxFile+1), 0o600))
	require.NoError(t, os.Mkdir("folder", 0o700))
	for name, want := range map[string]string{
		"aml-extnsion": `catalog "aml-extnsion": no such catalog, neither embedded nor a file (did you mean "aml-extension"?); "egressaudit catalog list" names the embedded ones`,
		"aml":          `catalog "aml": no such catalog, neither embedded nor a file (did you mean "aml-extension" or "aml-kubernetes"?); "egressaudit catalog list" names the embedded ones`,
		"nothing-like": `catalog "nothing-like": no such catalog, neither embedded nor a file; "egressaudit catalog list" names the embedded ones`,
		"big.yaml":     `read catalog "big.yaml": the file is larger than 1 MiB`,
	} {
		_, err := Load(name)
		require.EqualError(t, err, want)
	}
	_, err := Load("aml")
	require.ErrorIs(t, err, ErrUnknown)
	_, err = Load("missing.yaml")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Regexp(t, `^read catalog "missing.yaml": [^:]*$`, err.Error(), "the path stands once")
	_, err = Load("folder")
	require.ErrorContains(t, err, `read catalog "folder": `)
}
