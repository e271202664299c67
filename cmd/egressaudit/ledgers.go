package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/egressaudit/egressaudit/policy/ledger"
)

// checkLedgers refuses what no report can be made of: a pipe, which can be read
// but once, and a ledger that is there twice, for all of it would count twice.
func checkLedgers(files []string) error {
	first := map[string]string{} // a ledger's own name: the file
	for n, f := range files {
		if err := checkFile(f); err != nil {
			return err
		}
		id, err := identity(f)
		if err != nil {
			return err
		}
		for _, o := range files[:n] {
			if sameFile(o, f) || id != "" && first[id] == o {
				return fmt.Errorf("read ledger %q: it is the same as %q, and would count twice (name it once)", f, o)
			}
		}
		first[id] = f
	}
	return nil
}

// checkFile refuses a pipe or a device, where a file is read more than once.
func checkFile(path string) error {
	i, err := os.Stat(path)
	if path == "-" && err != nil || err == nil && !i.IsDir() && !i.Mode().IsRegular() {
		return fmt.Errorf("read %q: it is read more than once, and a stream cannot be (write it to a file, and name that)", path)
	}
	return nil
}

// identity is the UUID of a ledger's first session; "" where it has none.
func identity(path string) (string, error) {
	for rec, err := range ledger.Sessions(path) {
		var damage *ledger.Damage
		switch {
		case errors.As(err, &damage):
		case err != nil:
			return "", err
		case rec.Session != nil:
			return rec.Session.Ledger, nil
		}
	}
	return "", nil
}
