# Endpoints: where the pods behind a service are, for clients that connect to them.
source ./_steps.sh
namespace endpoints
ADDRESSES='jsonpath={range .subsets[*]}{.addresses[*].targetRef.name}{"="}{.addresses[*].ip}{" waiting "}{.notReadyAddresses[*].ip}{" ports "}{range .ports[*]}{.name}{":"}{.port}{"/"}{.protocol}{" "}{end}{"\n"}{end}'
# A pod on a node that is not there, with the status of one that runs.
pod() {
  given create -f - <<END
apiVersion: v1
kind: Pod
metadata: {name: $1, labels: {app: web}}
spec:
  containers: [{name: main, image: "fermion.dev/base:latest", ports: [{name: http, containerPort: 8080}]}]
  nodeName: nowhere
END
  runs "$@"
}
runs() {
  given patch pod "$1" --subresource=status --type merge -p \
    "{\"status\":{\"phase\":\"Running\",\"podIP\":\"$2\",\"podIPs\":[{\"ip\":\"$2\"}],\"conditions\":[{\"type\":\"Ready\",\"status\":\"$3\"}]}}"
}
says() { [[ $(quietly get endpoints web -o "$ADDRESSES") == *"$1"* ]]; }

step "a service without pods"
kubectl create service clusterip web --tcp=80:http --clusterip=None
eventually quietly get endpoints web
kubectl get endpoints web
step "pods that are ready, and others"
pod one 10.1.0.1 True
pod two 10.1.0.2 True
pod three 10.1.0.3 False
eventually says '10.1.0.1 10.1.0.2 waiting 10.1.0.3'
kubectl get endpoints web -o "$ADDRESSES"
kubectl get ep
step "more than a line holds"
runs three 10.1.0.3 True
pod four 10.1.0.4 True
eventually says '10.1.0.3 10.1.0.4 waiting'
kubectl get endpoints web
step "a pod that is not ready any more"
runs one 10.1.0.1 False
eventually says 'waiting 10.1.0.1'
kubectl get endpoints web -o "$ADDRESSES"
step "a pod that is gone, and one that has other labels"
given delete pod two --grace-period=0 --force
given label pod three app=other --overwrite
eventually says 'four=10.1.0.4 waiting 10.1.0.1'
kubectl get endpoints web -o "$ADDRESSES"
step "another port"
given patch service web -p '{"spec":{"ports":[{"port":80,"name":"80-http","targetPort":9090}]}}'
eventually says ':9090/TCP'
kubectl get endpoints web -o "$ADDRESSES"
step "gone with the service"
given delete service web
eventually gone endpoints web
kubectl get endpoints web

step "of a service without a selector"
given create -f - <<'END'
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {clusterIP: None, ports: [{port: 443}]}
END
kubectl apply -f - <<'END'
apiVersion: v1
kind: Endpoints
metadata: {name: outside}
subsets: [{addresses: [{ip: 192.0.2.7}], ports: [{port: 8443}]}]
END
kubectl get endpoints outside
kubectl get endpoints outside -o 'jsonpath={.subsets}'
step "addresses and ports that are wrong"
kubectl create -f - <<'END'
apiVersion: v1
kind: Endpoints
metadata: {name: wrong}
subsets:
- addresses: [{ip: 127.0.0.1}, {ip: here}, {ip: 169.254.0.1}]
  ports: [{name: a, port: 70000}, {port: 1, protocol: ICMP}]
- ports: [{port: 1}]
END

given delete namespace endpoints --wait=false
