#!/usr/bin/env bash
# Prints the path of an S3 server (versitygw, over a folder), for the tests of object stores; builds it from its Go module,
# once per machine, if it is not in the cache.
#
# Usage: scripts/s3.sh
set -euo pipefail
HERE=$(dirname "${BASH_SOURCE[0]}")/cluster
# shellcheck source-path=SCRIPTDIR source=cluster/vars.sh
source "$HERE/vars.sh"
# shellcheck source-path=SCRIPTDIR source=cluster/tools.sh
source "$HERE/tools.sh"

readonly VERSION=v1.8.0
readonly SERVER=$CACHE_DIR/versitygw-$VERSION/versitygw

build_server() {
  [[ ! -x $SERVER ]] || return 0 # another process was faster
  local partial=$CACHE_DIR/.partial-versitygw-$VERSION
  need_space "$CACHE_DIR" 2500 "building the S3 server"
  rm -rf "$partial"
  mkdir -p "$partial/bin"
  find_go "$partial"
  GOBIN=$partial/bin build_go "$partial/log" "$GO" install -v -trimpath -ldflags '-s -w' \
    "github.com/versity/versitygw/cmd/versitygw@$VERSION"
  rm -rf "$(dirname "$SERVER")"
  mv "$partial/bin" "$(dirname "$SERVER")"
  rm -rf "$partial"
}

if [[ -x $SERVER ]]; then
  note "S3 server (versitygw $VERSION): in place" >&2
else
  note "S3 server (versitygw $VERSION): building it, once per machine (2 to 10 minutes)" >&2
  run_as_one "versitygw-$VERSION" build_server >&2
fi
echo "$SERVER"
