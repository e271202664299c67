package ledger

import (
	"bytes"
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/egressaudit/egressaudit/policy"
)

// appendRecord appends r as one JSON object, without a line feed, to dst. It
// writes what encoding/json would (but for the spelling of times and escapes),
// and decode relies on its order of fields.
func appendRecord(dst []byte, r *policy.Record) []byte {
	dst = append(dst, `{"schema":`...)
	dst = strconv.AppendInt(dst, int64(r.Schema), 10)
	dst = append(dst, `,"seq":`...)
	dst = strconv.AppendUint(dst, r.Seq, 10)
	dst = append(dst, `,"time":`...)
	dst = appendTime(dst, r.Time)
	dst = append(dst, `,"kind":`...)
	dst = appendString(dst, string(r.Kind))
	dst = appendText(dst, `,"trial":`, r.Trial)
	dst = appendText(dst, `,"vantage":`, r.Vantage)
	dst = appendText(dst, `,"phase":`, r.Phase)
	if r.Session != nil {
		dst = appendSession(dst, r.Session)
	}
	if r.Observation != nil {
		dst = appendObservation(dst, r.Observation)
	}
	dst = appendText(dst, `,"reason":`, r.Reason)
	dst = appendText(dst, `,"text":`, r.Text)
	dst = appendNumber(dst, `,"count":`, int64(r.Count))
	dst = appendText(dst, `,"why":`, r.Why)
	return append(dst, '}')
}

func appendSession(dst []byte, s *policy.Session) []byte {
	dst = appendText(dst, `,"version":`, s.Version)
	dst = appendCatalogs(dst, s.Catalogs)
	dst = appendList(dst, `,"scopes":`, s.Scopes)
	dst = appendList(dst, `,"regions":`, s.Regions)
	dst = appendList(dst, `,"set":`, s.Set)
	dst = appendText(dst, `,"mode":`, s.Mode)
	dst = appendText(dst, `,"parent":`, s.Parent)
	dst = appendList(dst, `,"listeners":`, s.Listeners)
	dst = appendMap(dst, `,"limits":`, s.Limits)
	dst = appendText(dst, `,"ledger":`, s.Ledger)
	dst = appendText(dst, `,"canary":`, s.Canary)
	dst = appendList(dst, `,"no_proxy":`, s.NoProxy)
	dst = appendList(dst, `,"blind_spots":`, s.BlindSpots)
	if s.ChildStatus != nil {
		dst = append(dst, `,"child_status":`...)
		dst = strconv.AppendInt(dst, int64(*s.ChildStatus), 10)
	}
	return dst
}

func appendObservation(dst []byte, o *policy.Observation) []byte {
	dst = appendText(dst, `,"id":`, o.ID)
	dst = appendTrue(dst, `,"open":`, o.Open)
	dst = appendText(dst, `,"origin":`, o.Origin)
	dst = appendText(dst, `,"listener":`, o.Listener)
	dst = appendAddr(dst, `,"client":`, o.Client)
	dst = appendText(dst, `,"workload":`, o.Workload)
	dst = appendText(dst, `,"asked":`, o.Asked)
	dst = appendText(dst, `,"sni":`, o.SNI)
	dst = appendText(dst, `,"sni_state":`, o.SNIState)
	dst = appendText(dst, `,"resolved":`, o.Resolved)
	dst = appendText(dst, `,"name":`, o.Name)
	dst = appendText(dst, `,"name_from":`, o.NameFrom)
	dst = appendNumber(dst, `,"port":`, int64(o.Port))
	dst = appendAddr(dst, `,"address":`, o.Address)
	dst = appendText(dst, `,"protocol":`, o.Protocol)
	dst = appendText(dst, `,"method":`, o.Method)
	dst = appendNumber(dst, `,"status":`, int64(o.Status))
	dst = appendText(dst, `,"host":`, o.Host)
	dst = appendList(dst, `,"alpn":`, o.ALPN)
	dst = appendText(dst, `,"tls_version":`, o.TLSVersion)
	dst = appendText(dst, `,"type":`, o.Type)
	dst = appendText(dst, `,"transport":`, o.Transport)
	dst = appendText(dst, `,"rcode":`, o.RCode)
	dst = appendList(dst, `,"answers":`, o.Answers)
	dst = appendList(dst, `,"cnames":`, o.CNAMEs)
	dst = appendText(dst, `,"upstream":`, o.Upstream)
	dst = appendMatches(dst, o.Matches)
	dst = appendText(dst, `,"decision":`, o.Decision)
	dst = appendTrue(dst, `,"would_deny":`, o.WouldDeny)
	dst = appendText(dst, `,"outcome":`, o.Outcome)
	dst = appendText(dst, `,"stage":`, o.Stage)
	dst = appendText(dst, `,"error":`, o.Error)
	dst = appendText(dst, `,"by":`, o.By)
	dst = appendText(dst, `,"confidence":`, o.Confidence)
	dst = appendMap(dst, `,"detail":`, o.Detail)
	dst = appendNumber(dst, `,"bytes_up":`, o.BytesUp)
	dst = appendNumber(dst, `,"bytes_down":`, o.BytesDown)
	dst = appendNumber(dst, `,"resolve_ms":`, o.ResolveMS)
	dst = appendNumber(dst, `,"connect_ms":`, o.ConnectMS)
	dst = appendNumber(dst, `,"first_byte_ms":`, o.FirstByteMS)
	return appendNumber(dst, `,"duration_ms":`, o.DurationMS)
}

func appendCatalogs(dst []byte, refs []policy.CatalogRef) []byte {
	if len(refs) == 0 {
		return dst
	}
	dst = append(dst, `,"catalogs":[`...)
	for i, c := range refs {
		dst = appendComma(dst, i)
		dst = append(dst, `{"name":`...)
		dst = appendString(dst, c.Name)
		dst = appendText(dst, `,"revision":`, c.Revision)
		dst = appendText(dst, `,"digest":`, c.Digest)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

func appendMatches(dst []byte, matches []policy.Match) []byte {
	if len(matches) == 0 {
		return dst
	}
	dst = append(dst, `,"matches":[`...)
	for i, m := range matches {
		dst = appendComma(dst, i)
		dst = append(dst, `{"catalog":`...)
		dst = appendString(dst, m.Catalog)
		dst = append(dst, `,"requirement":`...)
		dst = appendString(dst, m.Requirement)
		dst = append(dst, `,"endpoint":`...)
		dst = appendString(dst, m.Endpoint)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// appendText and its neighbours append key, with its comma and colon, and a
// value; they append nothing where the value is empty.
func appendText[T ~string](dst []byte, key string, v T) []byte {
	if v == "" {
		return dst
	}
	return appendString(append(dst, key...), string(v))
}

func appendNumber(dst []byte, key string, v int64) []byte {
	if v == 0 {
		return dst
	}
	return strconv.AppendInt(append(dst, key...), v, 10)
}

func appendTrue(dst []byte, key string, v bool) []byte {
	if !v {
		return dst
	}
	return append(append(dst, key...), "true"...)
}

// appendAddr leaves out an address that is none, for no reader could parse it.
func appendAddr(dst []byte, key string, a netip.AddrPort) []byte {
	switch {
	case !a.IsValid():
		return dst
	case a.Addr().Zone() != "":
		return appendText(dst, key, a.String())
	}
	dst = append(append(dst, key...), '"')
	return append(a.AppendTo(dst), '"')
}

func appendList(dst []byte, key string, list []string) []byte {
	if len(list) == 0 {
		return dst
	}
	return appendStrings(append(dst, key...), list)
}

func appendStrings(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		dst = appendString(appendComma(dst, i), s)
	}
	return append(dst, ']')
}

// appendMap appends m with its keys sorted, so that equal records are equal
// lines.
func appendMap(dst []byte, key string, m map[string]any) []byte {
	if len(m) == 0 {
		return dst
	}
	var few [16]string
	keys := few[:0]
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	dst = append(append(dst, key...), '{')
	for i, k := range keys {
		dst = append(appendString(appendComma(dst, i), k), ':')
		dst = appendAny(dst, m[k])
	}
	return append(dst, '}')
}

func appendAny(dst []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return appendString(dst, v)
	case bool:
		return strconv.AppendBool(dst, v)
	case int:
		return strconv.AppendInt(dst, int64(v), 10)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case uint16:
		return strconv.AppendUint(dst, uint64(v), 10)
	case uint64:
		return strconv.AppendUint(dst, v, 10)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return appendString(dst, strconv.FormatFloat(v, 'g', -1, 64))
		}
		return strconv.AppendFloat(dst, v, 'g', -1, 64)
	case []string:
		return appendStrings(dst, v)
	case error:
		return appendString(dst, v.Error())
	}
	return appendOther(dst, v)
}

// appendOther has encoding/json write v; what even that cannot write becomes a
// text that says so, for a line must stay whole.
func appendOther(dst []byte, v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return appendString(dst, "not written: "+err.Error())
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}

func appendComma(dst []byte, i int) []byte {
	if i > 0 {
		dst = append(dst, ',')
	}
	return dst
}

// appendTime appends t as RFC 3339 with nine digits of a second, in UTC. A year
// that RFC 3339 cannot write becomes the zero time.
func appendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return appendTime(dst, time.Time{})
	}
	hour, minute, second := t.Clock()
	dst = append(dst, '"')
	dst = append(appendDigits(dst, year, 1000), '-')
	dst = append(appendDigits(dst, int(month), 10), '-')
	dst = append(appendDigits(dst, day, 10), 'T')
	dst = append(appendDigits(dst, hour, 10), ':')
	dst = append(appendDigits(dst, minute, 10), ':')
	dst = append(appendDigits(dst, second, 10), '.')
	dst = appendDigits(dst, t.Nanosecond(), 100_000_000)
	return append(dst, 'Z', '"')
}

// appendDigits appends n with leading zeros; first is the weight of its first
// digit.
func appendDigits(dst []byte, n, first int) []byte {
	for ; first > 0; first /= 10 {
		dst = append(dst, byte('0'+n/first%10))
	}
	return dst
}

const hex = "0123456789abcdef"

// plain tells the bytes that stand in a JSON string as they are.
var plain = func() (t [256]bool) {
	for c := ' '; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendString appends s as a JSON string.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); {
		if plain[s[i]] {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r >= 0xa0 && r != 0x2028 && r != 0x2029 && (r != utf8.RuneError || n > 1) {
			i += n
			continue
		}
		dst = appendEscape(append(dst, s[done:i]...), r)
		i += n
		done = i
	}
	return append(append(dst, s[done:]...), '"')
}

// appendEscape escapes a character of the first plane.
func appendEscape(dst []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\n':
		return append(dst, `\n`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
