#!/usr/bin/env bash
# The whole of `make test`: setup, formatting, lints, build, and every test, stage by
# stage. A failed stage does not stop the rest. The last line is the sum:
# `N passed, N failed, N skipped`.
#
#   BAM_TEST_BAM_DIR  set here for the tests: a BAM_DIR with a small pretrained model and demo data
#   BAM_GLUE_DIR      a BAM_DIR with the real glue_data, for the tests that want it. When unset,
#                     a `bam_dir` in a folder beside the checkout is taken. Without one
#                     these tests say `SKIPPED: why` on a line of their own.
#   BAM_TEST_KUBECONFIG
#                     a kubeconfig of a cluster for tests: our CRDs are applied there, and its
#                     API server judges every manifest of tests/manifests, as `bam check` does
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export CARGO_TERM_COLOR=never # the output is read below, also when a terminal shows it
passed=0 failed=0 skipped=0
failed_stages=()
STAGE_LOG=$(mktemp)
trap 'rm -f "$STAGE_LOG"' EXIT

# sum_of_results FILE: passed, failed and skipped as cargo's `test result:` lines say. A
# test that has nothing to work on passes for cargo, and says so in a line `SKIPPED: …`.
sum_of_results() {
  awk '
    /^test result:/ {
      for (i = 2; i <= NF; i++) {
        if ($i == "passed;") passed += $(i - 1)
        if ($i == "failed;") failed += $(i - 1)
        if ($i == "ignored;") ignored += $(i - 1)
      }
    }
    /^SKIPPED:/ { skipped++ }
    END { print (passed > skipped ? passed - skipped : 0), failed + 0, ignored + skipped }
  ' "$1"
}

# stage NAME COMMAND [ARGS…]: runs one stage, shows its output, and adds up its results.
stage() {
  local name=$1 start=$SECONDS status=0 counts end='done'
  shift
  printf '\n'
  say "$name: $*"
  "$@" 2>&1 | tee "$STAGE_LOG" || status=$?

  read -r -a counts < <(sum_of_results "$STAGE_LOG")
  # It did not compile, crashed, or is not a test at all.
  if ((status != 0 && counts[1] == 0)); then
    counts[1]=1
  fi
  ((passed += counts[0])) || true
  ((failed += counts[1])) || true
  ((skipped += counts[2])) || true
  if ((status != 0)); then
    failed_stages+=("$name")
    end=FAILED
  fi
  say "$name: $end after $((SECONDS - start)) s"
}

# All test stages choose targets, not packages: with `-p` cargo would resolve other
# features for shared dependencies, and compile them once more.
cargo_test() {
  local name=$1
  shift
  stage "$name" cargo test --workspace --no-fail-fast "$@" -- --show-output
}

# test_targets FOLDER…: the names of the integration tests below its tests/, one a line. Those
# of the repository's own tests/ begin with `e2e`: they cross crates and are slow.
test_targets() {
  local crate file
  for crate in "$@"; do
    for file in "$crate"/tests/*.rs "$crate"/tests/*/main.rs; do
      [[ -e $file ]] || continue
      file=${file%/main.rs}
      basename "$file" .rs
    done
  done | sort -u
}

# integration_tests NAME TARGET…: quiet when there are none.
integration_tests() {
  local name=$1 target targets=()
  shift
  [[ $# -gt 0 ]] || return 0
  for target in "$@"; do
    targets+=(--test "$target")
  done
  cargo_test "$name" "${targets[@]}"
}

prepare_data() {
  local found
  export BAM_TEST_BAM_DIR=$CACHE_DIR/test-bam-dir
  stage "pretrained model" scripts/weights.sh "$BAM_TEST_BAM_DIR"
  stage "demo data" scripts/demo_data.py "$BAM_TEST_BAM_DIR"
  if [[ -z ${BAM_GLUE_DIR:-} ]]; then
    for found in ../*/bam_dir; do
      if [[ -d $found/glue_data ]]; then
        BAM_GLUE_DIR=$(cd "$found" && pwd)
        break
      fi
    done
  fi
  if [[ -n ${BAM_GLUE_DIR:-} ]]; then
    export BAM_GLUE_DIR
    say "real GLUE data: $BAM_GLUE_DIR"
  else
    unset BAM_GLUE_DIR
    say "real GLUE data: none (set BAM_GLUE_DIR to a folder that holds glue_data)"
  fi
}

finish() {
  printf '\n'
  if ((${#failed_stages[@]} > 0)); then
    say "failed after $SECONDS s: $(printf '%s, ' "${failed_stages[@]}" | sed 's/, $//')"
  else
    say "all stages done after $SECONDS s"
  fi
  printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  ((${#failed_stages[@]} == 0 && failed == 0))
}

main() {
  cd "$REPO_ROOT"
  stage setup scripts/setup.sh
  # Nothing below can work without it.
  if ((${#failed_stages[@]} > 0)); then
    finish
    return
  fi
  stage formatting cargo fmt --all --check
  stage lints cargo clippy --workspace --all-targets -- -D warnings
  stage build cargo build --workspace --all-targets
  prepare_data

  cargo_test "unit tests" --lib --bins
  local quick trainer slow
  mapfile -t quick < <(test_targets crds operator)
  mapfile -t trainer < <(test_targets trainer)
  mapfile -t slow < <(test_targets . | grep '^e2e')
  integration_tests "tests of crds and operator" "${quick[@]}"
  integration_tests "tests of the trainer" "${trainer[@]}"
  integration_tests "end-to-end tests" "${slow[@]}"
  cargo_test "doc tests" --doc
  finish
}

# Nothing here asks a question, and a closed stdin must not become a test's fd 0.
main "$@" </dev/null
