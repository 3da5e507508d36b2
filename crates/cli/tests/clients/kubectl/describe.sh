# Looking closer: describe, events, top, rollout, and what has no meaning here.
source ./_steps.sh
namespace closer
given create configmap settings --from-literal=color=blue
given create secret generic hidden --from-literal=password=abc
given create -f manifests/pod.yaml
given create serviceaccount robot

step "describe a configmap"
kubectl describe configmap settings
step "describe a secret"
kubectl describe secret hidden
step "describe a pod"
quietly describe pod sleeper 2>&1 | grep -vE '^(Priority|Service Account|Node|Tolerations|  +node\.kubernetes)'
step "describe a service account"
kubectl describe serviceaccount robot
step "describe a namespace"
kubectl describe namespace closer
step "describe what is not there"
kubectl describe configmap nothing
step "describe by prefix"
kubectl describe configmap sett

uid=$(quietly get configmap settings -o 'jsonpath={.metadata.uid}')
event() {
  quietly create -f - >/dev/null <<END
apiVersion: v1
kind: Event
metadata: {name: settings.$1}
involvedObject: {apiVersion: v1, kind: ConfigMap, name: settings, namespace: closer, uid: $uid}
type: $2
reason: $3
message: $4
source: {component: script}
firstTimestamp: "$(date -u +%FT%TZ)"
lastTimestamp: "$(date -u +%FT%TZ)"
count: $5
END
}
event a Normal Painted "the color changed" 1
event b Warning Faded "the color fades" 3
step "events as a table"
kubectl get events --sort-by=.metadata.name
step "wide events"
kubectl get events -o wide --sort-by=.metadata.name
step "events of one type"
kubectl get events --field-selector type=Warning
step "events of one object"
kubectl get events --field-selector involvedObject.name=settings,involvedObject.kind=ConfigMap -o name
step "events by their own command"
quietly events --no-headers | sort -k 3
quietly events --types=Warning --no-headers
step "events in a description"
quietly describe configmap settings | sed -n '/^Events/,$p' | sort
step "an event of another namespace"
kubectl create -f - <<'END'
apiVersion: v1
kind: Event
metadata: {name: astray}
involvedObject: {apiVersion: v1, kind: ConfigMap, name: settings, namespace: default}
END

step "logs of a pod that has not started"
kubectl logs sleeper
step "logs of a container that is not there"
kubectl logs sleeper -c nothing
step "exec in a pod that has not started"
kubectl exec sleeper -- true
step "scale what has no replicas"
kubectl scale configmap settings --replicas=2
step "rollout of what has none"
kubectl rollout status configmap/settings
kubectl rollout restart pod/sleeper
step "expose a pod"
kubectl expose pod sleeper --port=80 --target-port=8080 --cluster-ip=None
kubectl get service sleeper -o 'jsonpath={.spec.ports} {.spec.selector}'
echo

given delete namespace closer --wait=false
