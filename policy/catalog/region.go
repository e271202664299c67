package catalog

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"

	"github.com/egressaudit/egressaudit/policy"
)

// Region is one region of a cloud.
type Region struct {
	Name    string `yaml:"name" json:"name"`                   // as it stands in host names: "eastus"
	Display string `yaml:"display" json:"display"`             // as people read it: "East US"
	Cloud   string `yaml:"cloud" json:"cloud"`                 // public, usgov, china, or germany-closed
	ArcCode string `yaml:"arc_code" json:"arc_code,omitempty"` // in <code>.his.arc.azure.com; "" where the publisher names none
}

//go:embed regions.yaml
var regionFile []byte

var regions = sync.OnceValue(func() []Region {
	var out []Region
	if err := yaml.UnmarshalWithOptions(regionFile, &out, yaml.Strict()); err != nil {
		panic(err) // the file is part of the program
	}
	return out
})

// Regions lists the known regions, sorted by name.
func Regions() []Region { return slices.Clone(regions()) }

// CheckRegion says whether a list that the program carries knows the region
// name. New regions come faster than lists: the error has the nearest names,
// and tells how to use the name all the same. One without letters is none.
func CheckRegion(name string) error {
	if squeeze(name) == "" { // or else it would mean every region without an arc code
		return fmt.Errorf("region %q: no name (write one such as eastus)", name)
	}
	var names, meant []string
	for _, r := range regions() {
		switch {
		case strings.EqualFold(r.Name, name):
			return nil
		case strings.EqualFold(squeeze(r.Display), squeeze(name)), r.ArcCode == strings.ToLower(name):
			meant = append(meant, r.Name)
		}
		names = append(names, r.Name)
	}
	if len(meant) == 0 {
		meant = policy.Nearest(name, names)
	}
	hint := ""
	if checkValue(name) == nil {
		hint = "; --set region=" + name + " takes it all the same"
	}
	return fmt.Errorf("region %q: not in the list of known regions%s%s", name, policy.DidYouMean(meant), hint)
}

// squeeze takes the blanks and hyphens out of a region's name.
func squeeze(s string) string { return strings.NewReplacer(" ", "", "-", "", "_", "").Replace(s) }
