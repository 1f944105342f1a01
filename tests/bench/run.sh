#!/usr/bin/env bash
# The trainer's speed beside transformers' Trainer, with the same libtorch on the same threads.
#
#   run.sh [--pairs N] [MEASURE ...]     BAM_DIR=<folder with glue_data>; --list shows the measures
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/peers.sh
source "$here/../peers.sh"
prepare "$venv" "$here/../parity/requirements.txt"
exec "$venv/bin/python" "$here/bench.py" "$@"
