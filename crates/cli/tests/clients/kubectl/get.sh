# Reading objects: every form of output, every selector, pages and order.
source ./_steps.sh
namespace read
given create -f manifests/shelf.yaml
given create -f manifests/pod.yaml

step "a table"
kubectl get configmaps
step "a table of one"
kubectl get configmap/apple
step "several kinds at once"
kubectl get configmaps,secrets
step "several names at once"
kubectl get configmap apple pear
step "a name of each of two kinds"
kubectl get configmap/apple secret/seed
step "short names and plurals"
kubectl get cm apple
kubectl get configmap apple
kubectl get configmaps.v1. apple
step "without headers"
kubectl get configmaps --no-headers
step "wide"
kubectl get configmaps -o wide
step "wide pods"
kubectl get pods -o wide
step "pods as a table"
kubectl get pods
step "services as a table"
kubectl get services -o wide
step "with labels"
kubectl get configmaps --show-labels
step "with label columns"
kubectl get configmaps -L kind,size
step "with the kind in front"
kubectl get configmaps --show-kind
step "as yaml"
kubectl get configmap apple -o yaml
step "as json"
kubectl get configmap apple -o json
step "a list as yaml"
kubectl get configmaps -l kind=fruit -o yaml
step "as names"
kubectl get configmaps -o name
step "by jsonpath"
kubectl get configmaps -o 'jsonpath={range .items[*]}{.metadata.name}={.data.color}{"\n"}{end}'
step "by jsonpath with a filter"
kubectl get configmaps -o 'jsonpath={.items[?(@.data.color=="green")].metadata.name}'
echo
step "jsonpath as json"
kubectl get configmap apple -o 'jsonpath-as-json={.data}'
step "by a jsonpath file"
printf '{.data.color}\n' > "$TMPDIR/color.jsonpath"
quietly get configmap apple -o "jsonpath-file=$TMPDIR/color.jsonpath"
step "in custom columns"
kubectl get configmaps -o 'custom-columns=NAME:.metadata.name,COLOR:.data.color,NONE:.data.nothing'
step "in custom columns from a file"
printf 'NAME COLOR\n.metadata.name .data.color\n' > "$TMPDIR/columns"
quietly get configmap apple -o "custom-columns-file=$TMPDIR/columns"
step "by a go template"
kubectl get configmaps -o 'go-template={{range .items}}{{.metadata.name}} {{.data.color}}{{"\n"}}{{end}}'
step "in all namespaces"
kubectl get configmaps -A -l shelf=read
step "label equal"
kubectl get configmaps -l kind=fruit -o name
step "label equal, written twice"
kubectl get configmaps -l kind==fruit -o name
step "label not equal"
kubectl get configmaps -l kind!=fruit -o name
step "label in a set"
kubectl get configmaps -l 'size in (small, large)' -o name
step "label not in a set"
kubectl get configmaps -l 'size notin (small)' -o name
step "label exists"
kubectl get configmaps -l size -o name
step "label does not exist"
kubectl get configmaps -l '!size' -o name
step "labels together"
kubectl get configmaps -l 'kind=fruit,size in (small),!sour' -o name
step "a label selector that is wrong"
kubectl get configmaps -l 'kind in fruit'
step "a label value that is wrong"
kubectl get configmaps -l 'kind=a b'
step "field selector by name"
kubectl get configmaps --field-selector metadata.name=pear -o name
step "field selector by another name"
kubectl get configmaps --field-selector metadata.name!=pear -o name
step "field selector by namespace"
kubectl get configmaps -A -l shelf=read --field-selector metadata.namespace=read -o name
step "field selector by phase"
kubectl get pods --field-selector status.phase=Pending -o name
kubectl get pods --field-selector status.phase!=Pending -o name
step "field selector by node"
kubectl get pods --field-selector spec.nodeName= -o name
step "field selector by type of a secret"
kubectl get secrets --field-selector type=example.org/seed -o name
step "a field nobody can select by"
kubectl get configmaps --field-selector data.color=red
step "sorted by name"
kubectl get configmaps --sort-by=.metadata.name
step "sorted by a field"
kubectl get configmaps --sort-by=.data.color -o name
step "in chunks"
kubectl get configmaps --chunk-size=2 -o name
step "pages by hand"
quietly get --raw '/api/v1/namespaces/read/configmaps?limit=2' > "$TMPDIR/page"
python3 - "$TMPDIR/page" <<'END'
import json, sys
page = json.load(open(sys.argv[1]))
print(page["kind"], [item["metadata"]["name"] for item in page["items"]])
print("continue" in page["metadata"], page["metadata"].get("remainingItemCount"))
END
step "what is not there"
kubectl get configmap nothing
step "what is not there, ignored"
kubectl get configmap nothing --ignore-not-found
step "one there and one not"
kubectl get configmap apple nothing
step "a kind that is not there"
kubectl get unicorns
step "nothing of a kind"
kubectl get leases
step "nothing of a kind anywhere"
kubectl get leases -A -l shelf=nowhere
step "nothing of a kind as yaml"
kubectl get leases -o yaml
step "a namespace that is not there"
kubectl get configmaps -n nowhere
step "with managed fields"
kubectl get configmap apple --show-managed-fields -o yaml
step "only the main managed field's manager"
kubectl get configmap apple --show-managed-fields -o 'jsonpath={.metadata.managedFields[*].manager} {.metadata.managedFields[*].operation}'
echo
step "by the file it was made from"
kubectl get -f manifests/pod.yaml -o name
step "a raw path"
quietly get --raw /api/v1/namespaces/read/configmaps/pear | pretty
step "a raw path that is not there"
kubectl get --raw /api/v1/namespaces/read/configmaps/nothing
step "all of the category"
kubectl get all -o name
step "a subresource"
kubectl get pod sleeper --subresource=status -o 'jsonpath={.status.phase} {.metadata.name}'
echo
step "secrets are shown encoded"
kubectl get secret seed -o yaml
step "output that nobody knows"
kubectl get configmaps -o nonsense

given delete namespace read --wait=false
