#!/usr/bin/env bash
# Makes a fresh checkout ready to work in; quick when it already is.
set -euo pipefail
cd "$(dirname "$0")/../.."

pre_commit=4.7.0
faults=0

fault() {
	echo "setup: $1" >&2
	faults=$((faults + 1))
}

# at_least A B: version A is B or newer.
at_least() {
	printf '%s\n' "$2" "$1" | sort -V -C
}

wanted=$(sed -n 's/^go //p' go.mod)
if ! command -v go >/dev/null; then
	fault "Go is missing: install $wanted or newer from https://go.dev/dl/ and put its bin folder on PATH."
elif ! found=$(go env GOVERSION) || ! at_least "${found#go}" "$wanted"; then
	fault "Go ${found#go} is too old: install $wanted or newer from https://go.dev/dl/."
fi

if ! command -v git >/dev/null; then
	fault "git is missing: install it (Debian: apt-get install git)."
fi

if ! command -v python3 >/dev/null; then
	fault "Python is missing: install 3.11 or newer (Debian: apt-get install python3 python3-venv)."
elif ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
	fault "$(python3 --version) is too old: pre-commit $pre_commit needs 3.11 or newer."
elif ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
	fault "Python cannot make virtual environments: install its venv module (Debian: apt-get install python3-venv)."
fi

[[ $faults == 0 ]] || exit 1

# The tools are in .venv, which is made anew when what is wanted changes.
tools=$(printf '%s\n' "pre-commit==$pre_commit" && cat devops/requirements.txt devops/tests/requirements.txt)
if [[ ! -x .venv/bin/pre-commit || $(cat .venv/tools.txt 2>/dev/null) != "$tools" ]]; then
	echo "setup: making .venv with pre-commit and what deploys and tests the deploy kit (a minute or two)"
	python3 -m venv --clear .venv
	.venv/bin/python -m pip --quiet --disable-pip-version-check install "pre-commit==$pre_commit" -r devops/tests/requirements.txt
	printf '%s\n' "$tools" >.venv/tools.txt
fi

go mod download

if [[ ! -e .git ]]; then
	echo "setup: this is no git checkout, so no hook is installed"
elif ! said=$(.venv/bin/pre-commit install 2>&1); then
	echo "setup: the git hook could not be installed; run 'make lint' before each commit instead. pre-commit said:"
	echo "$said"
fi
echo "setup: ready"
