#!/usr/bin/env bash
# Write the lock files anew: every package that the image and CI install, with version and hashes.
#
#   python3 -m venv /tmp/lock && /tmp/lock/bin/pip install uv && PATH=/tmp/lock/bin:$PATH deploy/lock.sh
#
# Versions that are locked stay unless pyproject.toml asks for others; with --upgrade all are the
# newest. Extra arguments go to `uv pip compile`.
#
#   requirements.lock       what anomalyd needs to be built and to run, with all message formats (the extra
#                           `formats`); torch as the index has it (CUDA)
#   requirements-cpu.lock   the same without torch and its CUDA packages: for an image with a CPU torch
#   requirements-ci.lock    requirements.lock and every extra of pyproject.toml
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compile() { # compile OUTPUT ARGUMENT...
    local output=$1
    shift
    # Which index the packages came from is nobody's business: hashes say what they are.
    uv pip compile pyproject.toml - --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command deploy/lock.sh \
        -o "deploy/$output" "$@"
}

build=$(python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")')
compile requirements.lock --extra formats "$@" <<<"$build"
compile requirements-ci.lock --constraint deploy/requirements.lock --all-extras "$@" <<<"$build"

# Only torch needs these, and only where it brings CUDA along.
awk '/^[^ #]/ {keep = $0 !~ /^(torch|triton|nvidia-|cuda-)/} keep' deploy/requirements.lock \
    >deploy/requirements-cpu.lock
