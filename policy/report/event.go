package report

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// Limits of what is kept of events.
const (
	maxEvents    = 512  // different ones
	maxEventText = 1024 // octets
	maxNamed     = 8    // hosts in the text of one
	maxPodEvents = 64   // findings
	shownEvents  = 3    // beside an endpoint; the JSON has all
)

// Event is something that befell a workload, as Kubernetes told it.
type Event struct {
	Time     time.Time `json:"time,omitzero"` // of the first record
	Workload string    `json:"workload"`
	Reason   string    `json:"reason"`
	Text     string    `json:"text"`
	Count    int       `json:"count"` // how often it happened
	Seq      uint64    `json:"seq"`   // of the first record
}

// events are those of a trial.
type events struct {
	list []*befallen
	more int // that were too many
}

// befallen is an event with what it names.
type befallen struct {
	Event
	told string // the text as far as it tells events apart
	evidence
	named []mention
}

// mention is a host in a text, and its port where that is known.
type mention struct {
	name policy.Name
	port uint16
}

// befell enters an event.
func (b *book) befell(r *policy.Record) {
	e := Event{Time: stamp(r.Time), Reason: keep(r.Reason), Text: strings.Clone(cutText(r.Text, maxEventText)), Seq: r.Seq}
	if r.Observation != nil {
		e.Workload = keep(r.Workload)
	}
	told := ownPort.ReplaceAllString(e.Text, "->")
	i := slices.IndexFunc(b.events.list, func(o *befallen) bool { return o.Workload == e.Workload && o.Reason == e.Reason && o.told == told })
	switch {
	case i >= 0:
	case len(b.events.list) >= maxEvents:
		b.events.more++
		return
	default:
		i = len(b.events.list)
		b.events.list = append(b.events.list, &befallen{Event: e, told: told, named: namesIn(e.Text)})
	}
	at := b.events.list[i]
	at.Count = min(at.Count+min(max(r.Count, 1), 1e6), 1e9)
	at.add(r.Seq)
}

// ownPort is what differs in the text of one failure whenever it is met: the port
// that the kubelet's socket had, as in "read tcp 10.1.0.2:57620->203.0.113.9:443".
var ownPort = regexp.MustCompile(`:[0-9]{1,5}->`)

// cutText is s, cut where it is long.
func cutText(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-len("...")], "") + "..."
}

// namesIn finds the hosts that a text of the kubelet names: of URLs, of references
// to images, and those that were looked up or dialled.
func namesIn(text string) []mention {
	var out []mention
	add := func(host string, port uint16) {
		n, err := policy.ParseName(strings.Trim(host, "[]"))
		if at := (mention{n, port}); err == nil && len(out) < maxNamed && !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	for i := range len(text) {
		switch rest := text[i:]; {
		case strings.HasPrefix(rest, "https://"):
			add(hostAndPort(word(rest[len("https://"):], "/?#\"'\\ \t\n),"), 443))
		case strings.HasPrefix(rest, "http://"):
			add(hostAndPort(word(rest[len("http://"):], "/?#\"'\\ \t\n),"), 80))
		case strings.HasPrefix(rest, "lookup "):
			add(word(rest[len("lookup "):], ": \t\n\""), 0)
		case strings.HasPrefix(rest, "dial tcp "):
			add(hostAndPort(strings.TrimSuffix(word(rest[len("dial tcp "):], " \t\n\""), ":"), 0))
		case strings.HasPrefix(rest, `image "`), strings.HasPrefix(rest, `reference "`):
			_, quoted, _ := strings.Cut(rest, `"`)
			registries(word(quoted, `"`), add)
		}
	}
	return out
}

// word is s up to the first of some characters.
func word(s, ends string) string {
	if i := strings.IndexAny(s, ends); i >= 0 {
		return s[:i]
	}
	return s
}

// hostAndPort reads "host", "host:port", and the same with an address in brackets.
func hostAndPort(s string, port uint16) (string, uint16) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.String(), port
	}
	host, p := cutPort(s)
	return host, cmp.Or(p, port)
}

// registries are where an image comes from. A reference without a host is one of
// Docker Hub, which answers by another name.
func registries(reference string, add func(string, uint16)) {
	first, _, more := strings.Cut(reference, "/")
	if !more || !strings.ContainsAny(first, ".:") && first != "localhost" {
		first = "docker.io"
	}
	if first == "docker.io" {
		add("registry-1.docker.io", 443)
	}
	add(hostAndPort(first, 443))
}

// pulled is an image that a workload needs.
type pulled struct{ workload, image string }

// wants is what an event tells of the pull of; it has no image where that is not
// told, or not whose.
func (e *befallen) wants() pulled {
	_, quoted, _ := strings.Cut(e.Text, `image "`)
	if e.Workload == "" {
		return pulled{}
	}
	return pulled{e.Workload, word(quoted, `"`)}
}

// beside puts events beside the endpoints that they name and that do not work. A
// BackOff says that the pull of an image waits, and not why: it stands where the
// Failed of that workload and image does. The others are findings.
func (j *judgement) beside() {
	at := map[policy.Match][]*Endpoint{}
	for i := range j.r.Endpoints {
		e := &j.r.Endpoints[i]
		at[e.match()] = append(at[e.match()], e)
	}
	loose, failed := map[*befallen]string{}, map[pulled][]*Endpoint{}
	for _, e := range j.b.events.list {
		to, known := j.named(e, at)
		if len(to) == 0 {
			loose[e] = known
			continue
		}
		e.stand(to)
		if what := e.wants(); e.Reason == "Failed" && what.image != "" {
			failed[what] = append(failed[what], to...)
		}
	}
	told := 0
	for _, e := range j.b.events.list {
		known, ok := loose[e]
		why := failed[e.wants()]
		switch {
		case !ok:
		case e.Reason == "BackOff" && len(why) > 0:
			e.stand(why)
		default:
			if told++; told <= maxPodEvents {
				j.find(PodEvent, e.seqs, "%s: %s, %s: %s; %s", orUnknown(e.Workload), orUnknown(e.Reason), times(e.Count), quote(e.Text), known)
			}
		}
	}
	if more := told - min(told, maxPodEvents) + j.b.events.more; more > 0 {
		j.find(PodEvent, nil, "%d more events of pods, too many to list", more)
	}
}

// named are the endpoints that an event names and that do not work. Where there are
// none, known says what it names.
func (j *judgement) named(e *befallen, at map[policy.Match][]*Endpoint) (to []*Endpoint, known string) {
	var works []string
	for _, n := range e.named {
		for _, p := range inForce(j.b.index.Match(nil, n.name, n.port), j.b.started, j.b.latest) {
			for _, o := range at[p.Match()] {
				if o.fails(n.name.String()) {
					to = append(to, o)
				} else {
					works = addWord(works, n.name.String())
				}
			}
		}
	}
	if len(works) > 0 {
		return to, "what it names is not blocked here: " + listing(works, 3)
	}
	return to, "it names no endpoint of the catalogs"
}

// stand puts an event beside endpoints, once.
func (e *befallen) stand(to []*Endpoint) {
	for _, o := range to {
		if !slices.Contains(o.Events, e.Event) {
			o.Events = append(o.Events, e.Event)
		}
	}
}

// fails says whether the endpoint does not work for a host.
func (e *Endpoint) fails(host string) bool {
	if e.Status == Blocked {
		return true
	}
	return e.Status == Partial && !slices.ContainsFunc(e.Hosts, func(h Host) bool { return h.Host == host && h.State == Used })
}

// Line is the event for people, its texts as they are.
func (e Event) Line() string {
	often := ""
	if e.Count > 1 {
		often = ", " + times(e.Count)
	}
	return fmt.Sprintf("%s: %s%s: %s", orUnknown(e.Workload), orUnknown(e.Reason), often, e.Text)
}

// firstEvents are those beside an endpoint that have room, and how many more there
// are.
func firstEvents(list []Event) (shown []Event, more int) {
	n := min(len(list), shownEvents)
	return list[:n], len(list) - n
}

// events lists what befell workloads for an endpoint, a line each.
func (p *page) events(list []Event) {
	shown, more := firstEvents(list)
	for _, e := range shown {
		line := []rune(Escape(strings.Join(strings.Fields(e.Line()), " ")))
		if room := p.width - indent; len(line) > room {
			line = append(line[:room-len("...")], []rune("...")...)
		}
		p.hang("    event", indent, string(line))
	}
	if more > 0 {
		p.hang("    event", indent, fmt.Sprintf("... and %d more (--format json has all)", more))
	}
}
