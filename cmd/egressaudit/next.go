package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/egressaudit/egressaudit/policy/catalog"
	"github.com/egressaudit/egressaudit/policy/report"
)

// next says where the recording is, and with which two commands to go on.
func (t *trial) next(env environ, r *required, v report.Verdict) {
	held := r.again()
	path := t.path
	if strings.HasPrefix(path, "-") {
		path = "./" + path
	}
	path = quote(path)
	say(env, "the recording is %s; to go on:", report.Escape(t.path))
	for _, c := range [][2]string{
		{"egressaudit report" + held + " --format html -o report.html " + path, "one page, with a timeline"},
		map[report.Verdict][2]string{
			report.Gaps:       {"egressaudit report" + held + " --format csv -o rules.csv " + path, "the rules to ask for"},
			report.Clear:      {"egressaudit report" + held + " --narrow " + path, "the hosts behind wildcards"},
			report.CannotTell: {"egressaudit ledger show " + path, "what was recorded"},
		}[v],
	} {
		fmt.Fprintf(env.stderr, "  %s  # %s\n", c[0], c[1])
	}
}

// again are the flags that a report over the recording needs: one of embedded
// catalogs finds them by itself, and what they were filled with.
func (r *required) again() string {
	if !slices.ContainsFunc(r.catalogs, func(c string) bool { return !slices.Contains(catalog.Names(), c) }) {
		return ""
	}
	out := ""
	for _, c := range r.catalogs {
		out += " --catalog " + quote(c)
	}
	if len(r.scopes) > 0 {
		out += " --scope " + quote(strings.Join(r.scopes, ","))
	}
	return out
}

// quote makes one word of a POSIX shell of s, in which nothing is unprintable.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:,=+@%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(report.Escape(s), "'", `'\''`) + "'"
}
