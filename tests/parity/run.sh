#!/usr/bin/env bash
# Compares the trainer with its peers on new random cases, or writes the committed golden files again. README.md says the rest.
#
#   run.sh [--seed N]      new golden files from a random or given seed, then the Rust tests on them; and transformers on what
#                          the trainer writes
#   run.sh --regenerate    trainer/tests/golden from the fixed seed
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${BAM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bam-operator}
venv=$cache/parity-venv
# TensorFlow writes the checkpoints. It is no help to the others, and wants versions of its own.
tensorflow=$cache/parity-tensorflow-venv
python=${PYTHON:-python3}
export PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
}

# prepare FOLDER REQUIREMENTS: an environment is whole when it holds a copy of the requirements that it was made from; that is
# written last.
prepare() {
    local folder=$1 requirements=$here/$2
    if cmp -s "$requirements" "$folder/requirements.txt"; then
        return
    fi
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "run.sh: Python 3.11 or newer is needed; $python is $("$python" --version 2>&1). Name another with PYTHON=..." >&2
        exit 1
    fi
    echo "Making $folder (once; with PyPI's torch this fetches several GB on Linux) ..." >&2
    mkdir -p "$cache"
    "$python" -m venv "$folder"
    "$folder/bin/pip" install --disable-pip-version-check -r "$requirements" >&2
    cp "$requirements" "$folder/requirements.txt"
}

# generate [OPTION…]: all golden files.
generate() {
    prepare "$venv" requirements.txt
    prepare "$tensorflow" requirements-tensorflow.txt
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
