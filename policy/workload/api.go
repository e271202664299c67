package workload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// ErrNotInside says that this process does not run in a pod of a cluster.
var ErrNotInside = errors.New("this process does not run in a cluster")

// API lists and watches pods and events.
type API struct {
	pods, events cache.ListerWatcherWithContext
}

// quiet are the reasons of events that tell of nothing that failed, and that are
// most of all: the server leaves them out.
var quiet = "involvedObject.kind=Pod,reason!=" + strings.Join([]string{"Scheduled", "Pulling", "Pulled", "Created", "Started", "Killing"}, ",reason!=")

// Connect reads how to reach the API: from a kubeconfig file, or, where that is
// "", from the pod that this process runs in (ErrNotInside where there is none).
// It asks nothing of the API yet. Agent is the program's name and version.
func Connect(kubeconfig, agent string) (API, error) {
	config, err := configOf(kubeconfig)
	if err != nil {
		return API{}, err
	}
	known := runtime.NewScheme()
	if err := corev1.AddToScheme(known); err != nil {
		return API{}, err
	}
	config.APIPath, config.GroupVersion = "/api", &corev1.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(known).WithoutConversion()
	config.AcceptContentTypes, config.ContentType = "application/vnd.kubernetes.protobuf,application/json", "application/vnd.kubernetes.protobuf"
	config.UserAgent, config.WarningHandlerWithContext = agent, rest.NoWarnings{}
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return API{}, err
	}
	return API{pods: resource(client, "pods", ""), events: resource(client, "events", quiet)}, nil
}

func configOf(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		c, err := rest.InClusterConfig()
		switch {
		case errors.Is(err, rest.ErrNotInCluster):
			return nil, ErrNotInside
		case err != nil:
			return nil, fmt.Errorf("read the service account of this pod: %w", err)
		}
		c.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil } // proxy variables are for the way out
		return c, nil
	}
	file, err := clientcmd.LoadFromFile(kubeconfig)
	if err == nil {
		err = clientcmd.ResolveLocalPaths(file)
	}
	var c *rest.Config
	if err == nil {
		c, err = clientcmd.NewDefaultClientConfig(*file, &clientcmd.ConfigOverrides{}).ClientConfig()
	}
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, fmt.Errorf("read kubeconfig %q: it names no cluster", kubeconfig)
	case err != nil:
		return nil, fmt.Errorf("read kubeconfig %q: %s", kubeconfig, unread(kubeconfig, err))
	}
	return c, nil
}

// unread is why a kubeconfig could not be read, without its path, and without what
// the decoder says of its own types.
func unread(kubeconfig string, err error) string {
	if p := (*fs.PathError)(nil); errors.As(err, &p) && p.Path == kubeconfig {
		return p.Err.Error()
	}
	text := reason(err)
	if strings.Contains(text, "version/kind") || runtime.IsNotRegisteredError(err) {
		return "no YAML or JSON with apiVersion: v1 and kind: Config"
	}
	return text
}

// resource lists and watches one kind over all namespaces.
func resource(c rest.Interface, name, fields string) cache.ListerWatcherWithContext {
	request := func(o metav1.ListOptions) *rest.Request {
		o.FieldSelector = fields
		return c.Get().Resource(name).VersionedParams(&o, metav1.ParameterCodec)
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			var list runtime.Object = &corev1.PodList{}
			if name == "events" {
				list = &corev1.EventList{}
			}
			return list, request(o).Do(ctx).Into(list)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.Watch = true
			return request(o).Watch(ctx)
		},
	}
}

// lean is a source whose lists are made small page by page, and that says whether
// it is reached.
type lean struct {
	cache.ListerWatcherWithContext
	keep  func(runtime.Object) runtime.Object
	reach *reach
}

// List and Watch are those without a context, which a Reflector never calls.
func (l *lean) List(o metav1.ListOptions) (runtime.Object, error) {
	return l.ListWithContext(context.Background(), o)
}

// Watch is WatchWithContext, likewise.
func (l *lean) Watch(o metav1.ListOptions) (watch.Interface, error) {
	return l.WatchWithContext(context.Background(), o)
}

// IsWatchListSemanticsUnSupported has the Reflector list and then watch: the
// stream of all there is cannot be ended while it waits to try again.
func (l *lean) IsWatchListSemanticsUnSupported() bool { return true }

// ListWithContext lists a page. The server's cache ("0") would give all in one.
func (l *lean) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	if o.ResourceVersion == "0" {
		o.ResourceVersion = ""
	}
	full, err := l.ListerWatcherWithContext.ListWithContext(ctx, o)
	if err != nil {
		l.miss(ctx, err)
		return nil, err
	}
	return l.small(full)
}

func (l *lean) small(full runtime.Object) (runtime.Object, error) {
	out := &metainternal.List{}
	switch f := full.(type) {
	case *corev1.PodList:
		out.ListMeta = f.ListMeta
		for i := range f.Items {
			out.Items = append(out.Items, l.keep(&f.Items[i]))
		}
	case *corev1.EventList:
		out.ListMeta = f.ListMeta
		for i := range f.Items {
			out.Items = append(out.Items, l.keep(&f.Items[i]))
		}
	default:
		return nil, fmt.Errorf("the API answered with %T", full)
	}
	return out, nil
}

// WatchWithContext goes on from what was listed: all that there was is known.
func (l *lean) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	w, err := l.ListerWatcherWithContext.WatchWithContext(ctx, o)
	if err != nil {
		l.miss(ctx, err)
		return nil, err
	}
	l.reach.found()
	return w, nil
}

// miss notes a failure, unless it is our own end.
func (l *lean) miss(ctx context.Context, err error) {
	if ctx.Err() == nil {
		l.reach.lost(err)
	}
}
