package dnsaudit

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// hostsCheck is how long the hosts file is believed unchanged.
const hostsCheck = time.Second

// hosts answers from a hosts(5) file and reads it again when it has changed. A
// file that is not there is an empty one; one that cannot be read any more
// keeps its last content. Safe for use by several goroutines at once.
type hosts struct {
	file string
	now  func() time.Time

	mu      sync.Mutex
	checked time.Time   // when it was last looked at
	seen    os.FileInfo // as it was when read; nil: no file
	byName  map[policy.Name][]netip.Addr
}

func openHosts(file string) (*hosts, error) {
	if file == "" {
		file = "/etc/hosts"
		if runtime.GOOS == "windows" {
			file = filepath.Join(os.Getenv("SystemRoot"), `System32\drivers\etc\hosts`)
		}
	}
	h := &hosts{file: file, now: time.Now}
	h.checked = h.now()
	if err := h.refresh(); err != nil {
		return nil, fmt.Errorf("read hosts file: %w", err)
	}
	return h, nil
}

// find returns the addresses of n in the order of the file. The slice is shared.
func (h *hosts) find(n policy.Name) []netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := h.now(); now.Sub(h.checked) >= hostsCheck {
		h.checked = now
		_ = h.refresh() // unreadable for now: the last content stays
	}
	return h.byName[n]
}

// refresh reads the file where it is another one than was read last.
func (h *hosts) refresh() error {
	is, err := os.Stat(h.file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		h.seen, h.byName = nil, nil
		return nil
	case err != nil:
		return err
	case h.seen != nil && is.ModTime().Equal(h.seen.ModTime()) && is.Size() == h.seen.Size() && os.SameFile(is, h.seen):
		return nil
	}
	text, err := os.ReadFile(h.file)
	if err != nil {
		return err
	}
	h.seen, h.byName = is, parseHosts(string(text))
	return nil
}

// parseHosts reads lines "ADDRESS NAME [NAME...] [# comment]". Several lines
// for one name add up; what is no address without zone, or no host name, is
// skipped.
func parseHosts(text string) map[policy.Name][]netip.Addr {
	byName := make(map[policy.Name][]netip.Addr)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		a, err := netip.ParseAddr(words[0])
		if err != nil || a.Zone() != "" {
			continue
		}
		a = a.Unmap()
		for _, word := range words[1:] {
			n, err := policy.ParseName(word)
			if err == nil && !slices.Contains(byName[n], a) {
				byName[n] = append(byName[n], a)
			}
		}
	}
	return byName
}
