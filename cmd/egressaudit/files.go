package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// readTime is how often watched files are read. A change counts when two readings
// agree on it, so that a file is never taken in the middle of being written.
const readTime = 2 * time.Second

// watched are files whose content is looked at again and again. It is the content
// that counts: that tells a ConfigMap's files too, whose links change, and files on
// file systems that tell of no change. The nil one watches nothing.
type watched struct {
	files func() []string
	taken digest // the content that was acted upon, whatever came of it
	last  digest // that of the last reading
	timer *time.Ticker
}

type digest [sha256.Size]byte

// watched are --config, and the catalogs that it and the flags name.
func (d *daemon) watched(c *cobra.Command) *watched {
	if !d.watch {
		return nil
	}
	named := append([]string{d.config}, d.catalogs...)
	w := &watched{timer: time.NewTicker(readTime), files: func() []string {
		if i, err := os.Stat(d.config); err == nil && i.Mode().IsRegular() {
			if now, _, err := reread(c); err == nil { // else those that were right at last
				named = append([]string{now.config}, now.catalogs...)
			}
		}
		return slices.DeleteFunc(slices.Clone(named), func(f string) bool { return f == "" })
	}}
	w.read()
	return w
}

// ticks are the times to look.
func (w *watched) ticks() <-chan time.Time {
	if w == nil {
		return nil
	}
	return w.timer.C
}

// read takes the content as it is now for acted upon.
func (w *watched) read() {
	if w != nil {
		w.taken = digestOf(w.files())
		w.last = w.taken
	}
}

// changed looks once more, and says whether there is content to act upon, which it
// says once.
func (w *watched) changed() bool {
	now := digestOf(w.files())
	settled := now == w.last
	w.last = now
	if !settled || now == w.taken {
		return false
	}
	w.taken = now
	return true
}

// maxWatched bounds what is read of one file, in octets: more than a catalog or a
// configuration may have.
const maxWatched = 64 << 20

// digestOf tells the content of files apart. One that cannot be read has another
// than any that can; a catalog that is built in never changes.
func digestOf(files []string) (d digest) {
	all := sha256.New()
	for _, f := range files {
		one := sha256.New()
		if err := contentOf(one, f); err != nil {
			fmt.Fprintf(all, "%q %s\n", f, cause(err))
			continue
		}
		fmt.Fprintf(all, "%q %x\n", f, one.Sum(nil))
	}
	all.Sum(d[:0])
	return d
}

func contentOf(to hash.Hash, path string) error {
	i, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !i.Mode().IsRegular() { // a pipe would be read empty, or waited for
		return errors.New("no file")
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(to, io.LimitReader(f, maxWatched))
	return err
}
