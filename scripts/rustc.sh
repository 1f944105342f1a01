#!/bin/sh
# What cargo calls instead of rustc for the crates of this workspace, in release builds
# (RUSTC_WORKSPACE_WRAPPER): bam-operator becomes static and without symbols, so that its
# image holds nothing else. Cargo itself can only do so for all programs at once, and the
# trainer needs a shared libtorch.
set -eu
rustc=$1
shift
case " $* " in
  *" --crate-name bam_operator "*" --crate-type bin "*) set -- "$@" -C target-feature=+crt-static -C strip=symbols ;;
esac
exec "$rustc" "$@"
