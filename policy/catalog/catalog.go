// Package catalog owns the catalog file: its reading, its placeholders, the
// regions that fill them, what is suspicious in it (Lint), and the catalogs
// that are embedded in the program. It does not match hosts and judges no
// observation; those are policy and policy/report.
//
// # Format
//
// A catalog file is YAML of at most 1 MiB, one document, without anchors,
// aliases and tags:
//
//	schema: egressaudit/catalog/1
//	name: aml-extension
//	title: Azure Machine Learning extension
//	revision: "2021-11-19"
//	source: {title: Network requirements, url: https://...}
//	placeholders: {region: {description: where the cluster runs, example: eastus}}
//	requirements:
//	  - id: kusto-logs
//	    scope: extension
//	    hosts: ["*.kusto.windows.net", "<region>.api.azureml.ms"]
//	    port: 443
//	    protocol: https       # https, http, wss, tcp, udp
//	    purpose: upload of system logs
//	    needs: [websocket]    # optional; websocket, no-tls-inspection
//	    optional: false       # optional
//	    valid: {from: 2021-09-17, until: 2021-12-07}  # optional, either or both
//	    any_of: docker-blobs  # optional
//	    source: {title: ..., url: ..., revision: ...} # optional, or the URL alone
//
// Every other key is refused. "placeholders" may be missing; in it "example"
// may be. The dates of "valid" begin at midnight UTC: "from" is the first day
// that the requirement holds, "until" the first day that it holds no longer.
// A requirement's "source" names the page and revision that it was taken from
// where these are not the catalog's.
//
// A file whose meaning is clear is read, even if it is odd: a placeholder that
// is used and not defined, or defined and not used, is for Lint to tell.
package catalog

import (
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// Schema is the value of the key "schema" that this program reads.
const Schema = "egressaudit/catalog/1"

// maxFile is the size beyond which a catalog file is refused.
const maxFile = 1 << 20

// File is a catalog file as read, its placeholders still open. It does not
// change after Parse, and callers do not change it.
type File struct {
	Path         string // as errors and Problems name it
	Name         string
	Title        string
	Revision     string
	Source       Source
	Digest       string        // "sha256:" and the hex digest of the file's bytes
	Placeholders []Placeholder // as defined, in their order
	rows         []row
	sourceLine   int
}

// Source is the page that a catalog or requirement was taken from.
type Source struct {
	Title    string
	URL      string
	Revision string // date or version of the page
}

// Placeholder is a "<name>" that hosts of the catalog may hold.
type Placeholder struct {
	Name        string
	Description string
	Example     string // "" where the file gives none
	Line        int    // in the file, counted from 1
}

// row is a requirement with what Lint needs to point at it.
type row struct {
	policy.Requirement // its hosts with placeholders open
	source             Source
	line               int
	hostLines          []int
	lines              map[string]int // by key
}

// SourceOf is the page and revision that the requirement id was taken from: its
// own where it has one, else the catalog's.
func (f *File) SourceOf(id string) Source {
	for _, r := range f.rows {
		if r.ID == id {
			return r.source
		}
	}
	return f.Source
}

//go:embed embedded/*.yaml
var embedded embed.FS

// Names lists the embedded catalogs, sorted.
func Names() []string {
	entries, err := embedded.ReadDir("embedded")
	if err != nil {
		panic(err) // the directory is part of the program
	}
	var out []string
	for _, e := range entries {
		out = append(out, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	slices.Sort(out) // "azure-arc-china.yaml" is before "azure-arc.yaml"
	return out
}

// ErrUnknown is what the error of Load can be tested for when no embedded
// catalog has the name and no file either.
var ErrUnknown = errors.New("no such catalog")

// Load reads an embedded catalog by its name, or else a file. A text with a
// slash, or one that ends in .yaml or .yml, is a file's path in any case.
func Load(nameOrPath string) (*File, error) {
	if slices.Contains(Names(), nameOrPath) {
		name := path.Join("embedded", nameOrPath+".yaml")
		data, err := embedded.ReadFile(name)
		if err != nil {
			return nil, err
		}
		return Parse(name, data)
	}
	data, err := readFile(nameOrPath)
	if errors.Is(err, fs.ErrNotExist) && !looksLikePath(nameOrPath) {
		return nil, fmt.Errorf("catalog %q: %w, neither embedded nor a file%s; %q names the embedded ones",
			nameOrPath, ErrUnknown, policy.DidYouMean(policy.Nearest(nameOrPath, Names())), "egressaudit catalog list")
	}
	if err != nil {
		return nil, fmt.Errorf("read catalog %q: %w", nameOrPath, err)
	}
	return Parse(nameOrPath, data)
}

func looksLikePath(s string) bool {
	return strings.ContainsAny(s, `/\`) || strings.HasSuffix(s, ".yaml") || strings.HasSuffix(s, ".yml")
}

// readFile reads one byte more than a catalog may have, so that Parse sees
// where a file is too large. Its errors do not repeat the path.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	return data, cause(err)
}

func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func digest(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }
