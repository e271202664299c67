package report

import (
	"testing"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

func TestBypass(t *testing.T) {
	for _, row := range []struct {
		list, pattern string
		want          bool
		why           string
	}{
		{"quay.io", "quay.io", true, "the name itself"},
		{"quay.io", "*.quay.io", true, "and those below it"},
		{".quay.io", "quay.io", false, "a leading dot stands for those below alone"},
		{"*.quay.io", "quay.io", false, "and so does a star"},
		{".quay.io", "*.quay.io", true, "those below"},
		{"cdn.quay.io", "*.quay.io", false, "one host of a wildcard is not all of them"},
		{"evilquay.io", "quay.io", false, "no suffix of characters"},
		{"io", "*.quay.io", true, "a whole domain"},
		{"a.example, QUAY.IO", "quay.io", true, "lists and upper case"},
		{"quay.io:443", "quay.io", true, "the same port"},
		{"quay.io:8443", "quay.io", false, "another port"},
		{"*", "<region>.example.org", true, "everything"},
		{".example.org", "<region>.example.org", true, "a placeholder is below"},
		{"eastus.example.org", "<region>.example.org", false, "one value of it is not all"},
		{"10.0.0.0/8", "10.1.2.3", true, "a range"},
		{"10.1.2.3", "10.1.2.3", true, "an address"},
		{"10.0.0.0/8", "quay.io", false, "a range says nothing of names"},
		{"[::1]:443,2001:db8::/32", "2001:db8::1", true, "IPv6"},
		{"", "quay.io", false, "nothing"},
		{"..,:,*:443,[", "quay.io", false, "rubbish bypasses nothing"},
	} {
		require.Equal(t, row.want, newBypass([]string{row.list}).pattern(policy.MustPattern(row.pattern), 443), "%s: %s of %s", row.why, row.pattern, row.list)
	}
}
