#!/usr/bin/env bash
# Pin the images of others by digest: compose, Kubernetes, and what the Dockerfile builds on. A tag may be moved to another
# image, a digest cannot. For a release, or before the first start of a fleet; asks the registries by docker. Safe to run
# again: a pinned image is asked for anew by its tag, so this also takes in updates. Look at `git diff` afterwards.
set -euo pipefail
unset CDPATH # `cd deploy` would search it

usage() {
  cat <<'USAGE'
Usage: deploy/pin_images.sh [--check]

  --check  change nothing; end with 1 and list the images that are not pinned

Needs docker with buildx, and the registries within reach. `ocrfleet:…` is your own image: pin it by the digest that
`docker push` prints.
USAGE
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
check=
case ${1:-} in
  '') ;;
  --check) check=yes ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

files=(Dockerfile docker-compose.yml deploy/kubernetes/*.yaml)
digest='@sha256:[0-9a-f]{64}'
# `image: NAME:TAG`, `ARG PYTHON_IMAGE=NAME:TAG`, `# syntax=NAME:TAG`; not ours, and not what a variable names.
named=$(sed -nE 's/^ *(- )?image: *([^ #]+).*/\2/p; s/^ARG [A-Z_]*IMAGE=([^ ]+).*/\1/p; s/^# syntax=([^ ]+).*/\1/p' "${files[@]}" |
  grep -vE '^ocrfleet:|\$' | sort -u)

if [ -n "$check" ]; then
  open=$(grep -vE "$digest\$" <<<"$named" || true)
  [ -n "$open" ] || exit 0
  echo "not pinned: ${open//$'\n'/, }"
  exit 1
fi

command -v docker >/dev/null || { echo "pin_images.sh: needs docker with buildx, which asks the registries" >&2; exit 2; }
edits=()
for image in $named; do
  tag=${image%@*}
  found=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$tag") ||
    { echo "pin_images.sh: $tag: the registry does not tell its digest; nothing was changed" >&2; exit 1; }
  [[ $found =~ ^sha256:[0-9a-f]{64}$ ]] ||
    { echo "pin_images.sh: $tag: $found is no digest; nothing was changed" >&2; exit 1; }
  edits+=(-e "s|([ =])${tag//./\\.}(@sha256:[0-9a-f]*)?( .*)?\$|\\1$tag@$found\\3|")
  echo "$tag@$found"
done
sed -E -i "${edits[@]}" "${files[@]}"
