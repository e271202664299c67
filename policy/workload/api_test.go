package workload

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/egressaudit/egressaudit/policy"
)

// web is an API that speaks JSON over HTTP, as far as it is asked: lists in pages,
// and watches.
type web struct {
	pods   []corev1.Pod
	events chan metav1.WatchEvent // of the watch of pods
	later  corev1.EventList

	mu    sync.Mutex
	asked []string // method, path, field selector and limit
}

func (s *web) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.mu.Lock()
	s.asked = append(s.asked, fmt.Sprintf("%s %s watch=%s fields=%s limit=%s version=%s", r.Method, r.URL.Path, q.Get("watch"), q.Get("fieldSelector"), q.Get("limit"), q.Get("resourceVersion")))
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Header.Get("Authorization") != "Bearer secret":
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == "/api/v1/events" && q.Get("watch") == "":
		json.NewEncoder(w).Encode(s.later)
	case q.Get("watch") == "":
		s.page(w, q.Get("limit"), q.Get("continue"))
	default:
		s.stream(w, r)
	}
}

// page is a part of the pods; the rest has a token.
func (s *web) page(w http.ResponseWriter, limit, token string) {
	n, _ := strconv.Atoi(limit)
	from, _ := strconv.Atoi(token)
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, ListMeta: metav1.ListMeta{ResourceVersion: "7"}}
	to := min(len(s.pods), from+n)
	if list.Items = s.pods[from:to]; to < len(s.pods) {
		list.Continue = strconv.Itoa(to)
	}
	json.NewEncoder(w).Encode(list)
}

func (s *web) stream(w http.ResponseWriter, r *http.Request) {
	w.(http.Flusher).Flush()
	if r.URL.Path != "/api/v1/pods" {
		<-r.Context().Done()
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case e := <-s.events:
			json.NewEncoder(w).Encode(e)
			w.(http.Flusher).Flush()
		}
	}
}

// kubeconfig is a file that leads to a server.
func kubeconfig(t *testing.T, server *httptest.Server, token string) string {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	path := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, `
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: u, user: {token: %s}}]
`, server.URL, base64.StdEncoding.EncodeToString(ca), token), 0o600))
	return path
}

// eventually waits for what an other goroutine does.
func eventually(t *testing.T, is func() bool) {
	t.Helper()
	require.Eventually(t, is, 10*time.Second, time.Millisecond)
}

func TestAPIOverHTTP(t *testing.T) {
	s := &web{events: make(chan metav1.WatchEvent), later: corev1.EventList{TypeMeta: metav1.TypeMeta{Kind: "EventList", APIVersion: "v1"}}}
	for i := range 1200 { // 500 a page
		s.pods = append(s.pods, *aPod(fmt.Sprint("u", i), fmt.Sprint("p", i), -100, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String()))
	}
	server := httptest.NewTLSServer(s)
	defer server.Close()
	api, err := Connect(kubeconfig(t, server, "secret"), "egressaudit/test")
	require.NoError(t, err)
	k := Watch(api, Config{Sink: new(book).take, Event: func(*policy.Event) error { return nil }, Log: zerolog.Nop()})
	defer k.Close()
	eventually(t, k.Known)
	name := func(a string) string {
		w, _ := k.index.At(netip.MustParseAddr(a), time.Now())
		return w.Name
	}
	require.Equal(t, "ml/p1199", name("10.1.4.175"))
	p := aPod("new", "new", 0, "10.2.0.1")
	p.TypeMeta, p.ResourceVersion = metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}, "8"
	s.events <- metav1.WatchEvent{Type: "ADDED", Object: runtime.RawExtension{Object: p}}
	eventually(t, func() bool { return name("10.2.0.1") == "ml/new" })

	s.mu.Lock()
	defer s.mu.Unlock()
	lists := slices.DeleteFunc(slices.Clone(s.asked), func(line string) bool {
		return !slices.Contains([]string{"GET /api/v1/pods watch= fields= limit=500 version="}, line)
	})
	require.Len(t, lists, 3, "in pages: %q", s.asked)
	require.Contains(t, s.asked, "GET /api/v1/pods watch=true fields= limit= version=7")
	require.Contains(t, s.asked, "GET /api/v1/events watch= fields="+quiet+" limit=500 version=")
}

func TestAPIThatRefuses(t *testing.T) {
	server := httptest.NewTLSServer(&web{})
	defer server.Close()
	api, err := Connect(kubeconfig(t, server, "wrong"), "egressaudit/test")
	require.NoError(t, err)
	k := Watch(api, Config{Sink: new(book).take, Event: func(*policy.Event) error { return nil }, Log: zerolog.Nop()})
	defer k.Close()
	eventually(t, func() bool {
		k.reach[0].mu.Lock()
		defer k.reach[0].mu.Unlock()
		return k.reach[0].why != ""
	})
	require.False(t, k.Known())
	require.Contains(t, k.reach[0].why, "; it needs get, list and watch of pods and events")
}

func TestConnect(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err := Connect("", "a")
	require.ErrorIs(t, err, ErrNotInside)
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	_, err = Connect("", "a")
	require.ErrorContains(t, err, "read the service account of this pod: ")
	missing := filepath.Join(t.TempDir(), "none")
	_, err = Connect(missing, "a")
	require.EqualError(t, err, fmt.Sprintf("read kubeconfig %q: no such file or directory", missing))
	words := filepath.Join(t.TempDir(), "words")
	for _, text := range []string{"some words", `{"apiVersion":"v1","kind":"start"}`} {
		require.NoError(t, os.WriteFile(words, []byte(text), 0o600))
		_, err = Connect(words, "a")
		require.EqualError(t, err, fmt.Sprintf("read kubeconfig %q: no YAML or JSON with apiVersion: v1 and kind: Config", words))
	}
	require.NotContains(t, err.Error(), "\n")
	away := filepath.Join(t.TempDir(), "away")
	require.NoError(t, os.WriteFile(away, []byte(`{"apiVersion":"v1","kind":"Config","current-context":"a","contexts":[{"name":"a","context":{"cluster":"c","user":"u"}}],
		"clusters":[{"name":"c","cluster":{"server":"https://192.0.2.1"}}],"users":[{"name":"u","user":{"client-certificate":"/none.pem","client-key":"/none.key"}}]}`), 0o600))
	_, err = Connect(away, "a")
	require.ErrorContains(t, err, "/none.pem")
	bad := filepath.Join(t.TempDir(), "bad")
	require.NoError(t, os.WriteFile(bad, []byte("a: [\n"), 0o600))
	_, err = Connect(bad, "a")
	require.ErrorContains(t, err, "read kubeconfig")
	require.NotContains(t, err.Error(), "\n")
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	_, err = Connect(empty, "a")
	require.ErrorContains(t, err, "it names no cluster")
}
