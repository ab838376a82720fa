# Everything that a developer runs. `make` alone prints the list.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Go's own version stamp fails in a clone of another user's. The linker sets the version instead.
export GOFLAGS := -buildvcs=false $(GOFLAGS)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X github.com/punchclock/punchclock/node.Version=$(VERSION)

# Tools built from the Go module proxy.
TOOLS         := $(CURDIR)/.cache/bin
GOLANGCI      := v2.15.0
GOLANGCI_LINT := $(TOOLS)/golangci-lint-$(GOLANGCI)
# The version in tracing/monitoring/collector/builder.yaml.
OTELCOL_VERSION := v0.158.0
OTELCOL         := $(TOOLS)/otelcol-$(OTELCOL_VERSION)

# Packages to test, and flags of go test, such as PKG=./node/batcher/... TESTFLAGS='-run Poison -v'.
PKG       ?= ./...
TESTFLAGS ?=
export TESTFLAGS
# The limit for one package. The longest package took 3.5 minutes on two cores.
TIMEOUT   ?= 10m
FUZZTIME  ?= 10s

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install the packages that the other targets need, so that none of them needs root (scripts/setup)
	@scripts/setup database compiler promtool dns linters generators redis

.PHONY: demo
demo: build database ## Start three regions, send a morning rush, audit every punch, show one trace
	@exec bin/punchclock-lab demo $(ARGS)

.PHONY: up
up: build database ## Start the same cluster and leave it running until Ctrl-C
	@exec bin/punchclock-lab up $(ARGS)

.PHONY: drill
drill: DRILL = all
drill: build database ## Break the cluster in every way under load and audit every punch (DRILL=kill-node for one)
	CGO_ENABLED=0 go build -trimpath -tags lab_clock -o bin/punchclock-lab-clock ./node/cmd/punchclock
	@exec bin/punchclock-lab drill $(DRILL) $(ARGS)

# With a profile Go compiles every package of the node a second time. Tests and linters need no fast node.
.PHONY: test
test: export GOFLAGS := -pgo=off $(GOFLAGS)
test: database compiler promtool dns ## Check format, vet, and run all tests with -race, on a real database and real processes
	@scripts/check-format
	go vet $(PKG)
	TIMEOUT=$(TIMEOUT) scripts/test $(PKG)
	@command -v terraform >/dev/null || echo 'SKIPPED: terraform is not on the PATH, so terraform/local and the drill terraform-region were not tested' >&2
	@$(if $(filter ./... ./terraform%,$(PKG)),scripts/aws-provider --report,:) # go test does not show what it skips

.PHONY: lint
lint: export GOFLAGS := -pgo=off $(GOFLAGS)
lint: $(GOLANGCI_LINT) ## Run the linters (golangci-lint is built once and cached in .cache)
	@scripts/setup linters
	$(GOLANGCI_LINT) run
	@scripts/lint-scripts

.PHONY: collector
collector: $(OTELCOL) ## Build OpenTelemetry's collector once, in .cache, and send traces through our configuration
	go test -count=1 -v -run Collector ./tracing/monitoring

# The peers are a Go module of their own. -mod=mod lets them follow the versions of the product's modules.
.PHONY: peers
peers:
	cd node/lab/bench/peers && CGO_ENABLED=0 go build -mod=mod -trimpath -o $(CURDIR)/bin/punchclock-peers .

.PHONY: bench
bench: build peers database redis ## Measure and write BENCHMARKS.md (BENCH=overload for one part, ARGS=--engine=postgres for one engine)
	@PATH=$(TOOLS):$$PATH exec bin/punchclock-lab bench $(BENCH) $(ARGS)

.PHONY: pgo
pgo: build database ## Take the CPU profile by which Go optimises the node, under real load (node/cmd/punchclock/default.pgo)
	@exec bin/punchclock-lab pgo $(ARGS)

.PHONY: fuzz
fuzz: ## Run every fuzz test for a short time (FUZZTIME=10s)
	@scripts/fuzz $(FUZZTIME) $(PKG)

.PHONY: fmt
fmt: ## Format all Go code
	gofmt -w $$(scripts/go-files)

.PHONY: generate
generate: ## Generate code again (installs protoc if it is missing)
	@scripts/setup generators
	GOBIN=$(TOOLS) go install google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/v2/cmd/protoc-gen-connect-go
	PATH=$(TOOLS):$$PATH go generate ./...

# Without cgo the build needs no C compiler and the binaries need no library.
.PHONY: build
build: ## Build bin/punchclock and bin/punchclock-lab
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./node/cmd/punchclock ./node/cmd/punchclock-lab

.PHONY: clean
clean: ## Remove what was built, and cached tools
	rm -rf bin .cache

# Needs of the targets above, not for the list.
.PHONY: database compiler promtool dns redis
database compiler promtool dns redis:
	@scripts/setup $@

# The builder writes a program and builds it, once, within some minutes.
$(OTELCOL): tracing/monitoring/collector/builder.yaml
	@echo 'building otelcol $(OTELCOL_VERSION), once; it takes some minutes'
	GOFLAGS= CGO_ENABLED=0 go run go.opentelemetry.io/collector/cmd/builder@$(OTELCOL_VERSION) --config $<
	@mkdir -p $(@D)
	@mv .cache/otelcol/otelcol $@

$(GOLANGCI_LINT):
	@echo 'building golangci-lint $(GOLANGCI), once; it takes a minute or two'
	GOFLAGS= GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	@mv $(TOOLS)/golangci-lint $@
