#!/usr/bin/env bash
# What cargo calls instead of rustc for the crates of this workspace, in release builds
# (RUSTC_WORKSPACE_WRAPPER): bam-operator becomes static and small, so that its image holds
# nothing else. Cargo itself can only do so for all programs at once, and the trainer needs
# a shared libtorch.
#
# In bash, since other shells lose variables whose names have a dash (CARGO_BIN_EXE_bam-operator).
set -euo pipefail
arguments=("$@")
case " $* " in
  *" --crate-name bam_operator "*" --crate-type bin "*)
    # No symbols, and what is the same for several types is there once.
    arguments+=(-C target-feature=+crt-static -C strip=symbols -C link-arg=-Wl,--icf=all)
    ;;
esac
exec "${arguments[@]}"
