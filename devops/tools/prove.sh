#!/usr/bin/env bash
# Runs the proofs in their long form and writes docs/reliability.md.
set -euo pipefail
cd "$(dirname "$0")/../.."

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
PROVE=long PROOFS_OUT=$results TEST_REQUIRE_ALL=1 go test -count=1 -timeout 60m -v ./app/e2e
devops/tools/reliability.py "$results"
