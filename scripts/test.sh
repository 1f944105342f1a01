#!/usr/bin/env bash
# The whole of `make test`: setup, formatting, lints, build, and every test, stage by
# stage. A failed stage does not stop the rest. The last line is the sum:
# `N passed, N failed, N skipped`.
#
#   BAM_TEST_BAM_DIR  set here for the tests: a BAM_DIR with a small pretrained model and demo data
#   BAM_GLUE_DIR      a BAM_DIR with the real glue_data, for the tests that want it. When unset,
#                     a `bam_dir` in a folder beside the checkout is taken. Without one
#                     these tests say `SKIPPED: why` on a line of their own.
#   BAM_PARITY_PYTHON a Python with transformers, for the test that wants one. When unset, the one of `make parity` is
#                     taken, if that was run before. Without one this test says `SKIPPED: why`.
#   BAM_TEST_S3_SERVER set here for the tests: an S3 server, built once per machine
#   KUBECONFIG        a cluster of your own, with this operator installed (`make cluster`), to run the cluster's
#                     tests against; they fill a folder of its node, $BAM_TEST_VOLUME_DIR. When unset, a cluster
#                     is started on this machine (as root), and ended again if it did not run before.
#   BAM_PREVIOUS      for `long`: a git ref of an older version, to upgrade from it in the middle of an experiment; default:
#                     the newest tag before this commit, if there is one
#   BAM_SIM_SCHEDULES how many schedules the simulation of the operator lives through, if not as many as usual
#
# Usage: scripts/test.sh          or: scripts/test.sh long [MINUTES]: more files damaged and trainings stopped at random
#                                 than there, and faults in a cluster for so many minutes (default 30)
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export CARGO_TERM_COLOR=never # the output is read below, also when a terminal shows it
passed=0 failed=0 skipped=0
failed_stages=()
STAGE_LOG=$(mktemp)
FAILURES=$(mktemp)
SIMULATION=$(mktemp -d)
CLUSTER_IS_OURS=
trap clean_up EXIT

clean_up() {
  rm -rf "$STAGE_LOG" "$FAILURES" "$SIMULATION"
  if [[ -n $CLUSTER_IS_OURS ]]; then
    scripts/cluster.sh down || true
  fi
}

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

# what_failed FILE: of each failed test its name and what it panicked with; of output without tests the end.
what_failed() {
  awk '
    /^failures:$/ { inside = !inside; wanted = 0; next }
    inside && /^---- .* stdout ----$/ { print "  " $2; wanted = 0 }
    inside && /panicked at/ { wanted = 12 }
    wanted > 0 { print "    " substr($0, 1, 400); wanted-- }
  ' "$1" | grep . || tail -n 12 "$1"
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
    { say "$name" && what_failed "$STAGE_LOG"; } >>"$FAILURES"
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

# The simulation wants a processor for minutes, and the tests in the cluster mostly wait for pods: it lives beside them.
begin_simulation() {
  (
    local status=0
    nice -n 19 cargo test --workspace --test simulation -- --show-output >"$SIMULATION/log" 2>&1 || status=$?
    echo "$status" >"$SIMULATION/status"
  ) &
}

end_simulation() {
  until [[ -s $SIMULATION/status ]]; do
    sleep 1
  done
  cat "$SIMULATION/log"
  return "$(<"$SIMULATION/status")"
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
  stage "S3 server" scripts/s3.sh
  # Empty if it could not be built: then that stage has failed, and so do the tests that want it.
  BAM_TEST_S3_SERVER=$(scripts/s3.sh 2>/dev/null) || true
  export BAM_TEST_S3_SERVER
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
  # The copy of the requirements is what `make parity` writes last.
  if [[ -z ${BAM_PARITY_PYTHON:-} && -e $CACHE_DIR/parity-venv/requirements.txt ]]; then
    export BAM_PARITY_PYTHON=$CACHE_DIR/parity-venv/bin/python
  fi
}

# prepare_cluster: one to test in, with the operator as it was just built.
prepare_cluster() {
  local ours=$CACHE_DIR/cluster/kubeconfig
  if [[ -n ${KUBECONFIG:-} && $(realpath -m -- "$KUBECONFIG") != "$(realpath -m -- "$ours")" ]]; then
    say "cluster: that of KUBECONFIG=$KUBECONFIG"
    export BAM_TEST_KUBECONFIG=$KUBECONFIG
    return
  fi
  if [[ $(id -u) -ne 0 ]] && ! sudo -n true 2>/dev/null; then
    say "cluster: none, since only root can start one (or set KUBECONFIG)"
    return
  fi
  scripts/cluster.sh status >/dev/null 2>&1 || CLUSTER_IS_OURS=yes
  stage "cluster" scripts/cluster.sh up
  stage "operator into the cluster" env BAM_PROFILE=debug scripts/cluster.sh deploy
  stage "Kueue" scripts/cluster.sh build-kueue
  # The failed stages count; the tests would only fail for the same reason.
  [[ " ${failed_stages[*]:-} " != *cluster* ]] || return 0
  export BAM_TEST_KUBECONFIG=$ours BAM_TEST_CLUSTER_SCRIPT=$REPO_ROOT/scripts/cluster.sh
  # Of a cluster that was here before, it would tell of other operators too.
  [[ -z $CLUSTER_IS_OURS ]] || export BAM_TEST_AUDIT_LOG=$CACHE_DIR/cluster/logs/audit.log
  export BAM_TEST_VOLUME_DIR=$CACHE_DIR/test-volumes
  mkdir -p "$BAM_TEST_VOLUME_DIR"
}

# prepare_previous: an older version, built in a checkout of its own below target/.
prepare_previous() {
  local ref=${BAM_PREVIOUS:-$(git describe --tags --abbrev=0 'HEAD^' 2>/dev/null || true)} folder=$REPO_ROOT/target/previous
  if [[ -z $ref ]]; then
    say "older version: none (set BAM_PREVIOUS to a git ref)"
    return
  fi
  [[ -d $folder ]] || stage "older version: checkout" git worktree add --detach "$folder" "$ref"
  stage "older version: $ref" git -C "$folder" checkout --detach "$ref"
  ln -sfn "$(readlink -f .libtorch)" "$folder/.libtorch"
  stage "older version: build" env -C "$folder" cargo build --workspace
  export BAM_TEST_PREVIOUS_SCRIPT=$folder/scripts/cluster.sh
}

# long MINUTES: the tests that nobody wants to wait for each time.
long() {
  stage "damaged files" env PROPTEST_CASES=20000 cargo test --workspace --no-fail-fast --test fuzz
  stage "stops at random moments" env BAM_TEST_MOMENTS=400 cargo test --workspace --no-fail-fast --test resume -- --nocapture
  stage "SIGTERM with BERT-base" cargo test --workspace --no-fail-fast --test signals -- --ignored --nocapture
  export BAM_TEST_MINUTES=$1
  prepare_previous
  stage "simulation" env BAM_SIM_SCHEDULES=100000 cargo test --workspace --test simulation -- --nocapture
  stage "faults for $1 minutes" cargo test --workspace --no-fail-fast --test e2e_cluster -- --ignored --nocapture
}

finish() {
  printf '\n'
  if ((${#failed_stages[@]} > 0)); then
    # Again, and at the end: nobody looks for them in what came before.
    cat "$FAILURES"
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
  if [[ ${1:-} == long ]]; then
    prepare_cluster
    long "${2:-30}"
    finish
    return
  fi

  cargo_test "unit tests" --lib --bins
  local quick trainer slow
  prepare_cluster
  mapfile -t quick < <(test_targets crds operator | grep -vx simulation)
  mapfile -t trainer < <(test_targets trainer)
  mapfile -t slow < <(test_targets . | grep '^e2e')
  integration_tests "tests of crds and operator" "${quick[@]}"
  integration_tests "tests of the trainer" "${trainer[@]}"
  # They mostly wait for pods; the long trainings go on meanwhile.
  begin_simulation
  RUST_TEST_THREADS=${RUST_TEST_THREADS:-3} integration_tests "end-to-end tests" "${slow[@]}"
  stage "simulation of the operator" end_simulation
  cargo_test "doc tests" --doc
  finish
}

# Nothing here asks a question, and a closed stdin must not become a test's fd 0.
main "$@" </dev/null
