#!/bin/sh
# Makes the virtual environment that the Makefile's targets use. Called by make; see there.
set -eu

fail() { echo "setup: $1" >&2; exit 1; }

command -v "$PYTHON" >/dev/null 2>&1 || fail "no $PYTHON; install Python 3.10 or later, or give make PYTHON=/path/to/python3"
"$PYTHON" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2])' ||
    fail "$PYTHON is $("$PYTHON" -V); Python 3.10 or later is needed"
"$PYTHON" -c 'import sys; sys.exit(not sys.version_info[:2] <= (3, 12))' ||
    fail "$PYTHON is $("$PYTHON" -V); the pinned numpy 1.26 exists up to Python 3.12: give make PYTHON=python3.12 or older"
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$PYTHON has no venv; install it (Debian: apt install python3-venv)"
command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 ||
    fail "no C compiler; install one (Debian: apt install build-essential)"

[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }

echo "setup: torch ($TORCH)"
if ! "$VENV/bin/python" -c 'import importlib.metadata as m; m.version("torch"); m.version("torchvision")' 2>/dev/null; then
    version=$(sed -n 's/^torch==//p' constraints.txt)
    vision=$(sed -n 's/^torchvision==//p' constraints.txt)
    if [ "$TORCH" = cpu ] && [ "$(uname -s)" = Linux ]; then
        # The CPU build carries a local version; pip finds it where a CPU index or wheel folder is
        # configured, else uv knows where it is published. The plain name would bring CUDA along.
        pip install -q -c constraints.txt "torch==$version+cpu" 2>/dev/null || {
            pip install -q uv
            "$VENV/bin/uv" pip install -q --python "$VENV/bin/python" --torch-backend cpu "torch==$version" "torchvision==$vision"
        }
    else
        pip install -q -c constraints.txt "torch==$version"
    fi
    # Without its dependencies: they name another torch build.
    pip install -q --no-deps "torchvision==$vision"
fi

echo "setup: vireo and what it needs"
pip install -q -c constraints.txt -e '.[dev]'

echo "setup: TensorRT's Python bindings, to check our calls against"
# Without the libraries, which tests replace by stubs, and in folders of their own: both versions
# are one package. Nothing else needs them, so a platform without such wheels goes on.
for name in tensorrt-cu12-bindings tensorrt-cu13-bindings; do
    version=$(sed -n "s/^$name==//p" constraints.txt)
    folder="$VENV/share/tensorrt-bindings/$version"
    [ -d "$folder" ] || pip install -q --no-deps --target "$folder" "$name==$version" ||
        echo "setup: no $name $version here; the tests of TensorRT builds will be skipped" >&2
done

if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then
    echo "setup: Triton carrier"
    "$VENV/bin/vireo" serve --install-carrier
else
    command -v tritonserver >/dev/null 2>&1 ||
        echo "setup: no Triton for $(uname -s) on $(uname -m); commands that need a server will say so" >&2
fi
