# Making objects: from files, lists, folders and arguments; names made by the server; dry runs.
source ./_steps.sh
namespace make

step "from standard input"
kubectl create -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
data: {a: "1"}
END
step "again"
kubectl create -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
END
step "as json"
kubectl create -f - <<'END'
{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "two"}}
END
step "a list"
kubectl create -f - <<'END'
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: three}}
- {apiVersion: v1, kind: Secret, metadata: {name: three}}
END
step "a folder"
kubectl create -f manifests/folder
step "a folder with those below"
kubectl create -R -f manifests/folder
step "a name made by the server"
kubectl create -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {generateName: made-}
END
step "neither name nor prefix"
kubectl create -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {labels: {a: b}}
END
step "configmap from literals and files"
printf 'hello\n' > "$TMPDIR/greeting"
quietly create configmap typed --from-literal=a=1 --from-file="greeting=$TMPDIR/greeting"
kubectl get configmap typed -o yaml
step "secrets of each type"
kubectl create secret generic plain --from-literal=password=abc
kubectl create secret docker-registry pull --docker-server=registry.example.org --docker-username=ann --docker-password=abc
kubectl get secrets
step "namespace"
kubectl create namespace make-more
kubectl get namespace make-more
kubectl get namespace make-more -o 'jsonpath={.spec.finalizers} {.status.phase}'
echo
step "serviceaccount"
kubectl create serviceaccount robot
kubectl get serviceaccount robot -o 'jsonpath={.metadata.name}'
echo
step "service"
kubectl create service clusterip web --tcp=80:8080 --clusterip=None
kubectl get service web -o yaml
step "a dry run of the client"
kubectl create configmap dry --from-literal=a=1 --dry-run=client -o yaml
step "a dry run of the server"
kubectl create configmap dry --from-literal=a=1 --dry-run=server
kubectl get configmap dry
step "a dry run of the server says what would be"
kubectl create configmap dry --dry-run=server -o 'jsonpath={.metadata.name} {.metadata.namespace} {.metadata.resourceVersion}|'
echo
step "a dry run of what is there"
kubectl create configmap one --dry-run=server
step "with its configuration kept"
kubectl create configmap kept --from-literal=a=1 --save-config
kubectl get configmap kept -o 'jsonpath={.metadata.annotations}'
echo
step "in a namespace that is not there"
kubectl create configmap lost -n nowhere
step "in another namespace than the file says"
kubectl create -n make-more -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: elsewhere, namespace: make}
END
step "a name that is wrong"
kubectl create configmap Wrong_Name
step "a namespace name that is wrong"
kubectl create namespace a.b
step "a label that is wrong"
kubectl create -f - <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: labelled, labels: {a: "b c"}}
END
step "a kind that is not there"
kubectl create -f - <<'END'
apiVersion: example.org/v1
kind: Unicorn
metadata: {name: lost}
END
step "no kind at all"
kubectl create -f - <<'END'
apiVersion: v1
metadata: {name: lost}
END
step "output as a name"
kubectl create configmap named -o name
step "a pod by run"
kubectl run runner --image=fermion.dev/base:latest --restart=Never --dry-run=server -o 'jsonpath={.spec.restartPolicy} {.spec.containers[0].image}' -- true
echo
step "a pod with its defaults"
kubectl create -f manifests/pod.yaml
kubectl get pod sleeper -o yaml
step "a pod without containers"
kubectl create -f - <<'END'
apiVersion: v1
kind: Pod
metadata: {name: empty}
spec: {containers: []}
END
step "a pod with values that are wrong"
kubectl create -f - <<'END'
apiVersion: v1
kind: Pod
metadata: {name: wrong-1}
spec:
  restartPolicy: Sometimes
  containers:
  - {name: A_B, image: "x", imagePullPolicy: Maybe}
END
step "a pod whose request exceeds its limit"
kubectl create -f - <<'END'
apiVersion: v1
kind: Pod
metadata: {name: wrong-2}
spec:
  containers:
  - {name: a, image: x, resources: {requests: {memory: 2Gi}, limits: {memory: 1Gi}}}
END

given delete namespace make make-more --wait=false
