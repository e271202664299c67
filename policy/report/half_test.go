package report

import (
	"bytes"
	"strings"
	"testing"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// A registry that answers while its blobs are blocked is said to be half of one,
// whatever the catalog makes of its hosts.
func TestHalves(t *testing.T) {
	registries := cat("c",
		"quay extension quay.io,*.quay.io for=container_images",
		"mcr extension mcr.microsoft.com,*.data.mcr.microsoft.com for=images_and_charts",
		"docker extension registry-1.docker.io,production.cloudflare.docker.com for=component_images",
		"login agent login.microsoftonline.com,<region>.login.microsoft.com for=tokens",
		"gcs extension storage.googleapis.com for=image_layers",
	)
	for _, row := range []struct {
		why    string
		tape   *tape
		want   string // of the text, "" where nothing may be said
		status string
	}{
		{"quay and one of its CDN hosts", started().conn("quay.io", ok).conn("cdn03.quay.io", reset1),
			"half of it works: quay.io answers, its blob host cdn03.quay.io does not", "quay.io:used *.quay.io:blocked"},
		{"one CDN host works, another does not", started().conn("quay.io", ok).conn("cdn01.quay.io", ok).conn("cdn03.quay.io", reset1),
			"half of it works: quay.io, cdn01.quay.io answer, its blob host cdn03.quay.io does not", "quay.io:used *.quay.io:partial"},
		{"several are blocked", started().conn("quay.io", ok).conn("cdn01.quay.io", reset1).conn("cdn03.quay.io", dropped),
			"its blob hosts cdn01.quay.io, cdn03.quay.io do not", "*.quay.io:blocked"},
		{"mcr and its data", started().conn("mcr.microsoft.com", ok).conn("eastus.data.mcr.microsoft.com", dropped),
			"half of it works: mcr.microsoft.com answers, its blob host eastus.data.mcr.microsoft.com does not", "mcr.microsoft.com:used *.data.mcr.microsoft.com:blocked"},
		{"Docker Hub and its CDN", started().conn("registry-1.docker.io", ok).conn("production.cloudflare.docker.com", silence),
			"half of it works: registry-1.docker.io answers, its blob host production.cloudflare.docker.com does not", "registry-1.docker.io:used production.cloudflare.docker.com:blocked"},
		{"a blob host that does not resolve", started().conn("quay.io", ok).query("cdn03.quay.io", unanswered("NXDOMAIN")),
			"its blob host cdn03.quay.io does not", "quay.io:used *.quay.io:blocked"},
		{"the registry is blocked, a blob host is not", started().conn("quay.io", reset1).conn("cdn03.quay.io", ok),
			"half of it works: cdn03.quay.io answers, quay.io does not", "quay.io:blocked *.quay.io:used"},
		{"what is no registry has no blobs", started().conn("login.microsoftonline.com", ok).conn("eastus.login.microsoft.com", reset1),
			"half of it works: login.microsoftonline.com answers, eastus.login.microsoft.com does not", "login.microsoftonline.com:used"},
		{"worked, then failed: no half of it", started().conn("quay.io", ok).conn("quay.io", reset1), "", "quay.io:partial"},
		{"blocked as a whole", started().conn("quay.io", reset1).conn("cdn03.quay.io", reset1), "", "quay.io:blocked *.quay.io:blocked"},
		{"works as a whole", started().conn("quay.io", ok).conn("cdn03.quay.io", ok), "", "quay.io:used *.quay.io:used"},
		{"a blob host that was but reached proves nothing", started().conn("quay.io", ok).conn("cdn03.quay.io", left), "", "quay.io:used *.quay.io:reached"},
		{"another requirement is another thing", started().conn("mcr.microsoft.com", ok).conn("storage.googleapis.com", reset1), "", "storage.googleapis.com:blocked"},
	} {
		t.Run(row.why, func(t *testing.T) {
			r := row.tape.stop().report(Options{Catalogs: []*policy.Catalog{registries}})
			requireWords(t, strings.Fields(row.status), r)
			text := textOf(t, r)
			if row.want == "" {
				require.NotContains(t, text, "half of it")
				return
			}
			require.Contains(t, text, row.want)
			require.Equal(t, Gaps, r.Verdict)
			require.Equal(t, 1, strings.Count(text, "half of it works"), "said where it does not work alone")
			require.Less(t, strings.Index(text, "half of it works"), strings.Index(text, "USED ("))
		})
	}
}

// Two catalogs that list the same endpoint make one row; the one that knows of
// the other half tells.
func TestHalfOfSeveralCatalogs(t *testing.T) {
	r := started().conn("mcr.microsoft.com", ok).conn("e.data.mcr.microsoft.com", dropped).stop().report(Options{Catalogs: []*policy.Catalog{
		cat("aml", "mcr-data extension *.data.mcr.microsoft.com for=layers"),
		cat("arc", "mcr agent mcr.microsoft.com,*.data.mcr.microsoft.com for=images"),
	}})
	require.Contains(t, textOf(t, r), "half of it works: mcr.microsoft.com answers, its blob host e.data.mcr.microsoft.com does not")
}

func textOf(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, r.WriteText(&b, TextOptions{Width: 300}))
	return b.String()
}
