#!/usr/bin/env bash
# Builds and pushes the image of the service with what is there: docker with
# buildx, podman or buildah, the first that works.
#
#   image.sh build REF        build it for all platforms
#   image.sh push REF         build and push it; prints the digest, and nothing else, on stdout
#   image.sh login REGISTRY   sign in there; the password comes on stdin
#   image.sh tool             tell which of them it is
#
#   PLATFORMS           linux/arm64,linux/amd64 when not set
#   IMAGE_TOOL          docker, podman or buildah, to choose it
#   IMAGE_BUILD_FLAGS   more flags for the build, split at blanks
#   IMAGE_USER          who signs in; AWS when not set, as ECR wants it
#   IMAGE_TIME          the time of the build, like 2026-01-02T03:04:05Z; now when not set
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
	echo "image: $1" >&2
	exit "${2:-1}"
}

usage() {
	fail "usage: image.sh build REF | push REF | login REGISTRY | tool" 2
}

# works TOOL: it is installed, and its engine or machine answers.
works() {
	case $1 in
	docker) docker info && docker buildx inspect ;;
	*) "$1" info ;;
	esac >/dev/null 2>&1
}

choose_tool() {
	local tool
	case ${IMAGE_TOOL:-} in
	'')
		for tool in docker podman buildah; do
			if works "$tool"; then
				echo "$tool"
				return
			fi
		done
		;;
	docker | podman | buildah)
		works "$IMAGE_TOOL" ||
			fail "$IMAGE_TOOL does not work here: see what '$IMAGE_TOOL info' says, for docker 'docker buildx inspect' too"
		echo "$IMAGE_TOOL"
		return
		;;
	*) fail "IMAGE_TOOL is '$IMAGE_TOOL'; it can be docker, podman or buildah" 2 ;;
	esac
	fail "nothing here can build an image. Start docker's engine (it needs its buildx), or install podman or buildah
image: (Debian: apt-get install podman)."
}

# What goes into every build; the values are the Makefile's.
set_arguments() {
	local version='' commit='' more=()
	if [[ -e .git ]]; then
		version=$(git describe --tags --always --dirty)
		commit=$(git describe --always --dirty --abbrev=40 --exclude='*')
	fi
	arguments=(
		--file devops/Dockerfile
		--platform "${PLATFORMS:-linux/arm64,linux/amd64}"
		--build-arg "VERSION=$version"
		--build-arg "COMMIT=$commit"
		--build-arg "TIME=${IMAGE_TIME:-$(date -u +%Y-%m-%dT%H:%M:%SZ)}"
	)
	read -ra more <<<"${IMAGE_BUILD_FLAGS:-}"
	[[ ${#more[@]} == 0 ]] || arguments+=("${more[@]}")
}

# with_docker REF PUSH: builds, and pushes when PUSH is true; docker does that in one.
with_docker() {
	# Docker's own builder makes images of one platform only.
	if docker buildx inspect | grep '^Driver: *docker$' >/dev/null; then
		export BUILDX_BUILDER=birthday-demo
		docker buildx inspect >/dev/null 2>&1 ||
			docker buildx create --name birthday-demo --driver docker-container >/dev/null
	fi
	docker buildx build "${arguments[@]}" --output "type=image,name=$1,push=$2" --metadata-file "$scratch/metadata" . >&2
	sed -n 's/^ *"containerimage.digest": *"\(sha256:[0-9a-f]*\)".*/\1/p' "$scratch/metadata" >"$scratch/digest"
}

# with_podman REF PUSH: the same, with podman or buildah.
with_podman() {
	local machine
	machine=$(uname -m)
	case $machine in
	x86_64) machine=amd64 ;;
	aarch64) machine=arm64 ;;
	esac
	"$tool" manifest rm "$1" >/dev/null 2>&1 || true # else the build would add to it
	# Older ones do not set BUILDPLATFORM by themselves. Only docker's format has a health check.
	arguments+=(--build-arg "BUILDPLATFORM=linux/$machine" --format docker --layers)
	"$tool" build "${arguments[@]}" --manifest "$1" . >&2
	[[ $2 == false ]] ||
		"$tool" manifest push --all --format v2s2 --digestfile "$scratch/digest" "$1" "docker://$1" >&2
}

# build REF PUSH
build() {
	set_arguments
	if [[ $tool == docker ]]; then
		with_docker "$@"
	else
		with_podman "$@"
	fi
}

push() {
	local digest
	build "$1" true
	digest=$(<"$scratch/digest")
	# buildah 1.28 ends well when a push fails, and gives no digest.
	[[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || fail "$tool gave no digest of $1: it was not pushed"
	echo "$digest"
}

[[ $# == 2 || ${1:-} == tool ]] || usage
tool=$(choose_tool)
if [[ $1 == tool ]]; then
	echo "$tool"
	exit
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
case $1 in
build) build "$2" false ;;
push) push "$2" ;;
login) "$tool" login --username "${IMAGE_USER:-AWS}" --password-stdin "$2" >&2 ;;
*) usage ;;
esac
