# shellcheck shell=bash
# The operator in a cluster: its data on a volume, its images, its Helm chart. Sourced,
# never run.

readonly DEMO_DIR=$REPO_ROOT/target/demo
readonly RELEASE=bam-operator NAMESPACE=bam-system CLAIM=bam-dir
# Pods of operator and trainer run as this user and group; a hostPath gets no fsGroup.
readonly POD_USER=65532
readonly MODEL=pretrained_models/all-MiniLM-L6-v2

# data_dir: the folder that the claim shows to pods.
data_dir() { realpath -m -- "${BAM_DIR:-$DEMO_DIR}"; }

# prepare_data: as `make demo` does it: made-up data for our own folder, only weights for
# the user's.
prepare_data() {
  local data
  data=$(data_dir)
  if [[ $data == "$DEMO_DIR" ]]; then
    "$REPO_ROOT/scripts/weights.sh" "$data"
    "$REPO_ROOT/scripts/demo_data.py" "$data"
  else
    [[ -d $data ]] || die "BAM_DIR is not a folder: $data"
    [[ -e $data/$MODEL ]] || "$REPO_ROOT/scripts/weights.sh" "$data"
  fi
  mkdir -p "$data/runs" "$data/models"
}

# share_data FOLDER: the pods may write below runs/ and models/, and its owner still may,
# whoever made a file there. Inputs are left as they are.
share_data() {
  local data=$1 folder owner hidden outside
  for folder in "$data/runs" "$data/models"; do
    owner=$(stat -c %u "$folder")
    setfacl -R -m "u:$POD_USER:rwX,u:$owner:rwX,d:u:$POD_USER:rwX,d:u:$owner:rwX" "$folder" 2>/dev/null || {
      note "this file system has no access lists: giving $folder to user $POD_USER, and everyone may write there"
      chown -R "$POD_USER:$POD_USER" "$folder"
      chmod -R a+rwX "$folder"
    }
  done
  hidden=$(find "$data" -path "$data/runs" -prune -o -path "$data/models" -prune -o -path "$data/.*" -prune -o \
    \( -type f ! -perm -004 -o -type d ! -perm -005 \) -print | head -n 5)
  [[ -z $hidden ]] || die "pods (user $POD_USER) cannot read, in $data: $(tr '\n' ' ' <<<"$hidden")— to allow it: chmod -R o+rX there"
  outside=$(find "$data" -type l -printf '%p %l\n' | while read -r folder target; do
    [[ $(realpath -m -- "$folder") == "$data"/* && $target != /* ]] || echo "$folder"
  done | head -n 5)
  [[ -z $outside ]] || note "pods cannot follow these links, which lead out of $data: $(tr '\n' ' ' <<<"$outside")"
}

volume() {
  cat <<END
apiVersion: v1
kind: PersistentVolume
metadata: { name: $CLAIM }
spec:
  capacity: { storage: 100Gi }
  accessModes: [ReadWriteMany]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ""
  claimRef: { namespace: default, name: $CLAIM }
  hostPath: { path: "$1", type: Directory }
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: { name: $CLAIM, namespace: default }
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ""
  volumeName: $CLAIM
  resources: { requests: { storage: 100Gi } }
END
}

# claim_users: the pods that name the claim, finished ones too: all of them hold it.
claim_users() {
  kc get pods --namespace default -o 'jsonpath={range .items[*]}{.metadata.name}{" "}{.spec.volumes[*].persistentVolumeClaim.claimName}{"\n"}{end}' |
    awk -v claim="$CLAIM" '{ for (i = 2; i <= NF; i++) if ($i == claim) { print $1; break } }'
}

# A volume's folder cannot be changed, so another folder means another volume; and so does a claim
# that somebody deleted, since a volume knows its claim by more than the name. Data stay.
ensure_volume() {
  local data=$1 now users
  now=$(kc get persistentvolume "$CLAIM" --ignore-not-found -o 'jsonpath={.spec.hostPath.path}')
  if [[ -n $now && $now != "$data" ]]; then
    mapfile -t users < <(claim_users)
    ((${#users[@]} == 0)) ||
      die "the volume shows $now, and these pods hold it: ${users[*]:0:5}; delete them (or their experiments), or set BAM_DIR=$now"
    note "the volume showed $now"
    kc delete --namespace default "persistentvolumeclaim/$CLAIM" --ignore-not-found --timeout=10s >/dev/null
  fi
  if [[ $(kc get persistentvolume "$CLAIM" --ignore-not-found -o 'jsonpath={.status.phase}') == Released || -n $now && $now != "$data" ]]; then
    kc delete "persistentvolume/$CLAIM" --ignore-not-found --timeout=10s >/dev/null
  fi
  volume "$data" | kc apply -f - >/dev/null
  kc wait --for=jsonpath='{.status.phase}'=Bound --namespace default "persistentvolumeclaim/$CLAIM" --timeout=10s >/dev/null ||
    die "the claim $CLAIM is not bound to its volume: kubectl describe pvc $CLAIM"
}

# chart KUBECONFIG [OPTION…]: installs or upgrades the release, with these further options of helm. CRDs that an earlier
# one left, or that somebody applied, become its own.
chart() {
  local kubeconfig=$1
  shift
  say "operator: installing the chart, and waiting for it (up to 3 minutes)"
  "$HELM" upgrade --install "$RELEASE" "$REPO_ROOT/charts/bam-operator" --kubeconfig "$kubeconfig" \
    --namespace "$NAMESPACE" --create-namespace --take-ownership --force-conflicts \
    --set "operator.image=$OPERATOR_IMAGE" --set "trainer.image=$TRAINER_IMAGE" \
    "$@" --wait --timeout 3m >/dev/null || {
    kubectl --kubeconfig "$kubeconfig" --namespace "$NAMESPACE" get pods >&2 || true
    kubectl --kubeconfig "$kubeconfig" --namespace "$NAMESPACE" logs "deployment/$RELEASE" --tail=20 >&2 || true
    die "the operator does not become ready (see above)"
  }
  note "the operator is ready, in namespace $NAMESPACE"
}

# deploy: the operator into our own cluster, without any data, for tests: they look at trainings that take seconds.
deploy() {
  ensure_helm
  images
  chart "$ADMIN_KUBECONFIG" --set kueue.enabled=true --set-string "extraEnv[0].name=BAM_PROGRESS_SECONDS,extraEnv[0].value=1"
}

# undeploy: out of our own cluster. The chart's CRDs stay, and with them all objects.
undeploy() {
  ensure_helm
  say "operator: uninstalling the chart"
  "$HELM" uninstall "$RELEASE" --kubeconfig "$ADMIN_KUBECONFIG" --namespace "$NAMESPACE" --wait --timeout 2m >/dev/null
}

# install: into our own cluster, with data for experiments.
install() {
  local data
  data=$(data_dir)
  ensure_helm
  images
  say "storage: claim $CLAIM shows $data"
  share_data "$data"
  ensure_volume "$data"
  chart "$ADMIN_KUBECONFIG"
  printf '\n'
  print_env
  next_steps
}

# install_elsewhere: into the cluster that KUBECONFIG names; all that is missing is said at once.
install_elsewhere() {
  local missing=()
  say "installing into the cluster of KUBECONFIG=$KUBECONFIG"
  ensure_kubectl
  ensure_helm
  OPERATOR_IMAGE=${BAM_OPERATOR_IMAGE:-} TRAINER_IMAGE=${BAM_TRAINER_IMAGE:-}
  [[ -n $OPERATOR_IMAGE ]] || missing+=("BAM_OPERATOR_IMAGE: the operator's image, where that cluster can pull it")
  [[ -n $TRAINER_IMAGE ]] || missing+=("BAM_TRAINER_IMAGE: the trainer's image, where that cluster can pull it")
  if ! kubectl version --request-timeout=10s >/dev/null 2>&1; then
    missing+=("the cluster itself: kubectl does not reach it")
  elif ! kubectl get persistentvolumeclaim "$CLAIM" --namespace default >/dev/null 2>&1; then
    missing+=("a PersistentVolumeClaim '$CLAIM' in namespace default, with glue_data/ and pretrained_models/, writable for user $POD_USER")
  fi
  if ((${#missing[@]} > 0)); then
    printf 'missing: %s\n' "${missing[@]}" >&2
    die "nothing was installed"
  fi
  chart "$KUBECONFIG"
  printf '\n'
  next_steps
}

next_steps() {
  cat <<'END'
kubectl apply -f examples/rte-mrpc-bam.yaml
kubectl get bamruns -w
kubectl wait --for=condition=Complete bamexperiment/rte-mrpc-bam --timeout=30m
END
}
