# Everything that a newcomer runs. "make demo" shows the main job on real
# servers, "make test" runs every test; both get the servers first.

GOLANGCI_LINT_VERSION := v2.15.0
FUZZTIME ?= 20s
FLAVOUR ?= mysql

golangci_lint := .tools/bin/golangci-lint
golangci_stamp := .tools/golangci-lint-$(GOLANGCI_LINT_VERSION)

.PHONY: build servers test race lint fuzz demo clean

build:
	CGO_ENABLED=0 go build -trimpath -o bin/shardseed .

# What was built, with its manual page, completion and the hooks for vttablet.
PREFIX ?= /usr/local
PROGRAM ?= bin/shardseed
.PHONY: install
install:
	install -D -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/shardseed
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/share/shardseed/vthook vthook/*
	install -d $(DESTDIR)$(PREFIX)/share/man/man8 $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions
	$(PROGRAM) man >$(DESTDIR)$(PREFIX)/share/man/man8/shardseed.8
	$(PROGRAM) completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/shardseed
	$(PROGRAM) completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_shardseed

# MySQL and MariaDB, unpacked into .servers/ without root; does nothing when
# they are there.
servers:
	@scripts/servers.sh

test: servers
	@scripts/failures.sh go test -count=1 -shuffle=on -timeout=40m -p=2 -parallel=4 ./...

race: servers
	@CGO_ENABLED=1 scripts/failures.sh go test -race -count=1 -shuffle=on -timeout=60m -p=2 ./...

lint: $(golangci_stamp)
	@set -e; for script in scripts/*.sh .ci/run; do bash -n $$script; done; for script in vthook/*; do sh -n $$script; done
	go mod tidy -diff
	go vet ./...
	$(golangci_lint) run --allow-parallel-runners ./...

$(golangci_stamp):
	GOBIN=$(CURDIR)/.tools/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@touch $@

# Each fuzz target of each package in turn, for FUZZTIME.
fuzz:
	@set -e; for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

# The protocol of commits and garbage collection, explored at larger scopes than
# the tests do: ten minutes. Prints the tables of docs/testing.md.
.PHONY: model
model:
	@go run ./fuzz model

# The code of writers, readers and garbage collection in RUNS worlds whose order
# of operations, faults and delays come from SEED and the seeds after it.
RUNS ?= 5000
SEED ?= $(shell date +%s)
.PHONY: simulate
simulate:
	go test -count=1 -timeout=60m -run TestSimulate ./fuzz/simulate -seed $(SEED) -runs $(RUNS)

# Kills of shardseed, mysqld and vttablet at each step of what a Vitess tablet
# goes through, in every way that things may go on: see docs/testing.md.
.PHONY: kills
kills: servers
	go test -count=1 -timeout=60m -parallel=4 -run 'TestVitessScripts/killed' ./commands -all-kills

# Every fault at every call of every command, every power cut, and 100 pairs of
# faults with each command, with the files of both flavors: hours. STRIDE=n tries
# each n-th case only.
STRIDE ?= 1
.PHONY: faults
faults: servers
	for flavor in mariadb mysql; do \
		go test -count=1 -timeout=12h ./fuzz/faults -flavor $$flavor -stride $(STRIDE) -cut-stride $(STRIDE) -twice 100 -seed $(SEED) || exit 1; \
	done

# Every command on repositories that are meant to harm, the large ones too.
.PHONY: hostile
hostile: servers
	go test -count=1 -timeout=30m -v ./fuzz/hostile -large

# What commands take of memory and time on a repository of FRAMES frames, which takes
# 20 s and 0.2 GB of disk for a million.
FRAMES ?= 1000000
.PHONY: scale
scale:
	go test -count=1 -timeout=120m -v -run TestScale ./fuzz/hostile -frames $(FRAMES)

# Several hosts back up, forget, prune, restore and drill in one root, for MINUTES,
# while their processes and servers are killed. A run that fails keeps its folders.
MINUTES ?= 10
.PHONY: soak
soak: servers
	go test -count=1 -v -timeout=$$(($(MINUTES) + 60))m -run TestSoak ./fuzz/soak -minutes $(MINUTES) -seed $(SEED)

# Random histories of a server's files against a plain model, HISTORIES of each flavor.
HISTORIES ?= 500
.PHONY: histories
histories: servers
	go test -count=1 -v -timeout=120m ./fuzz/histories -rapid.checks=$(HISTORIES)

# The story of a shard, told by running it; FLAVOUR=mariadb for the other one.
demo: build servers
	FLAVOUR=$(FLAVOUR) scripts/demo.sh

# shardseed beside restic, borg, tar with zstd and cp; prints what it writes to
# bench/results.md. See newConfig in bench/config.go for its settings.
.PHONY: bench
bench: build servers
	@scripts/bench-tools.sh
	@go run ./bench

# What was built; the servers and tools stay, since they are downloads.
clean:
	rm -rf bin
	go clean -testcache
