# Everything a developer runs. `make` alone prints this list.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Stamping by git fails in a clone that belongs to somebody else; the version
# comes from the linker instead.
export GOFLAGS := -buildvcs=false $(GOFLAGS)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X github.com/punchclock/punchclock/node.Version=$(VERSION)

# Tools that are built from the Go module proxy are kept here.
TOOLS         := $(CURDIR)/.cache/bin
GOLANGCI      := v2.15.0
GOLANGCI_LINT := $(TOOLS)/golangci-lint-$(GOLANGCI)
# The version of tracing/monitoring/collector/builder.yaml.
OTELCOL_VERSION := v0.158.0
OTELCOL         := $(TOOLS)/otelcol-$(OTELCOL_VERSION)

# What to test, such as PKG=./node/batcher/... and TESTFLAGS='-run Poison -v'. All,
# and the longest first: in the end it would run alone.
PKG       ?= ./node/lab/drill ./node ./...
TESTFLAGS ?=
# One shared cluster starts in some seconds; a test that hangs must not hold CI
# for longer than it takes to notice.
TIMEOUT   ?= 12m
# Short: enough to catch what the last change broke.
FUZZTIME  ?= 10s
BENCHTIME ?= 1s

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build database ## Start three regions, send a morning rush, account for every punch, show one trace
	@exec bin/punchclock-lab demo $(ARGS)

.PHONY: up
up: build database ## Start the same cluster and leave it running until Ctrl-C
	@exec bin/punchclock-lab up $(ARGS)

.PHONY: drill
drill: DRILL = all
drill: build database ## Break the cluster in every way under load and account for every punch (DRILL=kill-node for one)
	@exec bin/punchclock-lab drill $(DRILL) $(ARGS)

.PHONY: test
test: database compiler promtool dns ## Check format, vet, and run all tests with -race, on a real database and real processes
	@scripts/check-format
	go vet $(PKG)
	go test -race -vet=off -timeout $(TIMEOUT) $(TESTFLAGS) $(PKG)
	@command -v terraform >/dev/null || echo 'SKIPPED: terraform is not on the PATH, so terraform/local and the drill terraform-region were not tested' >&2
	@$(if $(filter ./... ./terraform%,$(PKG)),scripts/aws-provider --report,:) # go test does not show what it skips

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Run the linters (golangci-lint is built once and cached in .cache)
	@scripts/setup linters
	$(GOLANGCI_LINT) run
	@scripts/lint-scripts

.PHONY: collector
collector: $(OTELCOL) ## Build OpenTelemetry's collector (once, in .cache) and send traces through our configuration
	go test -count=1 -v -run Collector ./tracing/monitoring

.PHONY: bench
bench: PKG = ./node
bench: database ## Measure a node against one INSERT per request, on one database (PKG=./... for every benchmark)
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) -timeout 30m $(PKG)

.PHONY: fuzz
fuzz: ## Run every fuzz test for a short time (FUZZTIME=10s)
	@scripts/fuzz $(FUZZTIME) $(PKG)

.PHONY: fmt
fmt: ## Format all Go code
	gofmt -w $$(scripts/go-files)

.PHONY: generate
generate: ## Write generated code anew (needs protoc, which is installed if missing)
	@scripts/setup generators
	GOBIN=$(TOOLS) go install google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/v2/cmd/protoc-gen-connect-go
	PATH=$(TOOLS):$$PATH go generate ./...

# No cgo: the program needs no compiler to build and no library to run.
.PHONY: build
build: ## Build bin/punchclock and bin/punchclock-lab
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./node/cmd/punchclock ./node/cmd/punchclock-lab

.PHONY: clean
clean: ## Remove what was built, and cached tools
	rm -rf bin .cache

# Not for the list: what the targets above need from the machine.
.PHONY: database compiler promtool dns
database compiler promtool dns:
	@scripts/setup $@

# The builder writes a program of its own and builds it. Minutes, once.
$(OTELCOL): tracing/monitoring/collector/builder.yaml
	@echo 'building otelcol $(OTELCOL_VERSION), once; it takes some minutes'
	GOFLAGS= CGO_ENABLED=0 go run go.opentelemetry.io/collector/cmd/builder@$(OTELCOL_VERSION) --config $<
	@mkdir -p $(@D)
	@mv .cache/otelcol/otelcol $@

$(GOLANGCI_LINT):
	@echo 'building golangci-lint $(GOLANGCI), once; it takes a minute or two'
	GOFLAGS= GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI)
	@mv $(TOOLS)/golangci-lint $@
