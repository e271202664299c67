package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
)

// pack writes an image FROM scratch as a docker-archive: files by their path in
// the image, all of them programs, the first the entry point.
func pack(archive, name string, files ...packed) error {
	layer, err := tarball(files)
	if err != nil {
		return err
	}
	diff := fmt.Sprintf("%x", sha256.Sum256(layer))
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z",
		"config":  map[string]any{"Entrypoint": []string{"/" + files[0].path}, "Env": []string{"PATH=/"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + diff}},
		"history": []any{map[string]string{"created": "1970-01-01T00:00:00Z"}},
	})
	if err != nil {
		return err
	}
	id := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]any{map[string]any{"Config": id, "RepoTags": []string{name}, "Layers": []string{diff + "/layer.tar"}}})
	if err != nil {
		return err
	}
	image, err := tarball([]packed{{"manifest.json", manifest}, {id, config}, {diff + "/layer.tar", layer}})
	if err != nil {
		return err
	}
	return os.WriteFile(archive, image, 0o644)
}

// packed is a file of an image.
type packed struct {
	path string
	text []byte
}

func tarball(files []packed) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.path, Mode: 0o755, Size: int64(len(f.text)), Format: tar.FormatUSTAR}); err != nil {
			return nil, fmt.Errorf("pack %q: %w", f.path, err)
		}
		if _, err := w.Write(f.text); err != nil {
			return nil, fmt.Errorf("pack %q: %w", f.path, err)
		}
	}
	return b.Bytes(), w.Close()
}
