package hello_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

// TestMessage: a ClientHello without records says what the same one in records
// does, as soon as it is whole and not before.
func TestMessage(t *testing.T) {
	m := realHellos(t)[1][5:]
	want := named("a.example")
	want.Version, want.ALPN = 0x0304, []string{"h2", "http/1.1"}
	for n := range m {
		_, decided := hello.Message(m[:n])
		require.False(t, decided, "%d octets", n)
	}
	for _, b := range [][]byte{m, join(m, []byte("more"))} {
		got, decided := hello.Message(b)
		require.True(t, decided)
		require.Equal(t, want, got)
	}
	for _, c := range []struct {
		b    []byte
		want hello.Hello
	}{
		{[]byte{2}, foreign},
		{[]byte{1, 1, 0, 0}, cut(hello.TooLong)},
		{[]byte{1, 0, 0, 1, 3}, malformed},
		{clientHello(), nameless},
	} {
		got, decided := hello.Message(c.b)
		require.True(t, decided)
		require.Equal(t, c.want, got)
	}
}
