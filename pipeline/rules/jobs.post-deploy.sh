#!/usr/bin/env bash
# Snakemake runs this in the directory in which it was started, with the new environment active.
set -euo pipefail
if [ ! -f requirements.lock ]; then
    echo "$PWD/requirements.lock: no such file; start snakemake in the root of the checkout" >&2
    exit 1
fi
python -m pip install --require-hashes --requirement requirements.lock
python -m pip install --no-deps --no-build-isolation --editable .
