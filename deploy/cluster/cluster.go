// Package cluster reads from a Kubernetes cluster, as one user of it sees it, which
// addresses lie inside: its API server, nodes, pods and services. They are what
// clients must reach without a proxy, and what a gateway leaves alone.
//
// It asks with the credentials of a kubeconfig file, a few lists, once; it watches
// nothing, changes nothing, and says plainly what it could not learn rather than
// guess. Whose an address is at a time is not for this package to tell.
package cluster

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // users of a kubeconfig who come by OpenID Connect
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

var (
	// ErrForbidden says that the user may not read what was asked for.
	ErrForbidden = errors.New("this user may not")
	// ErrUnknown says that the cluster does not tell what was asked for.
	ErrUnknown = errors.New("the cluster does not tell")
)

// Patience is how long one question to the API server may take.
const Patience = 10 * time.Second

// Cluster is a cluster as the user of a kubeconfig sees it. Its methods may be
// called at once; each asks the API server again.
type Cluster struct {
	server *url.URL
	client *http.Client
}

// Open reads the kubeconfig file at path, and takes the context of that name from
// it, or the file's current one where name is "". It asks no server yet. Its error
// says which contexts there are.
func Open(path, name string) (*Cluster, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, pathless(err)
	}
	file, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return nil, unread(err)
	}
	if name == "" {
		name = file.CurrentContext
	}
	if file.Contexts[name] == nil {
		return nil, noContext(file, name)
	}
	config, err := clientcmd.NewNonInteractiveClientConfig(*file, name, nil, &clientcmd.ClientConfigLoadingRules{ExplicitPath: path}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("context %q: %w", name, err)
	}
	return dial(config)
}

func dial(config *rest.Config) (*Cluster, error) {
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil || server.Hostname() == "" {
		return nil, fmt.Errorf("server %q: not a URL such as https://10.0.0.1:6443", config.Host)
	}
	config.Timeout = Patience
	client, err := rest.HTTPClientFor(config)
	return &Cluster{server, client}, err
}

// unread is why a file could not be read as a kubeconfig, without what the decoder
// says of its own types.
func unread(err error) error {
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	why := ""
	if _, line, ok := strings.Cut(err.Error(), "yaml: "); ok {
		why = " (" + line + ")"
	}
	return errors.New("not a kubeconfig file: no YAML or JSON with apiVersion: v1 and kind: Config" + why)
}

// pathless is the cause of a file's error without its path, which the caller tells.
func pathless(err error) error {
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}

func noContext(file *api.Config, name string) error {
	var names []string
	for n := range file.Contexts {
		names = append(names, fmt.Sprintf("%q", n))
	}
	slices.Sort(names)
	switch {
	case len(names) == 0:
		return errors.New("not a kubeconfig file: it has no context")
	case name == "":
		return fmt.Errorf("it has no current context: name one of %s", strings.Join(names, ", "))
	}
	return fmt.Errorf("no context %q: it has %s", name, strings.Join(names, ", "))
}

// Server is the host of the API server as the kubeconfig names it: a name, or an
// address without brackets. Whoever made the file chose it: it may hold anything.
func (c *Cluster) Server() string { return c.server.Hostname() }
