package ledger

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// requireSame demands that the short way, where it takes a line, reads what
// encoding/json reads.
func requireSame(t testing.TB, line []byte) (taken bool) {
	t.Helper()
	short, ok := new(decoder).ready().short(line)
	if !ok {
		return false
	}
	var want policy.Record
	require.NoError(t, json.Unmarshal(line, &want), "%s", line)
	require.Equal(t, &want, short, "%s", line)
	return true
}

// What stands behind the head of a record, and whether the short way takes it.
func TestShortWay(t *testing.T) {
	for tail, taken := range map[string]bool{
		`}`:                             true,
		`,"id":"a","open":true}`:        true,
		`,"id":"","alpn":[]}`:           true,
		`,"id":"zażółć"}`:               true,
		`,"port":65535}`:                true,
		`,"bytes_up":999999999999999}`:  true,
		`,"detail":{}}`:                 true,
		`,"detail":{"a":1,"a":["x"]}}`:  true, // the last one counts
		`,"matches":[]}`:                true,
		`,"client":""}`:                 true,
		`,"text":"t","count":3}`:        true,
		`,"id":"a","id":"b"}`:           false, // twice
		`,"open":true,"id":"a"}`:        false, // out of order
		`,"ID":"a"}`:                    false, // encoding/json takes it for id
		`,"new_field":{"a":[1]}}`:       false,
		`,"id":null}`:                   false,
		`,"id":"\u0041"}`:               false,
		", \"id\":\"a\"}":               false,
		`,"id":"a"} `:                   false,
		"\r":                            false,
		`,"open":false}`:                false,
		`,"port":65536}`:                false,
		`,"port":-1}`:                   false,
		`,"port":0443}`:                 false,
		`,"port":443.0}`:                false,
		`,"port":4e2}`:                  false,
		`,"port":""}`:                   false,
		`,"bytes_up":9999999999999999}`: false,
		`,"client":"nobody"}`:           false,
		`,"id":"` + "\xff" + `"}`:       false,
		`,"id":"` + "\n" + `"}`:         false,
		`,"detail":{"a":null}}`:         false,
		`,"detail":{"a":1.5}}`:          false,
		`,"detail":{"a":{}}}`:           false,
		`,"detail":{"a":1,}}`:           false,
		`,"matches":[{"catalog":"a"}]}`: false,
		`,"alpn":["a",]}`:               false,
		`,"version":"1"}`:               false, // start and stop are few
		`,"id":"a`:                      false,
		``:                              false,
	} {
		line := `{"schema":1,"seq":2,"time":"2026-03-01T12:00:00Z","kind":"connection"` + tail
		require.Equal(t, taken, requireSame(t, []byte(line)), "%s", line)
		got, err := new(decoder).decode([]byte(line))
		var want policy.Record
		if wantErr := json.Unmarshal([]byte(line), &want); wantErr != nil {
			require.Error(t, err, "%s", line)
			continue
		}
		require.NoError(t, err, "%s", line)
		complete(&want)
		require.Equal(t, &want, got)
	}
}

func TestRecordsHaveTheirPart(t *testing.T) {
	for _, kind := range []policy.Kind{policy.KindConnection, policy.KindRequest, policy.KindQuery, policy.KindEvent} {
		r, err := new(decoder).decode([]byte(`{"schema":1,"seq":1,"kind":"` + string(kind) + `"}`))
		require.NoError(t, err)
		require.Equal(t, kind, r.Observation.Kind)
		require.Nil(t, r.Session)
	}
	for _, kind := range []policy.Kind{policy.KindStart, policy.KindStop} {
		r, err := new(decoder).decode([]byte(`{"schema":1,"seq":1,"kind":"` + string(kind) + `"}`))
		require.NoError(t, err)
		require.NotNil(t, r.Session)
	}
}

func TestNoRecord(t *testing.T) {
	for _, line := range []string{``, `{}`, `[]`, `null`, `1`, `{"schema":1}`, `{"schema":1,"seq":1}`, `{"schema":0,"seq":1,"kind":"mark"}`,
		`{"schema":1,"seq":0,"kind":"mark"}`, `{"schema":1,"seq":-1,"kind":"mark"}`, `{"schema":1,"seq":1,"kind":"mark"}{}`,
		strings.Repeat("[", 100_000)} {
		_, err := new(decoder).decode([]byte(line))
		require.Error(t, err, "%s", line)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(appendRecord(nil, &policy.Record{Schema: 1, Seq: 1, Time: noon, Kind: policy.KindConnection, Observation: connection("c1")}))
	f.Add([]byte(`{"schema":1,"seq":2,"time":"2026-03-01T12:00:00Z","kind":"query","detail":{"a":["b",1],"c":true,"d":-0.5},"count":3}`))
	f.Add([]byte(`{"schema":1,"seq":2,"kind":"lost","matches":[{"catalog":"a","requirement":"b","endpoint":"c"}],"why":"\u2028"}`))
	f.Add([]byte(`{"schema":1,"seq":2,"time":"2026-03-01T12:00:00Z","kind":"event","workload":"ml/web","reason":"Failed","text":"x","count":3}`))
	f.Add([]byte(`{"schema":1,"seq":01,"time":"","ALPN":[null],"alpn":[],"client":"[fe80::1%a]:1"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		requireSame(t, line)
		if r, err := new(decoder).decode(line); err == nil {
			again, err := new(decoder).decode(appendRecord(nil, r))
			require.NoError(t, err)
			require.Equal(t, r.Seq, again.Seq)
		}
	})
}
