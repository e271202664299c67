package hello_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

// corpusRow is what the tests read of a row of index.json.
type corpusRow struct {
	File   string
	SNI    string
	ALPN   []string
	ECH    bool
	Offset int     `json:"hello_offset"`
	Kind   string  `json:"kind"`
	Oracle *string `json:"go_oracle"`

	Method     string
	Target     string
	HostHeader string `json:"host_header"`
	Complete   bool   `json:"header_complete"`

	stream []byte
}

// corpus reads one folder of the foreign captures. They lie beside the checkout,
// or where EGRESSAUDIT_CORPORA says; where that is set, they must be there.
func corpus(t *testing.T, folder string) []corpusRow {
	t.Helper()
	root, demanded := os.LookupEnv("EGRESSAUDIT_CORPORA")
	if !demanded {
		root = filepath.Join("..", "..", "..", "shared", "corpora")
	}
	text, err := os.ReadFile(filepath.Join(root, folder, "index.json"))
	if err != nil && !demanded {
		t.Skipf("no foreign captures: %v (set EGRESSAUDIT_CORPORA to their folder)", err)
	}
	require.NoError(t, err)
	var rows []corpusRow
	require.NoError(t, json.Unmarshal(text, &rows))
	if len(rows) == 0 {
		t.Fatalf("nothing was read from %s", filepath.Join(root, folder))
	}
	for i := range rows {
		rows[i].stream, err = os.ReadFile(filepath.Join(root, folder, rows[i].File))
		require.NoError(t, err)
	}
	t.Logf("%s: %d rows", folder, len(rows))
	return rows
}

// sslv2Rows are the rows that go_oracle says nothing about: crypto/tls does not
// read SSLv2 framing. Expected is what their bytes say, and no name in any case:
// the format has none.
var sslv2Rows = map[string]hello.Hello{
	// 80 32 01 03 03, 80 67 01 03 01, 80 80 01 03 01, 80 55 01 03 01: clients of
	// TLS 1.2 and 1.0 in SSLv2 framing; the answer comes in TLS records.
	"49b46fe58564e661.bin": {Protocol: hello.TLS, Reason: hello.NoName, Version: 0x0303},
	"c1983fa51c7fe788.bin": {Protocol: hello.TLS, Reason: hello.NoName, Version: 0x0301},
	"d2e0d3a77f384992.bin": {Protocol: hello.TLS, Reason: hello.NoName, Version: 0x0301},
	"032d04f0ad640f44.bin": {Protocol: hello.TLS, Reason: hello.NoName, Version: 0x0301},
	// 80 2e 01 00 02: SSL 2.0 and no more, which is not TLS: no TLS record will
	// answer it.
	"1d975368f1690598.bin": foreign,
}

func TestCorpusClientHello(t *testing.T) {
	for _, folder := range []string{"clienthello", "clienthello_resplit"} {
		for _, row := range corpus(t, folder) {
			t.Run(folder+"/"+row.File, func(t *testing.T) {
				t.Parallel()
				got, decided := everySplit(t, 0, row.stream[row.Offset:])
				require.True(t, decided)
				if row.Oracle == nil {
					want, known := sslv2Rows[row.File]
					require.True(t, known, "a row without oracle, kind %q, needs an expectation", row.Kind)
					require.Equal(t, want, got)
					return
				}
				require.Equal(t, "ok", *row.Oracle)
				require.Equal(t, hello.TLS, got.Protocol)
				require.Equal(t, row.SNI, got.ServerName)
				require.Equal(t, append([]string{}, row.ALPN...), append([]string{}, got.ALPN...))
				require.Equal(t, row.ECH, got.ECH)
				require.Equal(t, row.SNI == "", got.Reason == hello.NoName)
				require.NotZero(t, got.Version)
			})
		}
	}
}

// A hello behind another protocol's preamble is not the stream's first bytes:
// nothing of it may be claimed.
func TestCorpusPreambles(t *testing.T) {
	for _, row := range corpus(t, "clienthello") {
		if row.Offset == 0 {
			continue
		}
		t.Run(row.File, func(t *testing.T) {
			t.Parallel()
			got, _ := everySplit(t, 0, row.stream)
			require.Contains(t, []hello.Protocol{hello.HTTP, hello.Other}, got.Protocol)
			require.Equal(t, hello.NotTLS, got.Reason)
			require.Empty(t, got.ServerName)
		})
	}
}

func TestCorpusNotTLS(t *testing.T) {
	for _, row := range corpus(t, "nottls") {
		t.Run(row.File, func(t *testing.T) {
			t.Parallel()
			got, _ := everySplit(t, 0, row.stream)
			require.Equal(t, foreign, got)
		})
	}
}

// oddRequests are the rows whose header the captures' own readers did not
// finish: no server would. No host may be claimed from them.
var oddRequests = map[string]hello.Hello{
	"7754d882ae8f55c5.bin": foreign, // "CONNECT / HTTP/1.": no version of HTTP
	"a2047bf157a5230d.bin": foreign, // "CONNECT /HTTP/1.1": no version at all
	// "CONNECT / HTTP/1.1": a target that is no host and port.
	"3dc247a88b03826f.bin": {Protocol: hello.HTTP, Reason: hello.Malformed, Method: "CONNECT"},
}

func TestCorpusRequests(t *testing.T) {
	for _, row := range corpus(t, "connect") {
		t.Run(row.File, func(t *testing.T) {
			t.Parallel()
			got, _ := everySplit(t, 0, row.stream)
			if !row.Complete {
				want, known := oddRequests[row.File]
				require.True(t, known, "an unfinished row needs an expectation")
				require.Equal(t, want, got)
				return
			}
			require.Equal(t, hello.HTTP, got.Protocol)
			require.Equal(t, row.Method, got.Method)
			require.Equal(t, hello.NotTLS, got.Reason)
			if row.Method == "CONNECT" {
				require.Equal(t, row.Target, got.Host, "the target wins over Host %q", row.HostHeader)
				return
			}
			require.Equal(t, row.HostHeader, got.Host)
		})
	}
}
