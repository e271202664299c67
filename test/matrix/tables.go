package main

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

// readme holds the translation tables: what must be said of each cause. They are
// read here so that what is documented is what is demanded.
//
//go:embed README.md
var readme string

// verdict is what the report must say of one endpoint.
type verdict struct {
	key                          string
	status                       string
	stage, error, by, confidence string
	detail                       map[string]string // "?" is any value
	ask                          []string          // words in it
	finding                      string            // "" is that there is none
}

// label is the verdict in the confusion matrix.
func (v verdict) label() string {
	if v.status == "used" {
		return "used"
	}
	return strings.Join([]string{v.status, v.stage, v.error, v.by, v.confidence}, " ")
}

// tables are the README's, by what stands in their first column.
type tables struct {
	verdicts map[string]verdict
	ways     map[string]map[string]string // cause, then "direct CONNECT"
}

// readTables reads the README's tables; every verdict that a cell names must be
// there.
func readTables(text string) (*tables, error) {
	t := &tables{verdicts: map[string]verdict{}, ways: map[string]map[string]string{}}
	var head []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			head = nil
			continue
		}
		row := cells(line)
		switch {
		case head == nil:
			head = row
		case strings.HasPrefix(row[0], "---"):
		case len(row) != len(head):
			return nil, fmt.Errorf("translation table: row %q has %d cells under %d headings", row[0], len(row), len(head))
		case head[0] == "verdict":
			t.addVerdict(row)
		case head[0] == "cause":
			t.addWays(head, row)
		}
	}
	return t, t.check()
}

func cells(line string) []string {
	parts := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
	for i, p := range parts {
		parts[i] = strings.Trim(strings.TrimSpace(p), "`")
	}
	return parts
}

func (t *tables) addVerdict(row []string) {
	v := verdict{key: row[0], status: row[1], stage: row[2], error: row[3], by: row[4], confidence: row[5], detail: map[string]string{}}
	for _, fact := range list(row[6]) {
		name, value, _ := strings.Cut(fact, "=")
		v.detail[name] = value
	}
	v.ask, v.finding = list(row[7]), row[8]
	t.verdicts[v.key] = v
}

func (t *tables) addWays(head, row []string) {
	ways := map[string]string{}
	for i, way := range head[1:] {
		if row[i+1] != "" {
			ways[way] = row[i+1]
		}
	}
	t.ways[row[0]] = ways
}

func list(s string) []string {
	var out []string
	for _, p := range strings.Split(s, ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

func (t *tables) check() error {
	for cause, ways := range t.ways {
		for way := range ways {
			for _, who := range [][2]string{{"go", "1.3"}, {"curl", "1.3"}, {"curl", "1.2"}} {
				if _, _, err := t.expect(cause, way, who[0], who[1]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// expect is the verdict for a cause on one way, for a client that speaks that
// version of TLS; false where the cause is not played there.
func (t *tables) expect(cause, way, client, version string) (verdict, bool, error) {
	ways, ok := t.ways[cause]
	if !ok {
		return verdict{}, false, fmt.Errorf("cause %q: no row in the translation table", cause)
	}
	entry, ok := ways[way]
	if !ok {
		return verdict{}, false, nil
	}
	key, rest, _ := strings.Cut(entry, ";")
	for _, special := range strings.Split(rest, ";") {
		who, instead, ok := strings.Cut(special, ":")
		if who = strings.TrimSpace(who); ok && (who == client+" "+version || who == version) {
			key = strings.TrimSpace(instead)
		}
	}
	bare, tunnelled := strings.CutSuffix(key, "*")
	v, ok := t.verdicts[bare]
	if !ok {
		return verdict{}, false, fmt.Errorf("cause %q, %s: no verdict %q", cause, way, bare)
	}
	if tunnelled {
		v = v.throughParent()
	}
	return v, true, nil
}

// throughParent is the verdict in a tunnel through a parent.
func (v verdict) throughParent() verdict {
	v.key += "*"
	if v.confidence == "certain" {
		v.confidence = "likely"
	}
	v.ask = slices.DeleteFunc(slices.Clone(v.ask), func(s string) bool { return s == "firewall" })
	v.ask = append(v.ask, "proxy", "firewall behind it")
	return v
}
