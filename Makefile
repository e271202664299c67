# egressaudit. `make demo` and `make test` need Go (and curl for the demo) and
# nothing else; `make e2e`, `make dns`, `make matrix`, `make deploy` and
# `make cluster` are for root on Debian 12 and install what they need.

GO         ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME   ?= 10s

.PHONY: build demo test check lint cross fuzz quic e2e browser alerts systemd dns matrix cluster cluster-up cluster-sh cluster-down deploy image manifests bench bench-report bench-capture

build:            ## the program, into ./egressaudit
	$(GO) build -o egressaudit ./cmd/egressaudit

demo:             ## an install behind a firewall that blocks three endpoints, and its report
	@sh test/demo/demo.sh

test:             ## everything that needs neither root nor Debian packages
	$(GO) test ./...

check: lint cross ## everything: what CI runs
	env -u EGRESSAUDIT_E2E $(GO) test -race -p 1 ./...
	$(MAKE) fuzz quic demo e2e alerts systemd dns matrix cluster deploy

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "lint: run gofmt -w on these files"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

cross:            ## the verbs that only read files build elsewhere, too
	GOOS=darwin $(GO) build -o /dev/null ./cmd/egressaudit
	GOOS=windows $(GO) build -o /dev/null ./cmd/egressaudit

fuzz:             ## each fuzz target for FUZZTIME
	@sh test/fuzz.sh $(FUZZTIME)

quic:             ## the QUIC relay under a real implementation: root
	cd test/quic && $(GO) vet . && $(GO) test -race ./...

e2e: browser      ## real clients, a capturing gateway, run --isolate: root, Debian 12
	@EGRESSAUDIT_E2E=$${EGRESSAUDIT_E2E:-try} sh test/e2e/run.sh

browser:          ## the pages in Chromium, with axe-core: Debian 12, and root to install them
	@EGRESSAUDIT_E2E=$${EGRESSAUDIT_E2E:-try} sh test/browser/run.sh

systemd:          ## the units of deploy/systemd, and serve as they run it: root, systemd
	@EGRESSAUDIT_E2E=$${EGRESSAUDIT_E2E:-try} $(GO) test -count 1 -timeout 5m ./deploy/systemd

alerts:           ## the alerting rules under promtool: root, Debian 12
	@EGRESSAUDIT_E2E=$${EGRESSAUDIT_E2E:-try} sh test/alerts/run.sh

dns:              ## the forwarder between real name servers and clients: root, Debian 12
	@EGRESSAUDIT_E2E=$${EGRESSAUDIT_E2E:-try} sh test/dns/run.sh

matrix:           ## every cause by real devices in network namespaces: root, Debian 12
	@if [ "$$(id -u)" != 0 ] && [ "$$EGRESSAUDIT_E2E" != must ]; then \
		echo "matrix: skipped: network namespaces need root"; \
	else sh test/matrix/run.sh; fi

deploy:           ## the image twice, and the chart before a Kubernetes API server: root, Debian 12
	@EGRESSAUDIT_E2E=$${EGRESSAUDIT_E2E:-try} sh deploy/run.sh

image:            ## the image, into ./egressaudit-image.tar, without a Docker daemon: needs buildah
	@sh deploy/image.sh egressaudit-image.tar

manifests:        ## deploy/kubernetes, anew from the chart: needs helm, in $HELM or the path
	@sh deploy/kubernetes/generate.sh
cluster:          ## an install on a real Kubernetes, its report held against the truth, and a rolling restart: root, Debian 12
	@EGRESSAUDIT_E2E=$${EGRESSAUDIT_E2E:-try} sh test/cluster/run.sh

cluster-up:       ## that Kubernetes with egressaudit, until ^C; cluster-sh looks inside, cluster-down ends it
	@sh test/cluster/run.sh up

cluster-sh cluster-down:
	@sh test/cluster/run.sh $(@:cluster-%=%)

bench:            ## beside tinyproxy, squid and a bare goproxy; unbound, dnsmasq and CoreDNS: root, Debian 12
	@sh test/bench/run.sh
	@sh test/bench/run.sh -dns

bench-report:     ## the report over a ledger of ten million records: 15 GB of disk
	@$(GO) run ./test/bench/report

bench-capture:    ## captured connections beside haproxy and plain forwarding: root, Debian 12
	@sh test/bench/capture/run.sh
