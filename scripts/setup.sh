#!/usr/bin/env bash
# Makes a bare Debian (or Ubuntu) ready to build: system packages, Rust, libtorch. Every
# step looks first and says in one line what it does; a second run changes nothing.
#
# Usage: scripts/setup.sh
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# As in Cargo.toml.
readonly RUST_MINOR=95

# missing_packages: the Debian packages whose command or file is not there, one a line.
missing_packages() {
  have python3 || echo python3
  # For downloads, and for the parity tests' own environment.
  python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
  python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
  have cc && have g++ || echo g++
  have make || echo make
  have pkg-config || echo pkg-config
  have unzip || echo unzip
  have curl || echo curl
  [[ -e /etc/ssl/certs/ca-certificates.crt || $(uname -s) != Linux ]] || echo ca-certificates
}

# as_root COMMAND…
as_root() {
  if [[ $(id -u) -eq 0 ]]; then
    "$@"
  else
    sudo "$@"
  fi
}

apt_install() {
  have apt-get || die "please install: $* (this script can only do so on Debian and Ubuntu)"
  [[ $(id -u) -eq 0 ]] || have sudo || die "please install, as root: apt-get install $*"
  # The lists of a fresh image are empty or old.
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

install_packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  if [[ ${#missing[@]} -eq 0 ]]; then
    say "system packages: in place"
  else
    say "system packages: installing ${missing[*]}"
    apt_install "${missing[@]}"
  fi
}

# rust_minor: the N of cargo 1.N, or 0.
rust_minor() {
  local version
  version=$({ have cargo && have rustc && cargo --version; } 2>/dev/null) || version=
  if [[ $version =~ ^cargo\ 1\.([0-9]+)\. ]]; then
    echo "${BASH_REMATCH[1]}"
  else
    echo 0
  fi
}

# rustup comes from apt where the distribution has it (Debian 13, Ubuntu 24.04).
install_rust() {
  say "Rust: installing it with rustup"
  if ! have rustup; then
    { have apt-get && apt-cache show rustup >/dev/null 2>&1 && apt_install rustup; } ||
      die "Rust 1.$RUST_MINOR or newer is missing: install it as https://rustup.rs says, then run this again"
  fi
  rustup toolchain install stable --profile default
  rustup default stable
}

check_rust() {
  local minor
  minor=$(rust_minor)
  if ((minor == 0)); then
    install_rust
    minor=$(rust_minor)
  fi
  ((minor >= RUST_MINOR)) ||
    die "Rust 1.$RUST_MINOR or newer is needed and this is 1.$minor: run 'rustup update stable' (https://rustup.rs), then this again"
  say "Rust 1.$minor: in place"
}

main() {
  [[ $(uname -s) == Linux ]] || die "$(uname -s) is not supported yet: the pinned libtorch is for Linux x86_64 (a Linux container works)"
  install_packages
  check_rust
  "$REPO_ROOT/scripts/libtorch.sh"
}

main "$@"
