#!/usr/bin/env bash
# Prints a folder that holds `prometheus` and `promtool`, for the tests of dashboard and alerts: the system's own, or
# those of the Debian package, unpacked into the cache. Nothing is installed, so no service begins to run.
#
# Usage: scripts/prometheus.sh
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly PLACE=$CACHE_DIR/prometheus

unpack() {
  local work=$PLACE.tmp
  [[ ! -x $PLACE/promtool ]] || return 0
  { have apt-get && have dpkg-deb; } ||
    die "please install prometheus and promtool (this script can only fetch them on Debian and Ubuntu)"
  say "Prometheus: fetching the Debian package"
  rm -rf "$work" "$PLACE"
  mkdir -p "$work"
  (
    cd "$work"
    # As root apt warns that it cannot become another user here; the lists of a fresh image are empty or old.
    apt-get download -qq -o APT::Sandbox::User=root prometheus >/dev/null 2>&1 || {
      [[ $(id -u) -ne 0 ]] || apt-get update -qq
      apt-get download -qq -o APT::Sandbox::User=root prometheus >/dev/null
    }
    dpkg-deb -x prometheus_*.deb .
  )
  chmod -R u+w "$work"
  mv "$work/usr/bin" "$PLACE" # whole, or absent
  rm -rf "$work"
}

main() {
  if have prometheus && have promtool; then
    dirname "$(command -v promtool)"
    return
  fi
  run_as_one prometheus unpack >&2
  echo "$PLACE"
}

main "$@"
