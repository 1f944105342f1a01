# shellcheck shell=bash
# Who is who in the test cluster: one certificate authority, a certificate for each part,
# and the kubeconfigs that carry them. Sourced, never run.

# certificate NAME SUBJECT USAGE [ALTERNATIVE_NAMES]: NAME.key and NAME.crt, in the working folder.
certificate() {
  local name=$1 subject=$2 usage=$3 names=${4:-}
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$name.key" -subj "$subject" 2>/dev/null |
    openssl x509 -req -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" -days 3650 -sha256 \
      -extfile <(printf 'keyUsage=critical,digitalSignature\nextendedKeyUsage=%s\n%s' "$usage" "${names:+subjectAltName=$names}") \
      -out "$name.crt" 2>/dev/null || die "openssl could not make the certificate of $name"
}

# The rename is the commit: all certificates belong to one authority.
make_pki() {
  [[ ! -d $PKI ]] || return 0
  note "making certificates"
  rm -rf "$PKI.partial" "$ADMIN_KUBECONFIG"
  mkdir -m 700 "$PKI.partial"
  (
    umask 077
    cd "$PKI.partial" || exit
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 3650 -sha256 \
      -config <(printf '[req]\ndistinguished_name=dn\nx509_extensions=ca\nprompt=no\n[dn]\nCN=bam-cluster\n[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign,digitalSignature\nsubjectKeyIdentifier=hash\n') \
      2>/dev/null || die "openssl could not make a certificate authority"
    certificate apiserver /CN=kube-apiserver serverAuth \
      "IP:$NODE_IP,IP:$API_SERVICE_IP,IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
    certificate kubelet "/O=system:nodes/CN=system:node:$NODE" serverAuth,clientAuth "IP:$NODE_IP,DNS:$NODE"
    certificate apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
    certificate admin /O=system:masters/CN=admin clientAuth
    certificate controller-manager /CN=system:kube-controller-manager clientAuth
    certificate scheduler /CN=system:kube-scheduler clientAuth
    certificate proxy /CN=system:kube-proxy clientAuth
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out service-account.key 2>/dev/null
    openssl pkey -in service-account.key -pubout -out service-account.pub
  )
  mv "$PKI.partial" "$PKI"
}

# kubeconfig NAME: one file that holds all it needs, so that it can be copied away.
kubeconfig() {
  cat <<END
apiVersion: v1
kind: Config
clusters:
  - name: bam-cluster
    cluster:
      server: $API_URL
      certificate-authority-data: $(base64 -w 0 "$PKI/ca.crt")
users:
  - name: $1
    user:
      client-certificate-data: $(base64 -w 0 "$PKI/$1.crt")
      client-key-data: $(base64 -w 0 "$PKI/$1.key")
contexts:
  - name: bam-cluster
    context: { cluster: bam-cluster, user: $1 }
current-context: bam-cluster
END
}

# write_file FILE MODE: stdin to FILE in one step; nobody reads half of it.
write_file() {
  local partial=$1.partial
  (umask 077 && cat >"$partial")
  chmod "$2" "$partial"
  mv "$partial" "$1"
}

write_kubeconfigs() {
  local part
  for part in kubelet controller-manager scheduler proxy; do
    kubeconfig "$part" | write_file "$ETC/$part.kubeconfig" 600
  done
  [[ -s $ADMIN_KUBECONFIG ]] || kubeconfig admin | write_file "$ADMIN_KUBECONFIG" 600
}
