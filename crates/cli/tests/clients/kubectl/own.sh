# The platform's own kinds, which no Kubernetes has.
source ./_steps.sh
namespace own

job() {
  cat <<END
apiVersion: ai.fermion.dev/v1alpha1
kind: TrainingJob
metadata: {name: $1}
spec:
  suspend: true
  roles:
  - name: worker
    replicas: 2
    template: {spec: {containers: [{name: main, image: fermion.dev/python:latest, command: [python3, -c, print(1)]}]}}
END
}

step "kinds"
quietly api-resources --no-headers | grep fermion.dev | sort
step "explain"
kubectl explain trainingjob.spec.runPolicy.retries
step "explain everything"
kubectl explain queues --recursive
step "make one"
job net | kubectl apply -f -
kubectl wait tj/net -n own '--for=jsonpath={.status.phase}=Suspended' --timeout=60s
step "its table"
kubectl get trainingjobs
kubectl get tj net -o wide
step "a list of kinds"
{
  printf 'apiVersion: v1\nkind: List\nitems:\n'
  for item in "$(job listed)" "$(cat manifests/gadgets.yaml)" "$(cat manifests/pod.yaml)"; do
    sed 's/^/  /; 1s/^ /-/' <<<"$item"
  done
} | kubectl apply --dry-run=server -f -
step "an unknown field in a list of kinds"
{ printf 'apiVersion: v1\nkind: List\nitems:\n'; job typo | sed 's/replicas/replicsa/; s/^/  /; 1s/^ /-/'; } | kubectl apply -f -
step "by its category"
quietly get fermion -o name 2>&1 | grep trainingjob
step "an unknown field"
job typo | sed 's/replicas/replicsa/' | kubectl apply -f -
step "a wrong type"
job wrong | sed 's/replicas: 2/replicas: two/' | kubectl apply -f -
step "out of bounds"
job wrong | sed 's/replicas: 2/replicas: 0/' | kubectl apply -f -
step "defaults are filled in"
kubectl apply -f - <<'END'
apiVersion: compute.fermion.dev/v1alpha1
kind: Queue
metadata: {name: night}
spec: {}
END
kubectl get queue night -o 'jsonpath={.spec}'
echo
step "scale"
kubectl apply -f - <<'END'
apiVersion: ai.fermion.dev/v1alpha1
kind: InferenceService
metadata: {name: web}
spec:
  suspend: true
  template: {spec: {containers: [{name: main, image: 'x:1'}]}}
END
kubectl scale isvc web --replicas=3
kubectl get isvc web -o 'jsonpath={.spec.replicas}'
echo
kubectl scale isvc web --replicas=99999
kubectl scale tj net --replicas=1
step "resume and suspend by patch"
kubectl patch tj net --type merge -p '{"spec":{"priority":5}}'
kubectl get tj net -o 'jsonpath={.spec.priority} {.metadata.generation}'
echo
step "apply from two managers"
job net | kubectl apply --server-side --field-manager=second -f -
step "describe"
quietly describe tj net | grep -E '^  (Suspend|Priority):|^Kind|^API'
step "delete"
kubectl delete tj net isvc web 2>&1
kubectl delete tj/net isvc/web queue/night --ignore-not-found
