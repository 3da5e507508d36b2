# What is refused, what is only warned of, and what both say of it.
source ./_steps.sh
namespace valid

unknown() { printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndtaa: {a: "1"}\n' "$1"; }
step "an unknown field, strictly"
unknown strict | kubectl create -f - --validate=strict
step "an unknown field, by default"
unknown default | kubectl create -f -
step "an unknown field with a warning"
unknown warn | kubectl create -f - --validate=warn
kubectl get configmap warn -o 'jsonpath={.metadata.name} {.dtaa}|'
echo
step "an unknown field that is ignored"
unknown ignore | kubectl create -f - --validate=ignore
kubectl get configmap ignore -o 'jsonpath={.metadata.name} {.dtaa}|'
echo
step "an unknown field deep inside"
kubectl create -f - <<'END'
apiVersion: v1
kind: Pod
metadata: {name: deep}
spec:
  containers:
  - {name: a, image: x, comand: [true], resources: {limit: {}}}
END
step "a field given twice"
kubectl create -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: twice}
data: {a: "1"}
data: {b: "2"}
END
step "a text where a number belongs"
kubectl create -f - <<'END'
apiVersion: v1
kind: Service
metadata: {name: wrong-1}
spec: {ports: [{port: eighty}]}
END
step "a number where a text belongs"
kubectl create -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: wrong-2}
data: {a: 1}
END
step "a map where a list belongs"
kubectl create -f - <<'END'
apiVersion: v1
kind: Pod
metadata: {name: wrong-3}
spec: {containers: {name: a}}
END
step "a port that is out of range"
kubectl create -f - <<'END'
apiVersion: v1
kind: Service
metadata: {name: wrong-4}
spec: {clusterIP: None, ports: [{port: 70000}]}
END
step "a service without ports"
kubectl create -f - <<'END'
apiVersion: v1
kind: Service
metadata: {name: wrong-5}
spec: {selector: {a: b}}
END
step "a key that is wrong"
kubectl create -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: wrong-6}
data: {"a b": "1"}
END
step "data in both places"
kubectl create -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: wrong-7}
data: {a: "1"}
binaryData: {a: AAEC}
END
step "a secret that is not base64"
kubectl create -f - <<'END'
apiVersion: v1
kind: Secret
metadata: {name: wrong-8}
data: {a: "%%%"}
END
step "a secret that lacks what its type asks for"
kubectl create -f - <<'END'
apiVersion: v1
kind: Secret
metadata: {name: wrong-9}
type: kubernetes.io/tls
data: {}
END
step "a claim without size"
kubectl create -f - <<'END'
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: wrong-10}
spec: {accessModes: [ReadWriteOnce]}
END
step "an owner without uid"
kubectl create -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata:
  name: wrong-11
  ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: a, uid: ""}]
END
step "a finalizer that is wrong"
kubectl create -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: wrong-12, finalizers: [nonsense]}
END
step "an annotation that is wrong"
kubectl create -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: wrong-13, annotations: {"a b": c}}
END
step "a name that is too long"
kubectl create configmap "$(printf 'a%.0s' {1..254})" 2>&1 | sed 's/a\{200,\}/<long>/g'
step "a lease that is wrong"
kubectl create -f - <<'END'
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: wrong-14}
spec: {leaseDurationSeconds: -1}
END
step "a quantity that is wrong"
kubectl create -f - <<'END'
apiVersion: v1
kind: Pod
metadata: {name: wrong-15}
spec:
  containers:
  - {name: a, image: x, resources: {requests: {cpu: lots}}}
END
step "two containers of one name"
kubectl create -f - <<'END'
apiVersion: v1
kind: Pod
metadata: {name: wrong-16}
spec:
  containers:
  - {name: a, image: x}
  - {name: a, image: x}
END
step "a mount without its volume"
kubectl create -f - <<'END'
apiVersion: v1
kind: Pod
metadata: {name: wrong-17}
spec:
  containers:
  - {name: a, image: x, volumeMounts: [{name: none, mountPath: /a}]}
END

given delete namespace valid --wait=false
