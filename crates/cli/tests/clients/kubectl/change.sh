# Changing objects: three kinds of patch, replace, edit, label, annotate, set.
source ./_steps.sh
namespace change
given create configmap settings --from-literal=color=blue
given create -f manifests/pod.yaml

step "merge patch"
kubectl patch configmap settings --type merge -p '{"data":{"size":"3"}}'
kubectl get configmap settings -o 'jsonpath={.data}'
echo
step "merge patch that changes nothing"
kubectl patch configmap settings --type merge -p '{"data":{"size":"3"}}'
step "merge patch that removes"
kubectl patch configmap settings --type merge -p '{"data":{"size":null}}' -o 'jsonpath={.data}'
echo
step "json patch"
kubectl patch configmap settings --type json -p '[{"op":"test","path":"/data/color","value":"blue"},{"op":"replace","path":"/data/color","value":"red"},{"op":"add","path":"/data/new","value":"1"},{"op":"copy","from":"/data/new","path":"/data/copied"},{"op":"move","from":"/data/new","path":"/data/moved"}]'
kubectl get configmap settings -o 'jsonpath={.data}'
echo
step "json patch whose test fails"
kubectl patch configmap settings --type json -p '[{"op":"test","path":"/data/color","value":"blue"},{"op":"remove","path":"/data"}]'
step "json patch of what is not there"
kubectl patch configmap settings --type json -p '[{"op":"remove","path":"/data/nothing"}]'
step "json patch that is none"
kubectl patch configmap settings --type json -p '{"data":{}}'
step "strategic patch merges a list by key"
kubectl patch pod sleeper -p '{"spec":{"containers":[{"name":"main","image":"fermion.dev/base:other"}]}}'
kubectl get pod sleeper -o 'jsonpath={.spec.containers[*].name} {.spec.containers[0].image} {.spec.containers[0].command}'
echo
step "strategic patch that deletes from a list"
kubectl patch configmap settings -p '{"metadata":{"finalizers":["example.org/a","example.org/b"]}}'
kubectl patch configmap settings -p '{"metadata":{"$deleteFromPrimitiveList/finalizers":["example.org/a"]}}'
kubectl get configmap settings -o 'jsonpath={.metadata.finalizers}'
echo
given patch configmap settings --type merge -p '{"metadata":{"finalizers":null}}'
step "strategic patch that replaces a map"
kubectl patch configmap settings -p '{"data":{"$patch":"replace","only":"this"}}'
kubectl get configmap settings -o 'jsonpath={.data}'
echo
step "patch of what is not there"
kubectl patch configmap nothing --type merge -p '{"data":{"a":"1"}}'
step "patch with a value that is wrong"
kubectl patch configmap settings --type merge -p '{"data":{"a":1}}'
step "patch of the name"
kubectl patch configmap settings --type merge -p '{"metadata":{"name":"other"}}'
step "patch of what the server owns"
before=$(quietly get configmap settings -o 'jsonpath={.metadata.creationTimestamp}')
kubectl patch configmap settings --type merge -p '{"metadata":{"creationTimestamp":"2000-01-01T00:00:00Z"}}'
[[ $before == "$(quietly get configmap settings -o 'jsonpath={.metadata.creationTimestamp}')" ]] && echo "it stays"
kubectl patch configmap settings --type merge -p '{"metadata":{"uid":"00000000-0000-0000-0000-000000000000"}}'
step "patch with a version that is old"
kubectl patch configmap settings --type merge -p '{"metadata":{"resourceVersion":"1"},"data":{"a":"1"}}'
step "patch as a dry run"
kubectl patch configmap settings --type merge -p '{"data":{"dry":"1"}}' --dry-run=server -o 'jsonpath={.data}'
echo
kubectl get configmap settings -o 'jsonpath={.data}'
echo
step "patch of a field of a pod that cannot change"
kubectl patch pod sleeper -p '{"spec":{"containers":[{"name":"main","command":["true"]}]}}'
step "patch of a status"
kubectl patch pod sleeper --subresource=status --type merge -p '{"status":{"message":"asleep"}}'
kubectl get pod sleeper -o 'jsonpath={.status.message} {.status.phase}'
echo
step "a patch of the main object leaves the status"
kubectl patch pod sleeper --type merge -p '{"metadata":{"labels":{"seen":"yes"}},"status":{"message":"awake"}}'
kubectl get pod sleeper -o 'jsonpath={.status.message} {.metadata.labels.seen}'
echo
step "a patch of the status leaves the main object"
kubectl patch pod sleeper --subresource=status --type merge -p '{"spec":{"priority":5},"status":{"reason":"Tired"}}'
kubectl get pod sleeper -o 'jsonpath={.status.reason} {.spec.priority}'
echo
step "a subresource that is not there"
kubectl patch configmap settings --subresource=status --type merge -p '{"status":{}}'

step "label"
kubectl label configmap settings tier=web
kubectl label configmap settings tier=web
kubectl label configmap settings tier=db
kubectl label configmap settings tier=db --overwrite
kubectl label configmap settings --list
kubectl label configmap settings tier-
kubectl label configmap settings tier-
step "label by selector"
given label configmap settings set=one
kubectl label configmaps -l set=one set=two --overwrite
step "label all"
kubectl label configmaps --all seen=yes
step "label that is wrong"
kubectl label configmap settings 'tier=a b'
step "label with a version"
kubectl label configmap settings tier=x --resource-version=1
step "annotate"
kubectl annotate configmap settings note='first of all'
kubectl annotate configmap settings note=second
kubectl annotate configmap settings note=second --overwrite
kubectl annotate configmap settings note-
kubectl get configmap settings -o 'jsonpath={.metadata.annotations}|'
echo

step "replace"
quietly get configmap settings -o json > "$TMPDIR/settings.json"
sed -i 's/"only": "this"/"only": "that"/' "$TMPDIR/settings.json"
quietly replace -f "$TMPDIR/settings.json"
kubectl get configmap settings -o 'jsonpath={.data}'
echo
step "replace what changed meanwhile"
quietly replace -f "$TMPDIR/settings.json" 2>&1
step "replace without a version"
kubectl replace -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {replaced: "yes"}
END
kubectl get configmap settings -o 'jsonpath={.data} {.metadata.labels}'
echo
step "replace what is not there"
kubectl replace -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: nothing}
END
step "replace by force makes it anew"
before=$(quietly get configmap settings -o 'jsonpath={.metadata.uid}')
kubectl replace --force -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {forced: "yes"}
END
[[ $before != "$(quietly get configmap settings -o 'jsonpath={.metadata.uid}')" ]] && echo "it is another one"

step "edit"
printf '#!/bin/sh\nsed -i "s/forced: .*/forced: edited/" "$1"\n' > "$TMPDIR/editor" && chmod +x "$TMPDIR/editor"
export KUBE_EDITOR=$TMPDIR/editor
kubectl edit configmap settings
kubectl get configmap settings -o 'jsonpath={.data}'
echo
step "edit without a change"
kubectl edit configmap settings
step "edit of the status"
printf '#!/bin/sh\nsed -i "s/message: .*/message: edited/" "$1"\n' > "$TMPDIR/editor"
kubectl edit pod sleeper --subresource=status
kubectl get pod sleeper -o 'jsonpath={.status.message}'
echo

step "set an image"
kubectl set image pod/sleeper main=fermion.dev/base:third
kubectl get pod sleeper -o 'jsonpath={.spec.containers[0].image}'
echo
step "immutable data stays"
kubectl create -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: stone}
immutable: true
data: {a: "1"}
END
kubectl patch configmap stone --type merge -p '{"data":{"a":"2"}}'
kubectl patch configmap stone --type merge -p '{"immutable":false}'
kubectl label configmap stone tier=web

given delete namespace change --wait=false
