SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GOTESTSUM := gotest.tools/gotestsum@v1.13.0
GOCOVER := github.com/boumenot/gocover-cobertura@v1.5.0
floor ?= 80
FUZZTIME ?= 10s
export FUZZTIME

in_checkout = $(wildcard .git)
version = $(if $(in_checkout),$(shell git describe --tags --always --dirty))
commit = $(if $(in_checkout),$(shell git describe --always --dirty --abbrev=40 --exclude='*'))
time = $(shell date -u +%Y-%m-%dT%H:%M:%SZ)

.PHONY: help setup test cover lint build fuzz prove bench deploy diagram clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

setup: ## check what must be installed, fetch the rest, install the git hook
	@devops/tools/setup.sh

test: setup ## run all tests; RACE=1 with the race detector, GO_TEST_FLAGS=… with more flags
	@go run $(GOTESTSUM) --format pkgname -- -shuffle=on $(if $(filter 1,$(RACE)),-race) $(GO_TEST_FLAGS) ./...
	@.venv/bin/pytest -q -n 2 --dist loadfile $(PYTEST_FLAGS) devops/tests

cover: setup ## as test, with reports in reports/; fails when less than floor=80 percent of the statements ran
	@mkdir -p reports
	@GOTESTSUM_JUNITFILE=reports/tests-go.xml $(MAKE) test \
		GO_TEST_FLAGS='$(GO_TEST_FLAGS) -coverprofile=reports/coverage.out -coverpkg=./app/...' \
		PYTEST_FLAGS='$(PYTEST_FLAGS) --junitxml=reports/tests-kit.xml'
	@go run $(GOCOVER) <reports/coverage.out >reports/coverage.xml
	@go tool cover -func=reports/coverage.out | \
		awk '/^total:/ {sub("%", "", $$3); print "coverage: " $$3 " %"; exit ($$3 + 0 < $(floor))}'

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

deploy: setup ## env=… says where to, tags=… which steps: deploy this checkout; see docs/deploy.md
	@cd devops/ansible && PATH=$(CURDIR)/.venv/bin:$$PATH ./birthday_demo_deploy.yml -e env=$(env) $(if $(tags),--tags $(tags)) $(DEPLOY_FLAGS)

diagram: setup ## draw docs/architecture.png; needs Graphviz
	@.venv/bin/python docs/architecture.py

clean: ## remove what build and test left; .venv stays
	rm -rf bin reports coverage.out
