# Watching and waiting: events of a watch, from a list and from now on, in each form of output;
# conditions, fields, deletion and creation that are waited for.
source ./_steps.sh
namespace look

# Begins to watch, and goes on once the watch shows what is there.
watching() {
  show kubectl get "$@"
  # What the watch before showed would be taken for what this one shows.
  : > "$TMPDIR/watched"
  "$PROGRAM" get "$@" > "$TMPDIR/watched" 2>&1 &
  WATCH=$!
}
seen() { grep -q -- "$1" "$TMPDIR/watched"; }
shown() {
  kill "$WATCH"
  wait "$WATCH" 2>/dev/null
  cat "$TMPDIR/watched"
}

given create configmap settings --from-literal=color=blue
step "a watch shows what is there and what happens"
watching configmaps -w --output-watch-events
eventually seen settings
given patch configmap settings --type merge -p '{"data":{"size":"3"}}'
eventually seen MODIFIED
given create configmap other
eventually seen 'ADDED.*other'
given delete configmap other
eventually seen DELETED
shown
step "a watch from now on"
watching configmaps --watch-only --output-watch-events
# Nothing tells that it began, so the change is made until it is seen.
change() { quietly annotate configmap settings "round=$RANDOM" --overwrite >/dev/null; seen MODIFIED; }
eventually change
kill "$WATCH"; wait "$WATCH" 2>/dev/null
awk '{ print $1, $2 }' "$TMPDIR/watched" | sort -u
step "a watch of one object"
watching configmap settings -w -o 'custom-columns=NAME:.metadata.name,SIZE:.data.size'
eventually seen settings
given patch configmap settings --type merge -p '{"data":{"size":"4"}}'
eventually seen '4'
shown
step "a watch by label shows what comes into view and leaves it"
given create configmap shy
watching configmaps -w -l visible=yes --output-watch-events
eventually sh -c "'$PROGRAM' label configmap shy visible=yes --overwrite; grep -q ADDED '$TMPDIR/watched'"
given label configmap shy visible=no --overwrite
eventually seen DELETED
shown
step "a watch by field"
watching configmaps -w --field-selector metadata.name=shy --output-watch-events
eventually seen shy
given delete configmap shy
eventually seen DELETED
shown
step "a watch as json"
watching configmap settings -w --output-watch-events -o 'jsonpath={.object.metadata.name}{" "}{.type}{"\n"}'
eventually seen settings
shown
step "a watch in all namespaces"
watching configmaps -A -w -l example.org/look=yes --output-watch-events
eventually sh -c "'$PROGRAM' label configmap settings example.org/look=yes --overwrite; grep -q ADDED '$TMPDIR/watched'"
shown

step "wait for a field"
( eventually sh -c "'$PROGRAM' get configmap settings"; quietly patch configmap settings --type merge -p '{"data":{"ready":"yes"}}' >/dev/null ) &
kubectl wait configmap/settings '--for=jsonpath={.data.ready}=yes' --timeout=60s
step "wait for a condition"
given create -f manifests/pod.yaml
( quietly patch pod sleeper --subresource=status --type merge -p '{"status":{"conditions":[{"type":"Rested","status":"True","lastProbeTime":null,"lastTransitionTime":null}]}}' >/dev/null ) &
kubectl wait pod/sleeper --for=condition=Rested --timeout=60s
step "wait for a condition in vain"
kubectl wait pod/sleeper --for=condition=Awake --timeout=1s
step "wait for deletion"
( quietly delete pod sleeper --wait=false >/dev/null ) &
# It says so only if it saw the object before it went.
quietly wait pod/sleeper --for=delete --timeout=60s >/dev/null
echo "[exit $?]"
step "wait for creation"
( quietly create configmap late >/dev/null ) &
kubectl wait configmap/late --for=create --timeout=60s
step "wait for what is not there"
kubectl wait configmap/nothing '--for=jsonpath={.data.a}=1' --timeout=1s
wait

given delete namespace look --wait=false
