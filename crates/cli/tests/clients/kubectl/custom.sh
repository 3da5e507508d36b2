# Kinds that users define: from their definition to their objects and away again.
source ./_steps.sh
namespace custom

step "define a kind"
kubectl create -f manifests/gadgets.yaml
kubectl wait crd/gadgets.example.org --for=condition=Established --timeout=60s
step "it is served"
kubectl api-resources --api-group=example.org
step "its definition as a table"
kubectl get crd gadgets.example.org
step "make one"
eventually "$PROGRAM" get gadgets
kubectl create -f - <<'END'
apiVersion: example.org/v1
kind: Gadget
metadata: {name: lamp}
spec: {color: red}
END
step "its columns"
kubectl get gadgets
kubectl get gadget lamp -o wide
step "its defaults"
kubectl get gadget lamp -o yaml
step "by its short name and category"
kubectl get gd
kubectl get toys -o name
step "explain its fields"
eventually "$PROGRAM" explain gadgets.spec
kubectl explain gadgets.spec
kubectl explain gadgets --recursive
step "an unknown field"
kubectl create -f - <<'END'
apiVersion: example.org/v1
kind: Gadget
metadata: {name: odd}
spec: {color: red, colour: blue}
END
step "an unknown field that is not validated is dropped"
kubectl create --validate=false -f - <<'END'
apiVersion: example.org/v1
kind: Gadget
metadata: {name: odd}
spec: {color: red, colour: blue}
END
kubectl get gadget odd -o 'jsonpath={.spec}'
echo
step "a value that is none of those possible"
kubectl create -f - <<'END'
apiVersion: example.org/v1
kind: Gadget
metadata: {name: wrong}
spec: {color: purple}
END
step "values out of bounds, all told at once"
kubectl create -f - <<'END'
apiVersion: example.org/v1
kind: Gadget
metadata: {name: wrong}
spec: {color: red, replicas: 99, name: "A b"}
END
step "a required field is missing"
kubectl create -f - <<'END'
apiVersion: example.org/v1
kind: Gadget
metadata: {name: wrong}
spec: {}
END
step "a wrong type"
kubectl create -f - <<'END'
apiVersion: example.org/v1
kind: Gadget
metadata: {name: wrong}
spec: {color: red, replicas: two}
END
step "a change of what is asked for counts as a generation"
kubectl patch gadget lamp --type merge -p '{"spec":{"replicas":3}}'
kubectl get gadget lamp -o 'jsonpath={.metadata.generation} {.spec.replicas}'
echo
step "its status is apart"
kubectl patch gadget lamp --type merge -p '{"status":{"replicas":9}}'
kubectl get gadget lamp -o 'jsonpath={.status}|'
echo
kubectl patch gadget lamp --subresource=status --type merge -p '{"status":{"replicas":2,"selector":"app=lamp"}}'
kubectl get gadget lamp -o 'jsonpath={.status} {.metadata.generation}'
echo
step "it can be scaled"
kubectl scale gadget lamp --replicas=5
kubectl get gadget lamp -o 'jsonpath={.spec.replicas}'
echo
quietly get --raw /apis/example.org/v1/namespaces/custom/gadgets/lamp/scale | pretty
step "a strategic patch is not for it"
kubectl patch gadget lamp --type strategic -p '{"spec":{"replicas":1}}'
step "apply, by client and by server"
kubectl apply -f - <<'END'
apiVersion: example.org/v1
kind: Gadget
metadata: {name: clock}
spec: {color: blue, replicas: 1}
END
kubectl apply -f - <<'END'
apiVersion: example.org/v1
kind: Gadget
metadata: {name: clock}
spec: {color: blue}
END
kubectl get gadget clock -o 'jsonpath={.spec}'
echo
kubectl apply --server-side --field-manager=other -f - <<'END'
apiVersion: example.org/v1
kind: Gadget
metadata: {name: clock}
spec: {color: green}
END
step "lists with keys merge by server side apply"
for manager in one two; do
  quietly apply --server-side --field-manager=$manager -f - <<END
apiVersion: example.org/v1
kind: Gadget
metadata: {name: rack}
spec: {color: red, parts: [{name: $manager, count: 1}]}
END
done
kubectl get gadget rack -o 'jsonpath={.spec.parts[*].name}'
echo
step "both versions are served"
kubectl get gadgets.v1beta1.example.org lamp -o 'jsonpath={.apiVersion} {.spec.color}'
echo
step "replace needs the version that was read"
kubectl replace -f - <<'END'
apiVersion: example.org/v1
kind: Gadget
metadata: {name: lamp}
spec: {color: green}
END
step "a definition that is wrong"
kubectl create -f - <<'END'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: wrong.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {plural: gizmos, singular: gizmo, kind: Gizmo}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
END
kubectl create -f - <<'END'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gizmos.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {plural: gizmos, singular: gizmo, kind: Gizmo}
  versions: [{name: v1, served: true, storage: false, schema: {openAPIV3Schema: {type: object}}}]
END
kubectl create -f - <<'END'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gizmos.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {plural: gizmos, singular: gizmo, kind: Gizmo}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {properties: {spec: {type: text}}}}}]
END
step "a new column and field arrive with a changed definition"
kubectl patch crd gadgets.example.org --type json -p '[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/weight","value":{"type":"integer","default":7}}]'
eventually sh -c "'$PROGRAM' get gadget lamp -o 'jsonpath={.spec.weight}' | grep -q 7"
kubectl get gadget lamp -o 'jsonpath={.spec.weight}'
echo
step "objects go with their definition"
kubectl delete crd gadgets.example.org --timeout=60s
eventually sh -c "! '$PROGRAM' get gadgets"
kubectl get --raw /apis/example.org/v1/namespaces/custom/gadgets
step "and do not come back with it"
given create -f manifests/gadgets.yaml
given wait crd/gadgets.example.org --for=condition=Established --timeout=60s
eventually "$PROGRAM" get gadgets
kubectl get gadgets

given delete crd gadgets.example.org
given delete namespace custom --wait=false
