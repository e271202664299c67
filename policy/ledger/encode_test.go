package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// fill sets every field of v that JSON knows to a value of its own; a type that
// it does not know fails the test, so that no new field is forgotten.
func fill(t *testing.T, v reflect.Value, n *int) {
	*n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Date(2026, 3, 1, 12, 0, 0, *n, time.UTC)))
		return
	case netip.AddrPort:
		v.Set(reflect.ValueOf(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(*n)}), uint16(*n))))
		return
	case map[string]any:
		v.Set(reflect.ValueOf(map[string]any{"text": fmt.Sprint("m", *n), "truth": true, "number": float64(*n), "a": []any{"x", "y"}}))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprint("text", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint16, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0), n)
		fill(t, v.Index(1), n)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") != "-" {
				fill(t, v.Field(i), n)
			}
		}
	default:
		require.Fail(t, "the test knows no such field", "%s", v.Type())
	}
}

func full(t *testing.T) *policy.Record {
	var r policy.Record
	var n int
	fill(t, reflect.ValueOf(&r).Elem(), &n)
	return &r
}

func unmarshal(t testing.TB, line []byte) *policy.Record {
	t.Helper()
	var r policy.Record
	require.NoError(t, json.Unmarshal(line, &r), "%s", line)
	return &r
}

func TestEveryFieldIsWritten(t *testing.T) {
	r := full(t)
	line := appendRecord(nil, r)
	require.Equal(t, r, unmarshal(t, line))

	theirs, err := json.Marshal(r)
	require.NoError(t, err)
	var want, got map[string]any
	require.NoError(t, json.Unmarshal(theirs, &want))
	require.NoError(t, json.Unmarshal(line, &got))
	want["time"], got["time"] = nil, nil // spelled otherwise
	require.Equal(t, want, got)
}

// Each field alone, so that none hides behind another, and so that the order of
// the short way's fields is proven by each of them.
func TestEveryFieldAlone(t *testing.T) {
	whole := full(t)
	for _, part := range []any{whole.Session, whole.Observation} {
		v := reflect.ValueOf(part).Elem()
		for i := range v.NumField() {
			r := &policy.Record{Schema: 1, Seq: 1, Kind: "k", Time: noon}
			one := reflect.New(v.Type())
			one.Elem().Field(i).Set(v.Field(i))
			switch p := one.Interface().(type) {
			case *policy.Session:
				r.Session = p
			case *policy.Observation:
				r.Observation = p
			}
			line := appendRecord(nil, r)
			if v.Type().Field(i).Tag.Get("json") == "-" {
				r.Observation = nil
			}
			require.Equal(t, r, unmarshal(t, line), v.Type().Field(i).Name)
			if short, ok := new(decoder).ready().short(line); r.Session == nil {
				require.True(t, ok, "%s is not read the short way", line)
				require.Equal(t, r, short)
			}
		}
	}
}

func TestZeroFieldsAreLeftOut(t *testing.T) {
	r := &policy.Record{Schema: 1, Seq: 7, Time: noon, Kind: policy.KindQuery, Session: &policy.Session{},
		Observation: &policy.Observation{Client: netip.AddrPortFrom(netip.Addr{}, 80), Detail: map[string]any{}, ALPN: []string{}}}
	require.Equal(t, `{"schema":1,"seq":7,"time":"2026-03-01T12:00:00.000000000Z","kind":"query"}`, string(appendRecord(nil, r)))
}

func TestTimes(t *testing.T) {
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{noon.Add(7), `"2026-03-01T12:00:00.000000007Z"`},
		{noon.In(time.FixedZone("east", 3600)), `"2026-03-01T12:00:00.000000000Z"`},
		{time.Time{}, `"0001-01-01T00:00:00.000000000Z"`},
		{time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), `"0001-01-01T00:00:00.000000000Z"`},
	} {
		require.Equal(t, c.want, string(appendTime(nil, c.at)))
	}
}

func TestStrings(t *testing.T) {
	for in, want := range map[string]string{
		`a"\b`:               `"a\"\\b"`,
		"\x00\t\n\x1b\x7f":   `"\u0000\t\n\u001b\u007f"`,
		"\u0085\u009f\u00a0": "\"\\u0085\\u009f\u00a0\"",
		"\u2028\u2029":       `"\u2028\u2029"`,
		"<&>":                `"<&>"`,
		"a\xffb\xc3":         `"a\ufffdb\ufffd"`,
		"\ufffd":             "\"\ufffd\"",
		"zażółć 🛰":           `"zażółć 🛰"`,
	} {
		require.Equal(t, want, string(appendString(nil, in)))
	}
}

type loud struct{}

func (loud) MarshalJSON() ([]byte, error) { return nil, errors.New("no") }

func TestDetailOfAnyKind(t *testing.T) {
	detail := map[string]any{
		"int": 1, "int64": int64(-2), "uint16": uint16(3), "uint64": uint64(math.MaxUint64), "int32": int32(4), "float": 1.5e300,
		"nan": math.NaN(), "inf": math.Inf(-1), "list": []string{"a", "b\n"}, "error": errors.New("why"), "by": policy.ByOrigin,
		"addr": netip.MustParseAddr("::1"), "nil": nil, "chan": make(chan int), "loud": loud{}, "html": []any{"<"}, "took": time.Second,
	}
	want := `{"addr":"::1","by":"origin","chan":"not written: json: unsupported type: chan int","error":"why","float":1.5e+300,"html":["<"],` +
		`"inf":"-Inf","int":1,"int32":4,"int64":-2,"list":["a","b\n"],"loud":"not written: json: error calling MarshalJSON for type ledger.loud: no",` +
		`"nan":"NaN","nil":null,"took":1000000000,"uint16":3,"uint64":18446744073709551615}`
	require.Equal(t, want, string(appendMap(nil, "", detail)))
	require.True(t, json.Valid([]byte(want)))
}

func TestEncodingAllocatesNothing(t *testing.T) {
	r := &policy.Record{Schema: 1, Seq: 1, Time: noon, Kind: policy.KindConnection, Trial: "t", Vantage: "pod", Observation: connection("c1")}
	dst := make([]byte, 0, 4096)
	require.Zero(t, testing.AllocsPerRun(100, func() { dst = appendRecord(dst[:0], r) }))
	r.Detail = map[string]any{"errno": "ECONNREFUSED", "attempts": []string{"a"}, "status": 403}
	require.Zero(t, testing.AllocsPerRun(100, func() { dst = appendRecord(dst[:0], r) }))
}

// What we write is what encoding/json reads back, and both of our ways to read.
func FuzzEncode(f *testing.F) {
	f.Add("id", "mcr.microsoft.com", "azureml/pod", int64(1), int64(-7), uint16(443), []byte{10, 0, 0, 1}, "key", "value", uint64(2))
	f.Add("\xff\u2028", "<\x00>", `"\`, int64(math.MinInt64), int64(math.MaxInt64), uint16(0), []byte("0123456789abcdef"), "", "\n", uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, id, name, workload string, up, down int64, port uint16, ip []byte, key, value string, seq uint64) {
		addr, _ := netip.AddrFromSlice(ip)
		if strings.HasPrefix(id, "zone") {
			addr = addr.WithZone(value)
		}
		r := &policy.Record{Schema: 1, Seq: seq, Time: time.Unix(up>>30, down&0xfffffff).UTC(), Kind: policy.KindConnection, Phase: value,
			Observation: &policy.Observation{
				ID: id, Name: name, Workload: workload, BytesUp: up, BytesDown: down, Port: port, Client: netip.AddrPortFrom(addr, port),
				ALPN: []string{name, value}, Matches: []policy.Match{{Catalog: id, Requirement: key, Endpoint: name}},
				Detail: map[string]any{key: value, "n": up, "list": []string{id}, "t": port > 5},
			}}
		if r.Time.Year() < 0 || r.Time.Year() > 9999 {
			r.Time = noon
		}
		line := appendRecord(nil, r)
		want := unmarshal(t, line)
		require.NotContains(t, string(line), "\n")
		require.Equal(t, strings.ToValidUTF8(id, "\ufffd") == id, want.Observation != nil && want.ID == id)

		theirs, err := json.Marshal(r)
		require.NoError(t, err)
		if addr.IsValid() {
			require.Equal(t, unmarshal(t, theirs), want)
		}
		requireSame(t, line)
	})
}
