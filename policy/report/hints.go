package report

import (
	"maps"
	"slices"
	"strings"
)

// hint is what service records (HTTPS, SVCB: RFC 9460) of a name offer.
type hint struct {
	h3       bool // HTTP/3
	ech      bool // keys for Encrypted ClientHello reached a client
	stripped bool // they were taken out
}

// hint enters a question for other records than addresses.
func (b *book) hint(q *question) {
	if len(q.Detail) == 0 {
		return
	}
	now := hint{h3: slices.ContainsFunc(strings.Split(fact(q.Detail, "alpn"), ", "), overQUIC)}
	now.stripped = q.Detail["ech_stripped"] == true
	now.ech = q.Detail["ech"] == true && !now.stripped
	if now == (hint{}) {
		return
	}
	was, known := b.hints[q.text]
	if !known && len(b.hints) >= maxHints {
		b.moreHint++
		return
	}
	now = hint{now.h3 || was.h3, now.ech || was.ech, now.stripped || was.stripped}
	if known {
		b.hints[q.text] = now
		return
	}
	b.hints[keep(q.text)] = now
}

// overQUIC says whether an ALPN name is HTTP/3 or a draft of it.
func overQUIC(protocol string) bool { return protocol == "h3" || strings.HasPrefix(protocol, "h3-") }

// offers tells what names offer in DNS that hides traffic or its name from us.
func (j *judgement) offers(say func(bool, string, ...any)) {
	var h3, ech, stripped []string
	for _, name := range slices.Sorted(maps.Keys(j.b.hints)) {
		h := j.b.hints[name]
		h3, ech, stripped = addIf(h3, h.h3, name), addIf(ech, h.ech, name), addIf(stripped, h.stripped, name)
	}
	say(len(h3) > 0, "%d %s HTTP/3 in DNS: a client may go there by QUIC (UDP 443), past a proxy for TCP: %s",
		len(h3), plural(uint64(len(h3)), "name offers", "names offer"), listing(h3, 8))
	say(len(ech) > 0, "%d %s keys for Encrypted ClientHello in DNS: a client may hide there which name it means, unless --strip-ech takes them out: %s",
		len(ech), plural(uint64(len(ech)), "name offers", "names offer"), listing(ech, 8))
	say(len(stripped) > 0, "--strip-ech took the keys for Encrypted ClientHello out of the answers for %d %s: clients saw other answers than without egressaudit: %s",
		len(stripped), plural(uint64(len(stripped)), "name", "names"), listing(stripped, 8))
	say(j.b.moreHint > 0, "%d more answers offered HTTP/3 or Encrypted ClientHello, for names too many to list", j.b.moreHint)
}

func addIf(list []string, when bool, s string) []string {
	if when {
		return append(list, s)
	}
	return list
}
