# Applying: by the client with its annotation, by the server with managed fields, two managers,
# conflicts and force, pruning, and what `diff` says beforehand.
source ./_steps.sh
namespace apply

settings() { printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, labels: {app: shop}}\ndata: {%s}\n' "$1"; }

step "diff of what is not there"
settings 'color: blue, size: "3"' | quietly diff -f - | tail -n +4
step "apply what is not there"
settings 'color: blue, size: "3"' > "$TMPDIR/settings.yaml"
settings 'color: blue, size: "3"' | kubectl apply -f -
step "apply the same again"
settings 'color: blue, size: "3"' | kubectl apply -f -
step "diff of a change"
settings 'color: red' | quietly diff -f - | tail -n +4
settings 'color: red' | quietly diff -f - >/dev/null; echo "[exit $?]"
step "diff of no change"
settings 'color: blue, size: "3"' | kubectl diff -f -
step "apply a change that takes a field away"
settings 'color: red' | kubectl apply -f -
kubectl get configmap settings -o 'jsonpath={.data}'
echo
step "fields of others stay"
given patch configmap settings --type merge -p '{"data":{"theirs":"stays"}}'
settings 'color: green' | kubectl apply -f -
kubectl get configmap settings -o 'jsonpath={.data}'
echo
step "apply as a dry run of the server"
settings 'color: black' | kubectl apply -f - --dry-run=server
kubectl get configmap settings -o 'jsonpath={.data.color}'
echo
step "the last applied configuration"
settings 'color: green' | quietly apply view-last-applied -f - 2>/dev/null || quietly apply view-last-applied configmap/settings
step "apply to what was not applied before warns"
given create configmap plain --from-literal=a=1
kubectl apply -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: plain}
data: {a: "2"}
END
step "apply in another namespace than its own"
kubectl apply -n default -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: plain, namespace: apply}
END
step "prune what the set no longer holds"
pruned() { kubectl apply --prune -l set=pruned "$@" | grep -v prune.go; }
pruned --prune-allowlist=core/v1/ConfigMap -f manifests/pruned/all.yaml
pruned --prune-allowlist=core/v1/ConfigMap -f manifests/pruned/one.yaml
kubectl get configmaps -l set=pruned -o name
step "prune of some kinds only"
pruned --prune-allowlist=core/v1/Secret -f manifests/pruned/all.yaml
step "a list merges by key"
kubectl apply -f - <<'END'
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, clusterIP: None, ports: [{port: 80, name: http}]}
END
given patch service web -p '{"spec":{"ports":[{"port":443,"name":"https"}]}}'
kubectl apply -f - <<'END'
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, clusterIP: None, ports: [{port: 80, name: http, targetPort: 8080}]}
END
kubectl get service web -o 'jsonpath={.spec.ports[*].name} {.spec.ports[?(@.name=="http")].targetPort}'
echo

step "server side apply of what is not there"
kubectl apply --server-side --field-manager=first -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: shared}
data: {mine: "1", both: "1"}
END
step "server side apply of the same again"
version=$(quietly get configmap shared -o 'jsonpath={.metadata.resourceVersion}')
quietly apply --server-side --field-manager=first -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: shared}
data: {mine: "1", both: "1"}
END
[[ $version == "$(quietly get configmap shared -o 'jsonpath={.metadata.resourceVersion}')" ]] && echo "nothing was written"
step "who manages what"
kubectl get configmap shared --show-managed-fields -o yaml
step "a second manager with the same value shares it"
kubectl apply --server-side --field-manager=second -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: shared}
data: {both: "1", theirs: "2"}
END
kubectl get configmap shared --show-managed-fields -o 'jsonpath={range .metadata.managedFields[*]}{.manager} {.operation} {.fieldsV1}{"\n"}{end}'
step "a second manager with another value is refused"
kubectl apply --server-side --field-manager=second -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: shared}
data: {both: "2", theirs: "2"}
END
step "and may force it"
kubectl apply --server-side --field-manager=second --force-conflicts -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: shared}
data: {both: "2", theirs: "2"}
END
kubectl get configmap shared --show-managed-fields -o 'jsonpath={.data}{"\n"}{range .metadata.managedFields[*]}{.manager} {.operation} {.fieldsV1}{"\n"}{end}'
step "a field that its only manager drops goes"
kubectl apply --server-side --field-manager=second -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: shared}
data: {both: "2"}
END
kubectl get configmap shared -o 'jsonpath={.data}'
echo
step "a field that another manager still has stays"
kubectl apply --server-side --field-manager=third -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: shared}
data: {both: "2"}
END
kubectl apply --server-side --field-manager=second -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: shared}
data: {}
END
kubectl get configmap shared -o 'jsonpath={.data}'
echo
step "an update takes over"
given patch configmap shared --type merge --field-manager=patcher -p '{"data":{"both":"3"}}'
kubectl get configmap shared --show-managed-fields -o 'jsonpath={range .metadata.managedFields[*]}{.manager} {.operation} {.fieldsV1}{"\n"}{end}'
step "apply against an update conflicts"
kubectl apply --server-side --field-manager=third -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: shared}
data: {both: "4"}
END
step "server side apply as a dry run"
kubectl apply --server-side --field-manager=first --dry-run=server -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: only-tried}
END
kubectl get configmap only-tried
step "server side diff"
printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {mine: "9"}\n' | quietly diff --server-side --field-manager=first -f - | tail -n +4
step "from client side to server side"
settings 'color: white' | kubectl apply --server-side -f -
kubectl get configmap settings -o 'jsonpath={.data}'
echo
step "server side apply of an unknown field"
kubectl apply --server-side -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: unknown}
dtaa: {a: "1"}
END
step "server side apply to lists by key"
kubectl apply --server-side --field-manager=first -f - <<'END'
apiVersion: v1
kind: Service
metadata: {name: listed}
spec: {clusterIP: None, ports: [{port: 80, name: http, protocol: TCP}]}
END
kubectl apply --server-side --field-manager=second -f - <<'END'
apiVersion: v1
kind: Service
metadata: {name: listed}
spec: {ports: [{port: 443, name: https, protocol: TCP}]}
END
kubectl get service listed -o 'jsonpath={.spec.ports[*].name}'
echo
kubectl apply --server-side --field-manager=first -f - <<'END'
apiVersion: v1
kind: Service
metadata: {name: listed}
spec: {clusterIP: None, ports: []}
END
kubectl get service listed -o 'jsonpath={.spec.ports[*].name}'
echo
step "server side apply of finalizers is a set"
kubectl apply --server-side --field-manager=first -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: held, finalizers: [example.org/first]}
END
kubectl apply --server-side --field-manager=second -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: held, finalizers: [example.org/second]}
END
kubectl get configmap held -o 'jsonpath={.metadata.finalizers}'
echo
given patch configmap held --type merge -p '{"metadata":{"finalizers":null}}'

given delete namespace apply --wait=false
