# Who may do what: reviews, roles, what another user may do, refusals.
source ./_steps.sh
namespace access

step "who am I"
quietly auth whoami -o 'jsonpath={.status.userInfo.username}' 2>&1
echo
step "may I"
kubectl auth can-i delete nodes
kubectl auth can-i '*' '*'
kubectl auth can-i get /healthz
kubectl auth can-i get pods --subresource=log
step "may I, of a kind that is not there"
kubectl auth can-i get unicorns
step "what may I"
kubectl auth can-i --list --no-headers
step "may another"
kubectl auth can-i list configmaps --as=ann
step "role and binding"
kubectl create role reader --verb=get,list --resource=configmaps
kubectl create rolebinding reader --role=reader --user=ann
kubectl get role reader -o yaml
kubectl get rolebinding reader -o yaml
step "cluster role and binding"
kubectl create clusterrole made-up --verb=get --resource=nodes
kubectl create clusterrolebinding made-up --clusterrole=made-up --group=made-up
kubectl get clusterrole made-up -o 'jsonpath={.rules}'
echo
kubectl get clusterrolebinding made-up -o 'jsonpath={.roleRef} {.subjects}'
echo
step "a role lets another"
kubectl auth can-i list configmaps --as=ann
kubectl auth can-i delete configmaps --as=ann
kubectl auth can-i list configmaps --as=ann -n default
step "what may another"
quietly auth can-i --list --no-headers --as=ann | grep configmaps
step "a role lets a group"
given create rolebinding readers --role=reader --group=readers
kubectl auth can-i get configmaps --as=bob --as-group=readers
kubectl auth can-i get configmaps --as=bob
step "a role lets a service account"
given create serviceaccount robot
given create rolebinding robot --role=reader --serviceaccount=access:robot
kubectl auth can-i get configmaps --as=system:serviceaccount:access:robot
step "a cluster role in a namespace"
given create rolebinding viewer --clusterrole=view --user=eve
kubectl auth can-i get configmaps --as=eve
kubectl auth can-i get secrets --as=eve
kubectl auth can-i get configmaps --as=eve -n default
step "a name in a role"
given create role one-secret --verb=get --resource=secrets --resource-name=mine
given create rolebinding one-secret --role=one-secret --user=ann
kubectl auth can-i get secret/mine --as=ann
kubectl auth can-i get secret/yours --as=ann
step "as another, what is allowed"
kubectl get configmaps --as=ann
step "as another, what is not"
kubectl get secrets --as=ann
kubectl create configmap mine --as=ann
kubectl delete configmaps --all --as=ann
kubectl get namespaces --as=ann
step "nobody grants what they do not have"
quietly create -f - >/dev/null <<'END'
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: granter}
rules: [{apiGroups: [rbac.authorization.k8s.io], resources: [roles, rolebindings], verbs: [create, update, patch]}]
END
given create rolebinding granter --role=granter --user=ann
kubectl create role escalated --verb=delete --resource=secrets --as=ann
kubectl create role fine --verb=get --resource=configmaps --as=ann
step "nobody binds what they do not have"
given create role granter-of-roles --verb=create --resource=rolebindings
given create rolebinding granter-of-roles --role=granter-of-roles --user=bob
quietly create rolebinding escalated --clusterrole=admin --user=bob --as=bob 2>&1 | head -1
step "a rolebinding's role stays"
kubectl patch rolebinding reader --type merge -p '{"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"granter"}}'
step "reconcile"
kubectl auth reconcile -f - <<'END'
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: access}
rules: [{apiGroups: [""], resources: [secrets], verbs: [get]}]
END
kubectl get role reader -o 'jsonpath={.rules}'
echo
step "aggregated roles"
kubectl create -f - <<'END'
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: access-sum}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {example.org/sum: "yes"}}]}
rules: []
END
kubectl create -f - <<'END'
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: access-part, labels: {example.org/sum: "yes"}}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
END
eventually sh -c "'$PROGRAM' get clusterrole access-sum -o 'jsonpath={.rules}' | grep -q configmaps"
kubectl get clusterrole access-sum -o 'jsonpath={.rules}'
echo
step "the roles for people"
for role in cluster-admin admin edit view; do quietly get clusterrole "$role" -o name; done
step "a role whose rule is empty"
kubectl create -f - <<'END'
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: empty}
rules: [{apiGroups: [""], resources: [pods], verbs: []}]
END
step "a token of nobody"
quietly get configmaps --token=wrong --kubeconfig=/dev/null --server="$(quietly config view --raw -o 'jsonpath={.clusters[0].cluster.server}')" --insecure-skip-tls-verify 2>&1

given delete clusterrole access-sum access-part made-up
given delete clusterrolebinding made-up
given delete namespace access --wait=false
