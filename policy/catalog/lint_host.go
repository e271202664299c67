package catalog

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/egressaudit/egressaudit/policy"
)

// place is a host that Lint looks at.
type place struct {
	*linter
	row  *row
	host policy.Pattern
	line int
}

func (at place) add(s Severity, kind, format string, args ...any) {
	at.linter.add(Problem{Line: at.line, Severity: s, Kind: kind, Requirement: at.row.ID, Host: at.host.String()}, format, args...)
}

// endpoint is the host with its port.
func (at place) endpoint() string { return policy.JoinPort(at.host.String(), at.row.Port) }

func (at place) duplicate() {
	first, ok := at.seen[at.endpoint()]
	switch {
	case !ok:
		at.seen[at.endpoint()] = at
	case first.row == at.row:
		at.add(Warning, DuplicateEndpoint, "%s stands in line %d already: take one out", at.endpoint(), first.line)
	case first.row.Scope == at.row.Scope:
		at.add(Warning, DuplicateEndpoint, "%s stands in line %d already, in requirement %q of the same scope: it counts twice in every report; take one out",
			at.endpoint(), first.line, first.row.ID)
	default:
		at.add(Note, DuplicateEndpoint, "%s stands in line %d too, in requirement %q for scope %q: it counts twice where both scopes are required",
			at.endpoint(), first.line, first.row.ID, first.row.Scope)
	}
}

// shared are suffixes under which every customer takes a name, and which the
// public suffix list does not have.
var shared = []string{
	"azurecr.io", "azurecr.us", "azurecr.cn", "kusto.windows.net", "database.windows.net",
	"table.core.windows.net", "queue.core.windows.net", "dfs.core.windows.net",
	"table.core.usgovcloudapi.net", "queue.core.usgovcloudapi.net",
	"vault.azure.net", "vault.usgovcloudapi.net", "vault.azure.cn",
	"servicebus.usgovcloudapi.net", "servicebus.chinacloudapi.cn", "documents.azure.com",
	"r2.cloudflarestorage.com", "pkg.dev",
}

// suffixKind says whether names directly under s are anybody's: "public" for a
// public suffix, "own" for a last label that no registry lists, "shared" for
// the customers of one provider, "" otherwise.
func suffixKind(s string) string {
	if s == "" {
		return "public"
	}
	suffix, icann := publicsuffix.PublicSuffix(s)
	switch {
	case slices.Contains(shared, s):
		return "shared"
	case suffix != s:
		return ""
	case icann:
		return "public"
	case strings.Contains(s, "."):
		return "shared"
	}
	return "own"
}

// suffix looks at what a wildcard is open to, and at exact hosts where a
// wildcard was meant.
func (at place) suffix() {
	text := at.host.String()
	if n, ok := at.host.Literal(); ok {
		if _, addr := n.Addr(); !addr && strings.Contains(text, ".") && suffixKind(text) == "shared" {
			at.add(Warning, BareSuffix, "every customer has a name of their own below %q, and an exact host meets none of those (did you mean %q, or better \"<name>.%s\"?)",
				text, "*."+text, text)
		}
		return
	}
	rest := at.host.Suffix()
	wild := strings.Contains(text, "*")
	switch kind := suffixKind(rest); {
	case kind == "public" && wild && rest == "":
		at.add(Mistake, PublicSuffix, "the last label is open, so names of the whole internet match: with enforce nothing is kept in; write the domain out")
	case kind == "public" && wild:
		at.add(Mistake, PublicSuffix, "%q is a public suffix: anybody can register a name under it and take data out through this rule; write the domain out", rest)
	case kind == "public":
		at.add(Warning, PublicSuffix, "as long as the placeholder is open, this matches names that anybody can register: always give it a value with --set")
	case kind == "own" && wild:
		at.add(Note, PublicSuffix, "every name under %q matches; no public registry has it, so make sure that it is yours alone", rest)
	case kind == "shared" && wild:
		at.add(Warning, SharedSuffix, "any customer can have a name under %q, so data can leave to anybody's account: where the name is known, write it out, or use a placeholder (%q)",
			rest, "<name>."+rest)
	case kind == "":
		at.apex()
	}
}

// apex tells of a registrable domain that is listed with its wildcard alone.
func (at place) apex() {
	base, ok := at.host.Base()
	if ok && base.Registrable() == base.String() && !at.carries(base) {
		at.add(Note, ApexMissing, "this does not match %q itself: where that is called too, list it beside", base.String())
	}
}

// carries says whether a host of the file matches n on the same port.
func (at place) carries(n policy.Name) bool {
	return len(at.hosts.Match(nil, n, at.row.Port)) > 0
}

// companion tells of a host that belongs to a wildcard, its base or the domain
// above (mcr.microsoft.com of *.data.mcr.microsoft.com), where other catalogs
// list it and this one does not: alone, this catalog lets the half through.
func (at place) companion() {
	base := at.host.Suffix()
	if _, literal := at.host.Literal(); literal || base == "" {
		return
	}
	_, above, _ := strings.Cut(base, ".")
	for _, s := range []string{base, above} {
		n, err := policy.ParseName(s)
		if err != nil || n.Registrable() == "" || at.carries(n) {
			continue
		}
		if in := at.listed[s]; len(in) > 0 {
			at.add(Warning, CompanionElsewhere, "%q belongs to it and is not in this catalog, but in %s: use them together, or add it here", s, policy.List(in, "and"))
		}
	}
}

// literalPlaceholder tells of a label that is spelled like a placeholder.
func (at place) literalPlaceholder() {
	text := at.host.String()
	for _, label := range strings.Split(text, ".") {
		for _, p := range at.file.Placeholders {
			if label == p.Name {
				meant := strings.Replace("."+text, "."+label, ".<"+label+">", 1)[1:]
				at.add(Warning, PlaceholderLiteral, "the label %q is spelled like the placeholder and matches only itself (did you mean %q?)", label, meant)
			}
		}
	}
}

// misplacedWildcard tells of a * within a label where a dot makes a host of it
// that a catalog lists.
func (at place) misplacedWildcard() {
	text := at.host.String()
	first, rest, _ := strings.Cut(text, ".")
	if piece, ok := strings.CutSuffix(first, "*"); ok && piece != "" {
		for _, meant := range []string{"*." + strings.Trim(piece, "-") + "." + rest, piece + "." + rest} {
			in := at.listed[meant]
			if at.own[meant] {
				in = []string{at.file.Name}
			}
			if len(in) > 0 {
				at.add(Warning, WildcardMisplaced, "a * within a label stays within it; %s has %q (did you mean that?)", policy.List(in[:1], ""), meant)
				return
			}
		}
	}
	if inner := strings.SplitN(text, ".", 2); len(inner) == 2 {
		for _, label := range strings.Split(inner[1], ".") {
			if label != "*" && strings.Contains(label, "*") {
				at.add(Note, WildcardMisplaced, "the * in %q stands for characters of that one label only", label)
			}
		}
	}
}

// minTypo is the length from which a name one letter off another is no
// coincidence.
const minTypo = 5

// domainTypo tells of a registrable domain that no other catalog has, and that
// is one letter off one that others have.
func (at place) domainTypo() {
	domain := registrable(at.host)
	name, suffix, _ := strings.Cut(domain, ".")
	if len(name) < minTypo {
		return
	}
	if at.domains[domain] != nil {
		return
	}
	for _, d := range slices.Sorted(maps.Keys(at.domains)) {
		n, s, _ := strings.Cut(d, ".")
		if s == suffix && policy.Distance(n, name) == 1 {
			at.add(Warning, DomainTypo, "domain %q is in no other catalog, and one letter off %q, which %d have (did you mean that?)",
				domain, d, len(at.domains[d]))
			return
		}
	}
}

// registrable is the registrable domain of a host's literal end.
func registrable(p policy.Pattern) string {
	n, err := policy.ParseName(p.Suffix())
	if err != nil {
		return ""
	}
	return n.Registrable()
}
