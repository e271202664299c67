package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime"
	"testing"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// BenchmarkAppend appends to a real file with fsyncs, the last one included.
func BenchmarkAppend(b *testing.B) {
	w := open(b, newPath(b), Options{Trial: "t", Vantage: "pod"})
	o := connection("c")
	b.ReportAllocs()
	for b.Loop() {
		for {
			err := w.Append(o)
			if err == nil {
				break
			}
			require.True(b, errors.Is(err, ErrFull))
			runtime.Gosched() // the disk is slower than we are
		}
	}
	require.NoError(b, w.Sync(bg()))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkEncode(b *testing.B) {
	r := &policy.Record{Schema: 1, Seq: 1, Time: noon, Kind: policy.KindConnection, Trial: "t", Vantage: "pod", Observation: connection("c")}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = appendRecord(dst[:0], r)
	}
	b.SetBytes(int64(len(dst)))
}

func lines(b *testing.B) []byte {
	content, err := io.ReadAll(newEndless(20_000))
	require.NoError(b, err)
	b.SetBytes(int64(len(content) / 20_000))
	return content
}

// BenchmarkRead reads whole records; BenchmarkScanJSON has encoding/json read
// three of their fields.
func BenchmarkRead(b *testing.B) {
	content := lines(b)
	b.ReportAllocs()
	n := 0
	for n < b.N {
		for r, err := range read(bytes.NewReader(content), "x") {
			if n++; err != nil || r.Observation == nil {
				b.Fatal(err)
			}
			if n == b.N {
				break
			}
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "lines/s")
}

func BenchmarkScanJSON(b *testing.B) {
	content := lines(b)
	b.ReportAllocs()
	n := 0
	for n < b.N {
		for s := bufio.NewScanner(bytes.NewReader(content)); s.Scan() && n < b.N; n++ {
			var three struct {
				Seq     uint64 `json:"seq"`
				Name    string `json:"name"`
				Outcome string `json:"outcome"`
			}
			if err := json.Unmarshal(s.Bytes(), &three); err != nil || three.Outcome == "" {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "lines/s")
}

// BenchmarkReadTenMillion is for -benchtime 1x with LEDGER_BENCH_HUGE=1.
func BenchmarkReadTenMillion(b *testing.B) {
	if os.Getenv("LEDGER_BENCH_HUGE") == "" {
		b.Skip("LEDGER_BENCH_HUGE is not set")
	}
	for b.Loop() {
		requireFlat(b, 10_000_000)
	}
}
