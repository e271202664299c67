package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// fault is what the network does to whoever goes to a destination.
type fault string

// The faults. Each has one maker: the name server, the firewall, or the parent.
const (
	works         fault = "works"
	noName        fault = "the name server says NXDOMAIN"
	serverFailure fault = "the name server says SERVFAIL"
	sinkhole      fault = "the name server says 0.0.0.0"
	dropped       fault = "the firewall drops the SYN"
	refused       fault = "the firewall answers the SYN with RST"
	prohibited    fault = "the firewall answers the SYN with ICMP admin-prohibited"
	nameReset     fault = "the firewall resets on the server name"
	nameSilent    fault = "the firewall drops what holds the server name"
	parentDenied  fault = "the parent answers 403"
)

// way is how egressaudit goes to a destination.
type way string

// The ways. What nodes and pods send straight out is dropped, but to destinations
// that have the way direct.
const (
	direct way = "direct" // NO_PROXY of egressaudit has it
	parent way = "parent" // through the corporate proxy
)

// destination is a host of the internet, and what befalls its visitors.
type destination struct {
	host  string
	port  uint16
	way   way
	fault fault
}

// destinations are the whole internet. Their names are those of the embedded
// catalogs azure-arc and aml-extension, but for files.pythonhosted.org, which no
// page lists though every pip install needs it.
var destinations = []destination{
	{"management.azure.com", 443, direct, works},
	{"login.microsoftonline.com", 443, direct, works},
	{"eastus.login.microsoft.com", 443, direct, noName},
	{"login.windows.net", 443, direct, sinkhole},
	{"eastus.dp.kubernetesconfiguration.azure.com", 443, direct, works},
	{"gbl.his.arc.azure.com", 443, direct, works},
	{"eus.his.arc.azure.com", 443, direct, dropped},
	{"guestnotificationservice.azure.com", 443, direct, prohibited},
	{"sts.windows.net", 443, direct, refused},
	{"graph.microsoft.com", 443, direct, serverFailure},
	{"eastus.obo.arc.azure.com", 8084, direct, works},
	{"azgnrelay-eastus-l1.servicebus.windows.net", 443, direct, works},
	{"eastus.api.azureml.ms", 443, direct, works},
	{"eastus.experiments.azureml.net", 443, direct, works},
	{"ws1.workspace.eastus.api.azureml.ms", 443, direct, works},
	{"logs1.kusto.windows.net", 443, direct, works},
	{"logs1.table.core.windows.net", 443, direct, nameSilent},
	{"logs1.queue.core.windows.net", 443, direct, nameReset},
	{"store1.blob.core.windows.net", 443, direct, works},
	{"linuxgeneva-microsoft.azurecr.io", 443, direct, works},
	{"mcr.microsoft.com", 443, direct, works},
	{"eastus.data.mcr.microsoft.com", 443, direct, works},
	{"quay.io", 443, direct, works},
	{"cdn01.quay.io", 443, direct, works},
	{"cdn02.quay.io", 443, direct, nameReset},
	{"registry-1.docker.io", 443, direct, works},
	{"auth.docker.io", 443, direct, prohibited},
	{"gcr.io", 443, parent, parentDenied},
	{"pypi.org", 443, parent, works},
	{"files.pythonhosted.org", 443, parent, works},
	{"archive.ubuntu.com", 80, parent, works},
	{"security.ubuntu.com", 80, parent, parentDenied},
	{"ppa.launchpad.net", 80, parent, works},
}

// at is the address of a destination.
func at(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 0, byte(10 + i)}) }

// find is the destination of that name.
func find(host string) (destination, error) {
	i := slices.IndexFunc(destinations, func(d destination) bool { return d.host == host })
	if i < 0 {
		return destination{}, fmt.Errorf("%q is no destination of the plan", host)
	}
	return destinations[i], nil
}

// noProxy is what egressaudit is told to reach without the parent: the names, and
// the addresses that the gateway is asked for.
func noProxy() string {
	hosts := []string{"198.18.0.0/15"}
	for _, d := range destinations {
		if d.way == direct {
			hosts = append(hosts, d.host)
		}
	}
	return strings.Join(hosts, ",")
}

// site is a destination as the internet serves it.
type site struct {
	host     string
	registry *front // of registries and blob hosts
}

// repositories are the images of the trial install, and from where their blobs
// come.
var repositories = []struct{ registry, repository, blobs string }{
	{"mcr.microsoft.com", "azureml/client", "eastus.data.mcr.microsoft.com"},
	{"quay.io", "azureml/trainer", "cdn01.quay.io"},
	{"quay.io", "azureml/sidecar", "cdn02.quay.io"},
	{"gcr.io", "azureml/metrics", ""},
}

// sites are the destinations by their addresses.
func sites() map[netip.Addr]site {
	fronts := map[string]*front{}
	for _, r := range repositories {
		if fronts[r.registry] == nil {
			fronts[r.registry] = &front{blobs: map[string]string{}}
		}
		fronts[r.registry].blobs[r.repository] = r.blobs
		if r.blobs != "" {
			fronts[r.blobs] = &front{}
		}
	}
	all := map[netip.Addr]site{}
	for i, d := range destinations {
		all[at(i)] = site{d.host, fronts[d.host]}
	}
	return all
}

// part is a part of the trial install: a workload of the chart test/cluster/chart.
type part struct {
	name, kind string // of the owner: "operator", "Deployment"
	image      string
	role       string   // of test/cluster/client
	urls       []string // fetched, in this order
	around     bool     // it takes no notice of HTTPS_PROXY, and there is no gateway
	plain      bool     // it is not told of the proxy, and there is a gateway
	fails      bool     // its image cannot be pulled
}

// phase is a phase of the trial, with what is installed in it.
type phase struct {
	name    string
	gateway bool // the chart's gateway is on from here on
	parts   []part
}

const client = "mcr.microsoft.com/azureml/client:1"

// phases are the trial.
var phases = []phase{
	{"install the extension", false, []part{
		{name: "operator", kind: "Deployment", image: client, role: "operator", urls: []string{
			"https://management.azure.com/subscriptions", "https://login.microsoftonline.com/token", "https://eastus.login.microsoft.com/token",
			"https://login.windows.net/token", "https://eastus.dp.kubernetesconfiguration.azure.com/status", "https://gbl.his.arc.azure.com/discovery",
			"https://eus.his.arc.azure.com/identity", "https://guestnotificationservice.azure.com/", "https://sts.windows.net/", "https://graph.microsoft.com/v1.0",
			"https://eastus.obo.arc.azure.com:8084/", "https://eastus.api.azureml.ms/", "https://eastus.experiments.azureml.net/", "https://ws1.workspace.eastus.api.azureml.ms/",
		}},
		{name: "relay", kind: "Deployment", image: client, role: "relay", urls: []string{"https://azgnrelay-eastus-l1.servicebus.windows.net/$hc/listen"}},
		{name: "uploader", kind: "Deployment", image: client, role: "upload", urls: []string{
			"https://logs1.kusto.windows.net/v1", "https://logs1.table.core.windows.net/t", "https://logs1.queue.core.windows.net/q",
		}},
		{name: "agent", kind: "DaemonSet", image: client, role: "agent", urls: []string{"https://linuxgeneva-microsoft.azurecr.io/v2/"}, around: true},
		{name: "sidecar", kind: "Deployment", image: "quay.io/azureml/sidecar:1", role: "pause", fails: true},
		{name: "metrics", kind: "Deployment", image: "gcr.io/azureml/metrics:1", role: "pause", fails: true},
	}},
	{"train", false, []part{
		{name: "train", kind: "Job", image: "quay.io/azureml/trainer:1", role: "train", urls: []string{
			"https://store1.blob.core.windows.net/scripts", "http://archive.ubuntu.com/ubuntu/dists/jammy/InRelease", "http://security.ubuntu.com/ubuntu/dists/jammy-security/InRelease",
			"http://ppa.launchpad.net/deadsnakes", "https://pypi.org/simple/numpy/", "https://files.pythonhosted.org/packages/numpy.whl",
		}},
	}},
	{"without settings", true, []part{
		{name: "plain", kind: "Deployment", image: client, role: "operator", urls: []string{"https://registry-1.docker.io/v2/", "https://auth.docker.io/token"}, plain: true},
		// What the proxy sends goes through the gateway then, which leaves it alone: it is
		// seen once, and what is blocked is blocked as before.
		{name: "late", kind: "Job", image: client, role: "train", urls: []string{
			"https://management.azure.com/late", "https://pypi.org/simple/late/", "https://eus.his.arc.azure.com/late", "https://sts.windows.net/late", "https://gcr.io/late",
		}},
	}},
}
