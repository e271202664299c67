package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A change is told once, when two readings agree on it.
func TestWatchedFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	put := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	put("one")
	w := &watched{files: func() []string { return []string{path, "azure-arc"} }}
	w.read()
	for why, step := range []struct {
		do   func()
		want []bool
	}{
		0: {func() {}, []bool{false, false}},
		1: {func() { put("two") }, []bool{false, true, false, false}},
		2: {func() { put("thr") }, []bool{false}}, // being written
		3: {func() { put("three") }, []bool{false, true, false}},
		4: {func() { put("four") }, []bool{false}},
		5: {func() { put("three") }, []bool{false, false}}, // as it was: nothing to do
		6: {func() { require.NoError(t, os.Remove(path)) }, []bool{false, true, false}},
		7: {func() { put("three") }, []bool{false, true, false}},
		8: {func() { put("five"); w.read() }, []bool{false, false}}, // SIGHUP was before us
		9: {func() { require.NoError(t, os.Chtimes(path, time.Now(), time.Now())) }, []bool{false, false}},
	} {
		step.do()
		for i, want := range step.want {
			require.Equal(t, want, w.changed(), "step %d, reading %d", why, i)
		}
	}
}

// A ConfigMap's files are links through a link that is replaced.
func TestWatchedConfigMap(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name, "c.yaml"), []byte(text), 0o600))
		require.NoError(t, os.Symlink(name, filepath.Join(dir, "..data_tmp")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	version("..1", "one")
	path := filepath.Join(dir, "c.yaml")
	require.NoError(t, os.Symlink("..data/c.yaml", path))
	w := &watched{files: func() []string { return []string{path} }}
	w.read()
	version("..2", "two")
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "..1")))
	require.False(t, w.changed())
	require.True(t, w.changed())
	require.False(t, w.changed())
	version("..3", "two")
	require.False(t, w.changed())
	require.False(t, w.changed(), "another file with the same content")
}

// What is no file is not waited for.
func TestWatchedNoFile(t *testing.T) {
	require.Equal(t, digestOf([]string{"/dev/zero"}), digestOf([]string{"/dev/zero"}))
	require.NotEqual(t, digestOf([]string{"a", "b"}), digestOf([]string{"b", "a"}))
}
