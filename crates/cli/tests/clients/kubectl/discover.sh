# What is served: kinds, versions, documentation of fields, the server's own pages.
source ./_steps.sh

step "kinds that both serve"
quietly api-resources --no-headers -o wide 2>&1 | grep -E '^(bindings|configmaps|events|namespaces|nodes|persistentvolumeclaims|pods|secrets|serviceaccounts|services|leases|customresourcedefinitions|clusterroles|clusterrolebindings|roles|rolebindings|tokenreviews|selfsubjectaccessreviews|selfsubjectrulesreviews|subjectaccessreviews) ' | sort
step "kinds of one group"
kubectl api-resources --api-group=coordination.k8s.io
step "namespaced kinds of the group of roles"
kubectl api-resources --api-group=rbac.authorization.k8s.io --namespaced=true -o name
step "kinds by verb"
quietly api-resources --api-group=authorization.k8s.io --verbs=create -o name | sort
step "versions that both serve"
quietly api-versions | grep -E '^(v1|authentication.k8s.io/v1|authorization.k8s.io/v1|coordination.k8s.io/v1|apiextensions.k8s.io/v1|rbac.authorization.k8s.io/v1)$'
step "version"
quietly version -o json | sed -n '/"serverVersion"/,$p' | grep -E '"(major|minor|gitVersion|platform)"'
step "cluster-info"
quietly cluster-info | head -1 | sed 's/\x1b\[[0-9;]*m//g'
step "explain a kind"
kubectl explain configmaps
step "explain a field"
kubectl explain pods.spec.restartPolicy
step "explain a field that is an object"
kubectl explain pods.spec.containers.resources
step "explain everything below"
kubectl explain leases --recursive
step "explain roles"
kubectl explain roles.rules --recursive
step "explain a field that is not there"
kubectl explain pods.spec.nothing
step "explain a kind that is not there"
kubectl explain unicorns
step "explain with a version"
kubectl explain leases.spec.holderIdentity --api-version=coordination.k8s.io/v1
step "health"
kubectl get --raw /livez
echo
kubectl get --raw /readyz
echo
kubectl get --raw /healthz
echo
step "the list of versions"
quietly get --raw /api | python3 -c 'import json, sys; a = json.load(sys.stdin); print(a["kind"], a.get("versions"))'
step "a group"
quietly get --raw /apis/coordination.k8s.io/v1 | pretty
step "a group that is not there"
kubectl get --raw /apis/example.org/v1
step "a path that is not there"
kubectl get --raw /nothing
step "metrics are served"
quietly get --raw /metrics | grep -c '^# TYPE' | sed 's/[1-9][0-9]*/some/'
