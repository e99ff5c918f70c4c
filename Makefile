# Everything here works on a fresh clone with Go, gcc, make and git. `make` alone lists the targets.

GO      ?= go
# One version for all programs, that of the manifest, and what they were built from.
VERSION ?= $(shell sed -n 's/^  version: *//p' builder-config.yaml)
COMMIT  ?= $(shell git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)
CONFIG  ?= otelcol-tapio/config.yaml
# What the demo breaks, and how: leak, sigkill, stop, hang or none (examples/checkout/README.md).
FAULT   ?= leak

# Debian and Ubuntu packages that `make generate` needs: the compiler of the kernel programs, and their headers.
PACKAGES = clang-19 llvm-19 libbpf-dev
# What `make e2e-cni` needs: plugins and a container runtime.
PACKAGES += containernetworking-plugins containerd runc iproute2 iptables
# What `make e2e-systemd` needs: a systemd that boots in a container, and its bus, a resolver and a database.
PACKAGES += systemd-container dbus dnsmasq-base redis-server
# What the tests of the journal need: journald, journalctl, and what writes files from text.
PACKAGES += systemd systemd-journal-remote
# What `make kernel-matrix` needs: a machine to boot kernels in, and a user space for it. Kernels are downloaded, not installed.
PACKAGES += qemu-system-x86 busybox-static
# What `make bench-ebpf` compares with.
PACKAGES += bpftrace

# Servers of the tests of tapio_ebpf's group http.
PACKAGES += nodejs python3
# What its tests damage: a file system.
PACKAGES += e2fsprogs
# What the tests of its group tls link into a server of C.
PACKAGES += libssl-dev

# The modules of this repository, the root last: its tests are the longest, and what they skipped is what one reads.
MODULES = $(patsubst %/go.mod,%,$(wildcard otelcol-tapio/go.mod tools/go.mod test/go.mod benchmarks/go.mod)) .
# test/ runs real binaries for minutes: make e2e.
TESTED  = $(filter-out test,$(MODULES))

# One set of flags for build, test, vet and lint, so that they share what is compiled. buildvcs off: git refuses a checkout of
# another user, as in many containers; the version comes from git describe.
export GOFLAGS := $(shell $(GO) env GOFLAGS) -trimpath -buildvcs=false
export CGO_ENABLED ?= 0

TOOL    = $(GO) tool -modfile=$(CURDIR)/tools/go.mod
SUMMARY = $(TOOL) gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg

.DEFAULT_GOAL := help
.PHONY: help deps build run demo dev watch test test-race bench bench-ebpf bench-peers rca e2e e2e-cni e2e-systemd journal-million kernel-matrix generate lint vet tidy-check fmt clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Install what generate, e2e-cni, e2e-systemd, kernel-matrix and bench-ebpf need (with apt, as root) and download the modules
	@.ci/packages $(PACKAGES)
	@for m in $(MODULES); do (cd $$m && $(GO) mod download) || exit 1; done

build: ## Compile bin/otelcol-tapio, bin/tapio and bin/checkout
	cd otelcol-tapio && $(GO) build -ldflags '-s -w' -o ../bin/otelcol-tapio .
	$(GO) build -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o bin/ ./cmd/tapio ./examples/checkout

run: build ## Start the collector with CONFIG (otelcol-tapio/config.yaml)
	exec bin/otelcol-tapio --config $(CONFIG)

demo: build ## Break a small shop for real and explain it (FAULT=leak, sigkill, stop, hang or none)
	exec bin/checkout run --fault $(FAULT) --collector bin/otelcol-tapio --tapio bin/tapio --config $(CONFIG)

dev: build ## Start the collector with CONFIG and debug logging
	TAPIO_LOG_LEVEL=debug exec bin/otelcol-tapio --config $(CONFIG)

watch: ## On every change of a Go file: test its package, then build
	$(TOOL) gotestsum --watch --format pkgname-and-test-fails --post-run-command 'sh -c "make --no-print-directory build || true"'

test: ## Run the tests of all modules but test/ (make e2e); ends with what was skipped and why
	@status=0; for m in $(TESTED); do \
		echo "== module $$m"; (cd $$m && $(SUMMARY) -- $(TESTFLAGS) ./...) || status=1; \
	done; exit $$status

# Not otelcol-tapio: the race detector would compile all of the collector again, for packages that are tested here.
test-race: ## The tests of our own packages with the race detector
	@$(MAKE) --no-print-directory test TESTED='tools .' TESTFLAGS='-race -timeout 20m $(TESTFLAGS)' CGO_ENABLED=1

bench: ## Run the benchmarks of the processor
	$(GO) test -run='^$$' -bench=. -benchmem ./processor/...

rca: ## Measure root-cause accuracy on a labelled data set: DATA=dir, or SCENARIO=options [JSON=file] [ARGS='--no-logs -v ...'] (docs/accuracy.md)
	@test -n "$(DATA)$(SCENARIO)" || { echo "make rca DATA=dir: DATA is missing: name the directory of a data set, or SCENARIO=default, see docs/accuracy.md"; exit 2; }
	@cd benchmarks && $(GO) run ./rca $(if $(SCENARIO),--scenario '$(SCENARIO)',--data $(abspath $(DATA))) $(if $(JSON),--json $(abspath $(JSON))) $(ARGS)

bench-ebpf: ## What the kernel programs cost, next to bpftrace, and how many events a second reach the next component (root; five minutes on a quiet machine); IDLE=1m: what they cost when nothing happens
	@cd benchmarks && $(GO) run ./ebpf $(if $(IDLE),-idle $(IDLE))
	@$(if $(IDLE),,$(GO) test -run '^$$' -bench BenchmarkFlood -benchtime 1x ./receiver/ebpfreceiver)

bench-peers: ## Compare a whole collector with and without the processor, and with others (minutes; builds a collector with all of them)
	@mkdir -p bin
	$(TOOL) builder --config benchmarks/peers.yaml
	cd benchmarks && $(GO) run . --collector ../bin/peers/otelcol-peers

e2e: build ## Run the shop, break it, check every number (five to six minutes; needs root for kernel evidence)
	cd test && $(GO) test -count=1 -v -timeout 20m ./e2e

e2e-systemd: build ## Break units and reboots of a real systemd in a container and explain them; rotate a journal and kill its reader (about four minutes; needs root)
	cd test && $(GO) test -count=1 -p 1 -v -timeout 10m ./systemd ./journal

journal-million: ## Compare a million journal entries, read over rotations, with journalctl -o json, one by one (about five minutes)
	TAPIO_MILLION=1 $(GO) test -count=1 -v -timeout 20m -run TestMillion ./internal/journal

e2e-cni: build ## Watch real CNI plugins, called by cnitool and containerd; explain what breaks of them (five minutes; needs root)
	cd test && $(GO) test -count=1 -p 1 -v -timeout 20m ./cni/...

kernel-matrix: ## Run the kernel programs on other kernels, which QEMU boots (a quarter of an hour on a busy machine; no root); TAPIO_KERNEL_TESTS=.: all tests
	cd test && $(GO) test -count=1 -v -timeout 35m ./kernels

generate: ## Rewrite generated code: kernel objects, component metadata, otelcol-tapio, docs/events.md, docs/telemetry.md
	$(GO) generate ./...
	$(TOOL) builder --config builder-config.yaml --skip-compilation
	cd tools && $(GO) run ./eventsdoc ..

lint: ## Run golangci-lint on all modules
	@status=0; for m in $(MODULES); do \
		echo "== module $$m"; (cd $$m && $(TOOL) golangci-lint run --config $(CURDIR)/.golangci.yml ./...) || status=1; \
	done; exit $$status

vet: ## Run go vet on all modules
	@for m in $(MODULES); do (cd $$m && $(GO) vet ./...) || exit 1; done

tidy-check: ## Fail when a go.mod or go.sum is not what go mod tidy writes
	@for m in $(MODULES); do (cd $$m && $(GO) mod tidy -diff) || exit 1; done

fmt: ## Format the Go code
	@for m in $(MODULES); do (cd $$m && $(TOOL) golangci-lint fmt --config $(CURDIR)/.golangci.yml ./...) || exit 1; done

clean: ## Remove what build and test left here
	rm -rf bin coverage.*
