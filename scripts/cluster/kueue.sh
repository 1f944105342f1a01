# shellcheck shell=bash
# Kueue in the test cluster, as its own chart installs it, for the tests of queues: the controller is built from its Go
# module, once per machine. Sourced, never run.

readonly KUEUE_MODULE=sigs.k8s.io/kueue KUEUE_VERSION=v0.17.0
readonly KUEUE=$CACHE_DIR/kueue-$KUEUE_VERSION KUEUE_NAMESPACE=kueue-system

build_kueue() {
  [[ ! -x $KUEUE/kueue ]] || return 0 # another process was faster
  local partial=$CACHE_DIR/.partial-kueue-$KUEUE_VERSION
  need_space "$CACHE_DIR" 3000 "building Kueue"
  rm -rf "$partial"
  mkdir -p "$partial/bin"
  find_go "$partial"
  (
    cd "$CLUSTER_SOURCES/kueue" || exit
    build_go "$partial/log" "$GO" build -v -mod=readonly -trimpath -ldflags '-s -w' -o "$partial/bin/" "$KUEUE_MODULE/cmd/kueue"
    cp -r --no-preserve=mode "$("$GO" list -m -f '{{.Dir}}' "$KUEUE_MODULE")/charts/kueue" "$partial/bin/chart"
  )
  rm -rf "$KUEUE"
  mv "$partial/bin" "$KUEUE"
  rm -rf "$partial"
}

ensure_kueue() {
  if [[ -x $KUEUE/kueue ]]; then
    note "Kueue $KUEUE_VERSION: in place"
  else
    note "Kueue $KUEUE_VERSION: building it, once per machine (3 to 15 minutes)"
    run_as_one "kueue-$KUEUE_VERSION" build_kueue
  fi
}

# kueue_manifests REFERENCE: those of the chart, for our image. Not its further API server: while that does not answer, no
# namespace of the cluster can be deleted.
kueue_manifests() {
  local image=controllerManager.manager.image
  "$HELM" template kueue "$KUEUE/chart" --namespace "$KUEUE_NAMESPACE" --set "$image.repository=${1%:*}" --set "$image.tag=${1##*:}" \
    --set "$image.pullPolicy=Never" --set controllerManager.manager.resources.requests.cpu=50m |
    sed 's#- /manager$#- /usr/local/bin/kueue#' |
    awk 'function tell() { if (!skip) printf "%s", document; document = ""; skip = 0 }
      /^---$/ { tell() } /^kind: APIService$/ { skip = 1 } { document = document $0 "\n" } END { tell() }'
}

kueue_up() {
  local reference ARGUMENTS
  ensure_helm
  ensure_kueue
  ARGUMENTS=(kueue "$KUEUE/kueue" --digests "$CACHE_DIR/image-digests.json")
  reference=$(image_tool ref "${ARGUMENTS[@]}") || die "could not make out what the image of Kueue holds"
  put_image "$reference" "${ARGUMENTS[@]}"
  say "Kueue: installing it, and waiting for it (up to 2 minutes)"
  kc create namespace "$KUEUE_NAMESPACE" --dry-run=client -o yaml | kc apply -f - >/dev/null
  kueue_manifests "$reference" | kc apply --server-side --force-conflicts -f - >/dev/null
  kc rollout status --namespace "$KUEUE_NAMESPACE" deployment/kueue-controller-manager --timeout=2m >/dev/null || {
    kc logs --namespace "$KUEUE_NAMESPACE" deployment/kueue-controller-manager --tail=20 >&2 || true
    die "Kueue does not become ready (see above)"
  }
  wait_for_webhooks
}

# wait_for_webhooks: a ready pod is not yet one that its Service leads to.
wait_for_webhooks() {
  local start=$SECONDS
  until printf 'apiVersion: kueue.x-k8s.io/v1beta2\nkind: ResourceFlavor\nmetadata: { name: a-try }\n' |
    kc create --dry-run=server -f - >/dev/null 2>&1; do
    ((SECONDS - start < 60)) || die "Kueue's webhooks do not answer after 60 s"
    sleep 0.5
  done
}

# kueue_down: what it guards goes first, while it is there to let it go.
kueue_down() {
  say "Kueue: removing it"
  kc delete workloads,localqueues,clusterqueues,resourceflavors --all --all-namespaces --timeout=60s >/dev/null 2>&1 ||
    note "not everything in its queues was let go within a minute"
  kueue_manifests none:none | kc delete --ignore-not-found --timeout=60s -f - >/dev/null
  kc delete namespace "$KUEUE_NAMESPACE" --ignore-not-found --wait=false >/dev/null
}
