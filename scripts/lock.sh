#!/bin/sh
# Writes lock/ anew: every package of the pinned environment with the hashes of its files. Run it
# after a change of pyproject.toml or constraints.txt, with the uv of lock/uv.txt on PATH. Packages
# keep the versions that they have in lock/; give `--upgrade` for the newest that are allowed.
#
# The CPU build of torch is on no package registry. Its hash is that of the wheel in $TORCH_WHEELS.
set -eu
cd "$(dirname "$0")/.."

compile() {
    uv pip compile --quiet --generate-hashes --no-header --no-annotate \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 "$@"
}

pinned() { sed -n "s/^\($1==.*\)/\1/p" constraints.txt; }

torch=$(sed -n 's/^torch==//p' constraints.txt)+cpu
wheel=$(ls "${TORCH_WHEELS:?the folder that holds the CPU wheel of torch}/torch-$torch-cp311-cp311-"*x86_64.whl)
echo "torch==$torch --hash=sha256:$(sha256sum "$wheel" | cut -d' ' -f1)" > lock/torch-cpu-linux-py311.txt

override=$(mktemp)
trap 'rm -f "$override"' EXIT
echo "torch==$torch" > "$override"
compile pyproject.toml --extra dev -c constraints.txt --override "$override" \
    --find-links "$TORCH_WHEELS" --no-emit-package torch --no-emit-package torchvision \
    -o lock/linux-py311.txt "$@"
pinned torchvision | compile --no-deps -o lock/torchvision-linux-py311.txt - "$@"
for name in tensorrt-cu12-bindings tensorrt-cu13-bindings; do
    pinned "$name" | compile --no-deps -o "lock/$name.txt" - "$@"
done
echo 'setuptools>=77' | compile -o lock/build.txt - "$@"
echo uv | compile -o lock/uv.txt - "$@"
echo cyclonedx-bom | compile -o lock/sbom.txt - "$@"
