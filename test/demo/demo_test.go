// Package demo_test holds the demo's install script against the network that
// the demo plays to it, without egressaudit between them.
package demo_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/lab"
)

// The demo's report ends with commands over its recording, which must still be
// there when somebody types them.
func TestRecordingStays(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl")
	}
	out, err := exec.Command("sh", "demo.sh").CombinedOutput()
	require.NoError(t, err, "%s", out)
	named := regexp.MustCompile(`(?m)^egressaudit: the recording is (\S+); to go on:$`).FindSubmatch(out)
	require.NotNil(t, named, "%s", out)
	require.FileExists(t, filepath.Join("../..", string(named[1])))
}

func TestInstallMeetsTheNetwork(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl")
	}
	f, err := os.Open("network.lab")
	require.NoError(t, err)
	defer f.Close()
	script, err := lab.Parse("network.lab", f)
	require.NoError(t, err)
	w, err := lab.Start(script)
	require.NoError(t, err)
	t.Cleanup(w.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, w.WriteCA(ca))

	parent := w.Parent().String()
	install := exec.Command("sh", "install.sh")
	install.Env = []string{"PATH=" + os.Getenv("PATH"), "CA=" + ca, "HTTPS_PROXY=" + parent, "http_proxy=" + parent,
		"CURL_CA_BUNDLE=/nonexistent", "SSL_CERT_FILE=/nonexistent"}
	out, err := install.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%s", out)
	require.Equal(t, 1, exit.ExitCode(), "%s", out)

	var failed []string
	for line := range strings.Lines(string(out)) {
		if _, what, ok := strings.Cut(line, "FAILED  "); ok {
			failed = append(failed, strings.TrimSpace(what))
		}
	}
	require.Equal(t, []string{"image prometheus (quay.io)", "image training-operator (gcr.io)", "log queue"}, failed, "%s", out)

	tried := map[string]int{}
	for _, s := range w.Saw() {
		if s.Door == lab.DoorParent {
			tried[s.Target]++
		}
	}
	for _, blocked := range []string{"cdn03.quay.io:443", "gcr.io:443", "arcpleusws3240447895.queue.core.windows.net:443"} {
		require.Equal(t, 2, tried[blocked], "an installer tries again: %s", blocked)
	}
	require.ElementsMatch(t, []string{
		"login.microsoftonline.com:443",
		"management.azure.com:443",
		"gbl.his.arc.azure.com:443",
		"eastus.dp.kubernetesconfiguration.azure.com:443",
		"mcr.microsoft.com:443",
		"eastus.data.mcr.microsoft.com:443",
		"guestnotificationservice.azure.com:443",
		"azgnrelay-eastus-l1.servicebus.windows.net:443",
		"quay.io:443",
		"cdn03.quay.io:443",
		"gcr.io:443",
		"auth.docker.io:443",
		"registry-1.docker.io:443",
		"production.cloudfront.docker.com:443",
		"arcpleusws3240447895.table.core.windows.net:443",
		"arcpleusws3240447895.queue.core.windows.net:443",
		"eastus.api.azureml.ms:443",
		"researchdeveusamlacr01.azurecr.io:443",
		"arcpleusws3240447895.blob.core.windows.net:443",
		"pypi.org:443",
		"archive.ubuntu.com:80",
	}, slices.Collect(maps.Keys(tried)))
}
