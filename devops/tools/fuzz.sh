#!/usr/bin/env bash
# Runs each fuzz target, since the go command takes one at a time.
set -euo pipefail
cd "$(dirname "$0")/../.."

count=0
packages=$(go list ./...)
for package in $packages; do
	listed=$(go test -list '^Fuzz' "$package")
	for target in $(grep '^Fuzz' <<<"$listed" || true); do
		echo "== $package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" "$package"
		count=$((count + 1))
	done
done
echo "$count fuzz targets"
[[ $count != 0 ]]
