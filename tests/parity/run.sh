#!/usr/bin/env bash
# Compares the trainer with its peers on new random cases, or writes the committed golden files again. README.md says the rest.
#
#   run.sh [--seed N]      new golden files from a random or given seed, then the Rust tests on them; and transformers on what
#                          the trainer writes
#   run.sh --regenerate    trainer/tests/golden from the fixed seed
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=tests/peers.sh
source "$here/../peers.sh"

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
}

# generate [OPTION…]: all golden files.
generate() {
    prepare "$venv" "$here/requirements.txt"
    prepare "$tensorflow" "$here/requirements-tensorflow.txt"
    "$venv/bin/python" "$here/generate.py" "$@"
    "$tensorflow/bin/python" "$here/checkpoint.py" "$@"
}

# training SEED FOLDER: needs the trainer, since what it draws at random goes into the file.
training() {
    (cd "$root" && cargo build -p bam-trainer --bin bam-trainer)
    "$venv/bin/python" "$here/training.py" --trainer "$root/target/debug/bam-trainer" --seed "$1" --out "$2"
}

seed=
regenerate=
while [ $# -gt 0 ]; do
    case $1 in
        --seed) seed=${2:?--seed needs a number}; shift ;;
        --regenerate) regenerate=yes ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 64 ;;
    esac
    shift
done

if [ -n "$regenerate" ]; then
    if [ -n "$seed" ]; then
        echo "run.sh: the committed files have a fixed seed; --seed is for the live mode" >&2
        exit 64
    fi
    generate
    training 20190710 "$root/trainer/tests/golden"
    exit
fi

seed=${seed:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
out=$(mktemp -d)
echo "Parity with seed $seed in $out"
finish() {
    status=$?
    if [ "$status" -eq 0 ]; then
        rm -rf "$out"
        echo "Parity holds for seed $seed"
    else
        echo "Parity FAILED for seed $seed: again with  tests/parity/run.sh --seed $seed  (files kept in $out)" >&2
    fi
}
trap finish EXIT
generate --seed "$seed" --out "$out"
training "$seed" "$out"
cd "$root"
export BAM_GOLDEN_DIR=$out BAM_PARITY_PYTHON=$venv/bin/python
cargo test -p bam-trainer --test parity --test parity_data --test parity_training --test parity_transformers
