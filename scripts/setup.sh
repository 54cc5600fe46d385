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

# The environment that CI tests is locked: each file of each package by its hash. Elsewhere (another
# Python, another system, torch with CUDA) the versions are pinned where constraints.txt names them.
locked=
[ "$TORCH-$(uname -s)-$(uname -m)" = cpu-Linux-x86_64 ] &&
    "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' && locked=yes
hashed() { pip install -q --require-hashes --no-deps "$@"; }

echo "setup: torch ($TORCH)"
if ! "$VENV/bin/python" -c 'import importlib.metadata as m; m.version("torch"); m.version("torchvision")' 2>/dev/null; then
    version=$(sed -n 's/^torch==//p' constraints.txt)
    vision=$(sed -n 's/^torchvision==//p' constraints.txt)
    # The CPU build carries a local version; pip finds it where a CPU index or wheel folder is
    # configured, else uv knows where it is published. The plain name would bring CUDA along.
    if [ -n "$locked" ]; then
        hashed -r lock/torch-cpu-linux-py311.txt 2>/dev/null || {
            hashed -r lock/uv.txt
            "$VENV/bin/uv" pip install -q --python "$VENV/bin/python" --torch-backend cpu \
                --require-hashes --no-deps -r lock/torch-cpu-linux-py311.txt
        }
        hashed -r lock/torchvision-linux-py311.txt
    else
        if [ "$TORCH" = cpu ] && [ "$(uname -s)" = Linux ]; then
            pip install -q -c constraints.txt "torch==$version+cpu" 2>/dev/null || {
                hashed -r lock/uv.txt
                "$VENV/bin/uv" pip install -q --python "$VENV/bin/python" --torch-backend cpu "torch==$version" "torchvision==$vision"
            }
        else
            pip install -q -c constraints.txt "torch==$version"
        fi
        # Without its dependencies: they name another torch build.
        pip install -q --no-deps "torchvision==$vision"
    fi
fi

echo "setup: vireo and what it needs"
if [ -n "$locked" ]; then
    # What is built from source is built with the locked setuptools too.
    hashed -r lock/build.txt
    hashed --no-build-isolation -r lock/linux-py311.txt
    pip install -q --no-deps --no-build-isolation -e .
else
    pip install -q -c constraints.txt -e '.[dev]'
fi

echo "setup: TensorRT's Python bindings, to check our calls against"
# Without the libraries, which tests replace by stubs, and in folders of their own: both versions
# are one package. Nothing else needs them, so a platform without such wheels goes on.
for name in tensorrt-cu12-bindings tensorrt-cu13-bindings; do
    version=$(sed -n "s/^$name==//p" constraints.txt)
    folder="$VENV/share/tensorrt-bindings/$version"
    [ -d "$folder" ] || hashed --target "$folder" -r "lock/$name.txt" ||
        echo "setup: no $name $version here; the tests of TensorRT builds will be skipped" >&2
done

if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then
    echo "setup: Triton carrier"
    "$VENV/bin/vireo" serve --install-carrier
else
    command -v tritonserver >/dev/null 2>&1 ||
        echo "setup: no Triton for $(uname -s) on $(uname -m); commands that need a server will say so" >&2
fi
