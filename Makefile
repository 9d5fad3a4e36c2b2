SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GOTESTSUM := gotest.tools/gotestsum@v1.13.0
FUZZTIME ?= 10s
export FUZZTIME

in_checkout = $(wildcard .git)
version = $(if $(in_checkout),$(shell git describe --tags --always --dirty))
commit = $(if $(in_checkout),$(shell git describe --always --dirty --abbrev=40 --exclude='*'))
time = $(shell date -u +%Y-%m-%dT%H:%M:%SZ)

.PHONY: help setup test lint build fuzz prove bench clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

setup: ## check what must be installed, fetch the rest, install the git hook
	@devops/tools/setup.sh

test: setup ## run all tests; RACE=1 with the race detector, GO_TEST_FLAGS=… with more flags
	@go run $(GOTESTSUM) --format pkgname -- -shuffle=on $(if $(filter 1,$(RACE)),-race) $(GO_TEST_FLAGS) ./...

lint: setup ## run every check of .pre-commit-config.yaml on all files
	@.venv/bin/pre-commit run --all-files

build: ## make bin/birthday-demo, static and stripped
	CGO_ENABLED=0 go build -trimpath -buildvcs=false \
		-ldflags "-s -w -X main.linkedVersion=$(version) -X main.linkedCommit=$(commit) -X main.linkedTime=$(time)" \
		-o bin/birthday-demo ./app

fuzz: ## try each fuzz target for a while; FUZZTIME=10s says how long
	@devops/tools/fuzz.sh

prove: ## run the proofs of docs/reliability.md in their long form, and write it
	@devops/tools/prove.sh

bench: build ## measure speed, memory and size, and write docs/benchmarks.md
	@devops/tools/bench.py

clean: ## remove what build and test left; .venv stays
	rm -rf bin coverage.out
