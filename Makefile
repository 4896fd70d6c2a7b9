# Everything a developer does here. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# gVisor starts this very binary inside a chroot, where a dynamic linker is not to be found.
export CGO_ENABLED := 0

# Everything is built with gVisor as third_party/gvisor changes it. A plain "go build" takes gVisor
# as it is, and what it builds refuses to run sandboxes: streams into them would lose data.
export GOFLAGS := -modfile=$(CURDIR)/.build/go.mod -trimpath

# Images, snapshots and the store of `make run` live here; delete it to start anew.
DATA := $(CURDIR)/.sandpool
GOFLAGS_BUILD := -ldflags "-s -w"

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: root
root:
	@[ "$$(id -u)" = 0 ] || { echo "sandpool makes namespaces and cgroups, so this target needs root: sudo make $(MAKECMDGOALS)" >&2; exit 1; }

.PHONY: go
go:
	@command -v go >/dev/null || { echo "Go is missing: install go1.26 or newer from https://go.dev/dl and run again" >&2; exit 1; }

.PHONY: gvisor
gvisor: go
	@scripts/gvisor

.PHONY: deps
deps: ## install what builds need from the distribution
	@scripts/deps

.PHONY: build
build: gvisor ## build bin/sandpool and bin/sandpool-agent (static)
	@[ -e bin/sandpool ] || echo "building bin/sandpool and bin/sandpool-agent: the first build compiles gVisor and takes 2 to 4 minutes" >&2
	@mkdir -p bin
	@go build $(GOFLAGS_BUILD) -o bin/sandpool ./cmd/sandpool
	@go build $(GOFLAGS_BUILD) -o bin/sandpool-agent ./cmd/sandpool-agent

.PHONY: clients
clients: ## pack the clients for Python and TypeScript into dist/, as registries take them
	@mkdir -p dist
	@python3 -m pip wheel --quiet --no-deps --wheel-dir dist clients/python
	@cd clients/typescript && npm install --silent --no-save --no-package-lock && npm pack --silent --pack-destination ../../dist

.PHONY: oci
oci: build ## write the container image of sandpool to dist/oci, without Docker, and to a registry: PUSH=registry.example/sandpool:1
	@go run ./internal/oci/pack/sandpool-oci $(if $(PUSH),-push $(PUSH))

.PHONY: run
run: root deps build ## serve pool "python" with 3 ready sessions, run a sample, stay up until Ctrl-C
	@exec bin/sandpool serve --quickstart --data-dir $(DATA)

.PHONY: image
image: root deps build ## build the Python image if it is missing or its recipe has changed
	@bin/sandpool image build python --if-changed --data-dir $(DATA)

# The images of all languages, which tests, soak and benchmarks need.
.PHONY: images
images: image
	@for name in node shell; do bin/sandpool image build $$name --if-changed --data-dir $(DATA) || exit 1; done

.PHONY: test-deps
test-deps: root
	@scripts/deps --tests

.PHONY: test
test: test-deps images ## all tests, real gVisor sandboxes included; what cannot run fails
	SANDPOOL_TEST_ALL=1 SANDPOOL_TEST_DATA=$(DATA) go test -shuffle=on -timeout 30m ./...

.PHONY: test-cgroup2
test-cgroup2: root build ## a Debian 13 with cgroup v2 and systemd, in QEMU: the unit, limits, the engine's tests
	@scripts/deps --machine
	@bin/sandpool image build python --slim --if-changed --data-dir $(DATA)/test-cgroup2
	@SANDPOOL_TEST_DATA=$(DATA) test/cgroup2/run $(PHASES)

.PHONY: test-kube
test-kube: root deps build ## the Kubernetes engine in a real cluster, which the first run builds (12 minutes of processor time)
	@scripts/deps --cluster
	@bin/sandpool image build python --slim --if-changed --data-dir $(DATA)/test-kube
	@for name in node shell; do bin/sandpool image build $$name --if-changed --data-dir $(DATA) || exit 1; done
	SANDPOOL_TEST_DATA=$(DATA) SANDPOOL_TEST_KUBE=1 go test -count=1 -v -timeout 60m -run $(or $(RUN),TestCluster) ./test/kube

.PHONY: test-upgrade
test-upgrade: root build images ## sessions of an earlier version go on under this one: FROM=a tag or a commit
	@SANDPOOL_TEST_DATA=$(DATA) test/upgrade/run $(FROM)

# Sandboxes need a static binary, which the detector's are not: tests that start some are skipped,
# and the packages that are about them, with the server that runs them, are left out.
.PHONY: race
race: gvisor ## the packages without gVisor under the race detector (needs a C compiler)
	CGO_ENABLED=1 SANDPOOL_TEST_ALL= SANDPOOL_TEST_DATA= go test -race -shuffle=on -timeout 30m $$(go list ./... | grep -v -e sandbox/gvisor -e internal/server -e cmd/sandpool$$ -e cmd/sandpool/serve -e /test)

.PHONY: soak
soak: images ## the long forms of what breaks streams and kills: SOAK_SESSIONS=10000 STREAM_BREAKS=10000
	SANDPOOL_TEST_DATA=$(DATA) SANDPOOL_TEST_BREAKS=$${STREAM_BREAKS:-10000} go test -count=1 -timeout 2h -v -run TestBreaks ./test/streams
	SANDPOOL_TEST_DATA=$(DATA) SANDPOOL_TEST_SOAK=$${SOAK_SESSIONS:-10000} go test -count=1 -timeout 6h -v -run 'TestSoak|TestUsageAddsUp' ./test/soak

.PHONY: bench
bench: images test-deps ## measure sandpool and its peers in one run
	@SANDPOOL_TEST_DATA=$(DATA) go run ./test/bench
	@SANDPOOL_TEST_DATA=$(DATA) go test -run '^$$' -bench . -benchtime 1x -timeout 30m ./test/custom ./test/egress

.PHONY: lint
lint: go ## golangci-lint, pinned
	@GOFLAGS= go tool -modfile=tools/go.mod golangci-lint run

.PHONY: clean
clean: ## remove binaries; images and sessions stay
	rm -rf bin
