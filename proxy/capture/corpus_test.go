package capture

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

// TestCorpus: the Initial flights of foreign captures give the name that two
// other readers saw. They lie beside the checkout, or where EGRESSAUDIT_CORPORA
// says; where that is set, they must be there.
func TestCorpus(t *testing.T) {
	root, demanded := os.LookupEnv("EGRESSAUDIT_CORPORA")
	if !demanded {
		root = filepath.Join("..", "..", "..", "shared", "corpora")
	}
	text, err := os.ReadFile(filepath.Join(root, "quic", "index.json"))
	if err != nil && !demanded {
		t.Skipf("no foreign captures: %v (set EGRESSAUDIT_CORPORA to their folder)", err)
	}
	require.NoError(t, err)
	var rows []struct {
		File, SNI, Oracle string
		ALPN              []string
		ECH               bool
		Datagrams         int
	}
	require.NoError(t, json.Unmarshal(text, &rows))
	sure := 0
	for _, row := range rows {
		flight, err := os.ReadFile(filepath.Join(root, "quic", row.File))
		require.NoError(t, err)
		weak := strings.Contains(row.Oracle, "WEAK")
		if !weak {
			sure++
		}
		t.Run(row.File, func(t *testing.T) {
			datagrams := split(t, flight)
			require.Len(t, datagrams, row.Datagrams)
			r, decided := feed(t, datagrams...)
			r.End(hello.TimedOut)
			h := r.Hello()
			require.True(t, r.QUIC())
			if weak {
				t.Logf("weak row: read %q, %v, %q", h.ServerName, h.ALPN, h.Reason)
				return
			}
			require.True(t, decided)
			require.Equal(t, row.SNI, h.ServerName)
			require.Equal(t, hello.None, h.Reason)
			require.Equal(t, append([]string{}, row.ALPN...), append([]string{}, h.ALPN...))
			require.Equal(t, row.ECH, h.ECH)
		})
	}
	t.Logf("quic: %d rows, %d of them sure", len(rows), sure)
	require.NotZero(t, sure)
}

// split cuts a capture into datagrams: each has its length, two octets, before it.
func split(t testing.TB, b []byte) (datagrams [][]byte) {
	for len(b) > 0 {
		require.GreaterOrEqual(t, len(b), 2)
		n := int(binary.BigEndian.Uint16(b))
		require.GreaterOrEqual(t, len(b), 2+n)
		datagrams, b = append(datagrams, b[2:2+n]), b[2+n:]
	}
	return datagrams
}
