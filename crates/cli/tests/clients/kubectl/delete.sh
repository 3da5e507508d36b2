# Deleting: one, many, by selector, with finalizers, owners in three ways, grace, preconditions.
source ./_steps.sh
namespace remove
maps() { for name in "$@"; do given create configmap "$name"; done; }

step "one"
maps one
kubectl delete configmap one
kubectl get configmap one
step "what is not there"
kubectl delete configmap one
step "what is not there, ignored"
kubectl delete configmap one --ignore-not-found
step "several"
maps one two
kubectl delete configmap one two
step "by file"
given create -f manifests/folder/first.yaml
kubectl delete -f manifests/folder/first.yaml
step "by selector"
maps one two three
given label configmap one two set=gone
kubectl delete configmaps -l set=gone
kubectl get configmaps -o name
step "all of a kind"
maps four
kubectl delete configmaps --all
step "all of two kinds"
maps one
given create secret generic one
kubectl delete configmaps,secrets --all
step "as a dry run"
maps one
kubectl delete configmap one --dry-run=server
kubectl get configmap one -o name
step "output as a name"
kubectl delete configmap one -o name
step "a finalizer holds it"
kubectl create -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: held, finalizers: [example.org/wait]}
END
kubectl delete configmap held --wait=false
kubectl get configmap held -o 'jsonpath={.metadata.deletionTimestamp} {.metadata.deletionGracePeriodSeconds} {.metadata.finalizers}'
echo
step "a second delete changes nothing"
kubectl delete configmap held --wait=false
step "waiting in vain"
quietly delete configmap held --timeout=1s 2>&1 | grep -v 'reflector.go'
step "no finalizer can be added on the way out"
kubectl patch configmap held --type merge -p '{"metadata":{"finalizers":["example.org/wait","example.org/more"]}}'
step "it goes with its last finalizer"
kubectl patch configmap held --type merge -p '{"metadata":{"finalizers":null}}'
kubectl get configmap held

owner_and_dependent() {
  maps owner
  local uid
  uid=$(quietly get configmap owner -o 'jsonpath={.metadata.uid}')
  printf 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: dependent\n  ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: owner, uid: %s%s}]\n' "$uid" "${1:-}" | quietly create -f - >/dev/null
}
step "dependents go in the background"
owner_and_dependent
kubectl delete configmap owner --cascade=background
eventually gone configmap dependent
kubectl get configmaps -o name
step "dependents go first in the foreground"
owner_and_dependent ', blockOwnerDeletion: true'
kubectl delete configmap owner --cascade=foreground
kubectl get configmaps -o name
step "dependents that are held hold their owner in the foreground"
owner_and_dependent ', blockOwnerDeletion: true'
given patch configmap dependent --type merge -p '{"metadata":{"finalizers":["example.org/wait"]}}'
kubectl delete configmap owner --cascade=foreground --wait=false
kubectl get configmap owner -o 'jsonpath={.metadata.finalizers}'
echo
given patch configmap dependent --type merge -p '{"metadata":{"finalizers":null}}'
eventually gone configmap owner
kubectl get configmaps -o name
step "dependents stay as orphans"
owner_and_dependent
kubectl delete configmap owner --cascade=orphan
eventually gone configmap owner
kubectl get configmap dependent -o 'jsonpath={.metadata.name} {.metadata.ownerReferences}|'
echo
given delete configmap dependent
step "an owner that never was takes its dependent along"
kubectl create -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata:
  name: dependent
  ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: never, uid: 00000000-0000-0000-0000-000000000001}]
END
eventually gone configmap dependent
kubectl get configmaps -o name
step "a pod without a node goes at once"
given create -f manifests/pod.yaml
kubectl delete pod sleeper
step "a pod without grace"
given create -f manifests/pod.yaml
kubectl delete pod sleeper --grace-period=0 --force
step "now"
given create -f manifests/pod.yaml
kubectl delete pod sleeper --now
step "with a raw path"
maps one
quietly delete --raw /api/v1/namespaces/remove/configmaps/one | pretty
step "a precondition that does not hold"
maps one
printf '{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"00000000-0000-0000-0000-000000000000"}}' > "$TMPDIR/options"
quietly delete configmap one --raw /api/v1/namespaces/remove/configmaps/one -f "$TMPDIR/options" 2>&1 | head -1
kubectl get configmap one -o name
step "a namespace goes with what is in it"
given create namespace remove-more
given create configmap inside -n remove-more
kubectl delete namespace remove-more --timeout=60s
kubectl get namespace remove-more
kubectl get configmap inside -n remove-more
step "nothing new in a namespace that goes"
given create namespace remove-held
kubectl create -n remove-held -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: held, finalizers: [example.org/wait]}
END
kubectl delete namespace remove-held --wait=false
kubectl get namespace remove-held
kubectl create configmap late -n remove-held
given patch configmap held -n remove-held --type merge -p '{"metadata":{"finalizers":null}}'
eventually gone namespace remove-held
step "a namespace that is needed stays"
kubectl delete namespace default

given delete namespace remove --wait=false
