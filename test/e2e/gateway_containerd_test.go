//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy/report"
	"github.com/egressaudit/egressaudit/test/suite"
)

// Microsoft's registry, and where it sends those who ask for a blob.
const (
	registryHost = "mcr.microsoft.com"
	blobHost     = "eastus.data.mcr.microsoft.com"
)

// TestContainerd: Debian's containerd pulls an image as a kubelet has it do, with
// no proxy setting anywhere, from Debian's docker-registry in the place of
// Microsoft's, which sends it elsewhere for the blobs. Both names are used; and
// where a firewall resets connections to one of them by its name, the pull fails
// and the report says what is missing.
func TestContainerd(t *testing.T) {
	for _, row := range []struct {
		name  string
		reset bool
	}{{"pulls", false}, {"blob host reset", true}} {
		t.Run(row.name, func(t *testing.T) {
			suite.Need(t, append(append([]string{"containerd"}, gatewayPrograms...), registry...)...)
			t.Parallel()
			g := newGateway(t, 4, 1, registryHost, blobHost)
			require.NoError(t, g.rules("redirect"))
			g.playMicrosoft(t)
			if row.reset {
				require.NoError(t, g.wall.Iptables(4, "*filter\n-A FORWARD -p tcp --dport 443 -m string --algo bm --string "+blobHost+" -j REJECT --reject-with tcp-reset\nCOMMIT\n"))
			}
			g.start(t, "--catalog", "azure-arc")
			err := g.pull(t, registryHost+"/azureml/demo:v1")
			records := g.stop(t)
			if !row.reset {
				require.NoError(t, err)
				g.holdPull(t)
				return
			}
			require.ErrorContains(t, err, blobHost)
			require.NotEmpty(t, records)
			g.holdReset(t)
		})
	}
}

// arc is what the report says of the registry's two endpoints.
func (g *gateway) arc(t *testing.T, status int) (names, blobs report.Endpoint) {
	r, is := g.judge(t, "azure-arc")
	require.Equal(t, status, is)
	require.Empty(t, r.Unlisted)
	find := func(host string) report.Endpoint {
		i := slices.IndexFunc(r.Endpoints, func(e report.Endpoint) bool { return e.Host == host })
		require.GreaterOrEqual(t, i, 0, host)
		return r.Endpoints[i]
	}
	return find(registryHost), find("*.data.mcr.microsoft.com")
}

func (g *gateway) holdPull(t *testing.T) {
	names, blobs := g.arc(t, 0)
	for host, e := range map[string]report.Endpoint{registryHost: names, blobHost: blobs} {
		require.EqualValues(t, "used", e.Status, host)
		require.Len(t, e.Hosts, 1)
		require.Equal(t, host, e.Hosts[0].Host)
		require.Equal(t, e.Hosts[0].Attempts, e.Hosts[0].OK)
	}
	require.Greater(t, blobs.Hosts[0].BytesDown, int64(3<<20), "the layer came this way")
	require.Less(t, names.Hosts[0].BytesDown, int64(1<<20))
}

func (g *gateway) holdReset(t *testing.T) {
	names, blobs := g.arc(t, 1)
	require.EqualValues(t, "used", names.Status)
	require.EqualValues(t, "blocked", blobs.Status)
	require.NotNil(t, blobs.Cause)
	require.EqualValues(t, "hello", blobs.Cause.Stage)
	require.EqualValues(t, "connection_terminated", blobs.Cause.Error)
	require.Equal(t, "rst", blobs.Cause.Detail["close"])
	require.Contains(t, blobs.Cause.Ask, blobHost)
}

// playMicrosoft is the registry with an image, and the blob host with its blobs.
func (g *gateway) playMicrosoft(t *testing.T) {
	g.pushImage(t, "azureml/demo:v1")
	g.runRegistry(t, g.names[registryHost].String()+":443",
		"middleware: {storage: [{name: redirect, options: {baseurl: \"https://"+blobHost+"/\"}}]}\n")
	store := http.FileServer(http.Dir(filepath.Join(g.dir, "registry")))
	g.secure(t, g.listen(t, blobHost, 443), store)
}

// containerdConfig keeps containerd to a folder, and has the image service
// that kubelets use.
const containerdConfig = `version = 2
root = "%[1]s/containerd/root"
state = "%[1]s/containerd/state"
[grpc]
  address = "%[1]s/containerd/socket"
[plugins."io.containerd.internal.v1.opt"]
  path = "%[1]s/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
`

// pull has containerd pull an image; the error is what containerd says.
func (g *gateway) pull(t *testing.T, image string) error {
	config := g.write(t, "containerd.toml", fmt.Sprintf(containerdConfig, g.dir))
	c := g.at(t, 0, []string{"SSL_CERT_FILE=" + g.ca}, "containerd", "--config", config).start()
	c.says(&c.stderr, "containerd successfully booted")
	defer func() {
		c.signal(syscall.SIGTERM)
		c.wait()
	}()
	return pullImage(t, filepath.Join(g.dir, "containerd/socket"), image)
}

// pullImage calls PullImage of the CRI's ImageService (k8s.io/cri-api,
// runtime/v1/api.proto) as gRPC over HTTP/2 does: messages of one field, which
// needs neither a compiler nor a library.
func pullImage(t *testing.T, socket, image string) error {
	field := func(b []byte) []byte { return append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(b))), b...) }
	request := field(field([]byte(image))) // PullImageRequest.image, ImageSpec.image
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(request))), request...)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://containerd/runtime.v1.ImageService/PullImage", bytes.NewReader(frame))
	require.NoError(t, err)
	r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	resp, err := transport.RoundTrip(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	said := func(name string) string { return resp.Trailer.Get(name) + resp.Header.Get(name) }
	if said("Grpc-Status") != "0" {
		return errors.New(said("Grpc-Status") + " " + said("Grpc-Message"))
	}
	return nil
}
