"""The typed API of core kinds: every verb, options, pages, refusals."""

from _steps import client, done, namespace, refused, show, step
from kubernetes.client.exceptions import ApiException

NS = namespace("typed")
core = client.CoreV1Api()


def config_map(name, data=None, labels=None, **metadata):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels=labels, **metadata), data=data)


step("create")
made = core.create_namespaced_config_map(NS, config_map("settings", {"color": "blue"}, {"app": "shop"}))
show(made.data)
assert made.metadata.uid and made.metadata.resource_version and made.metadata.creation_timestamp
step("create again")
with refused():
    core.create_namespaced_config_map(NS, config_map("settings"))
step("create with a name made by the server")
generated = core.create_namespaced_config_map(NS, config_map(None, generate_name="made-"))
show(generated.metadata.name)
core.delete_namespaced_config_map(generated.metadata.name, NS)
step("a dry run is not kept")
core.create_namespaced_config_map(NS, config_map("dry"), dry_run="All")
with refused():
    core.read_namespaced_config_map("dry", NS)

step("read")
read = core.read_namespaced_config_map("settings", NS)
assert read.metadata.uid == made.metadata.uid
show(read.api_version), show(read.kind)
step("replace")
read.data["size"] = "3"
replaced = core.replace_namespaced_config_map("settings", NS, read)
show(replaced.data)
assert replaced.metadata.resource_version != read.metadata.resource_version
step("replace of an old version")
with refused():
    core.replace_namespaced_config_map("settings", NS, made)
step("a replace that changes nothing keeps the version")
same = core.replace_namespaced_config_map("settings", NS, replaced)
show(same.metadata.resource_version == replaced.metadata.resource_version)
step("patch, strategic")
patched = core.patch_namespaced_config_map("settings", NS, {"data": {"size": None, "new": "1"}})
show(patched.data)
step("patch, json")
patched = core.patch_namespaced_config_map("settings", NS, [{"op": "replace", "path": "/data/new", "value": "2"}])
show(patched.data)

step("list in pages")
for index in range(5):
    core.create_namespaced_config_map(NS, config_map(f"page-{index}", {"index": str(index)}, {"page": "yes"}))
names, token, versions = [], None, set()
while True:
    page = core.list_namespaced_config_map(NS, limit=2, label_selector="page", _continue=token)
    names.append([item.metadata.name for item in page.items])
    versions.add(page.metadata.resource_version)
    token = page.metadata._continue
    if not token:
        break
show(names)
print("one snapshot:", len(versions) == 1)
step("a page is a snapshot though objects come and go")
page = core.list_namespaced_config_map(NS, limit=3)
core.create_namespaced_config_map(NS, config_map("page-9"))
core.delete_namespaced_config_map("page-4", NS)
rest = core.list_namespaced_config_map(NS, limit=50, _continue=page.metadata._continue)
show([item.metadata.name for item in page.items + rest.items])
step("a token that is none")
with refused():
    core.list_namespaced_config_map(NS, limit=2, _continue="nonsense")
step("list by selectors")
show([item.metadata.name for item in core.list_namespaced_config_map(NS, label_selector="app=shop").items])
show([item.metadata.name for item in core.list_namespaced_config_map(NS, field_selector="metadata.name=page-1").items])
show([item.metadata.name for item in core.list_config_map_for_all_namespaces(label_selector="app in (shop)").items])
step("list of what was at a version")
before = core.list_namespaced_config_map(NS).metadata.resource_version
core.delete_namespaced_config_map("page-0", NS)
then = core.list_namespaced_config_map(NS, resource_version=before, resource_version_match="Exact", limit=100)
show(["page-0" in [item.metadata.name for item in then.items], then.metadata.resource_version == before])
step("list not older than a version")
then = core.list_namespaced_config_map(NS, resource_version=before, resource_version_match="NotOlderThan")
show("page-0" in [item.metadata.name for item in then.items])
step("a version that is yet to come")
try:
    core.list_namespaced_config_map(NS, resource_version="999999999", resource_version_match="NotOlderThan", _request_timeout=20)
except ApiException as error:
    show(error.status)
step("a version that is none")
with refused():
    core.list_namespaced_config_map(NS, resource_version="newest")
step("a match without a version")
with refused():
    core.list_namespaced_config_map(NS, resource_version_match="Exact")
step("a limit that is none")
try:
    show(len(core.list_namespaced_config_map(NS, limit=-1).items) >= 5)
except ApiException as error:
    show(error.status)

step("delete with a precondition that does not hold")
with refused():
    core.delete_namespaced_config_map(
        "settings", NS, body=client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="no"))
    )
with refused():
    core.delete_namespaced_config_map(
        "settings", NS, body=client.V1DeleteOptions(preconditions=client.V1Preconditions(resource_version="1"))
    )
step("delete")
answer = core.delete_namespaced_config_map("settings", NS)
show([answer.status, answer.details.name, answer.details.kind, answer.details.uid == made.metadata.uid])
step("delete again")
with refused():
    core.delete_namespaced_config_map("settings", NS)
step("delete a collection by selector")
answer = core.delete_collection_namespaced_config_map(NS, label_selector="page")
show([item.metadata.name for item in core.list_namespaced_config_map(NS).items])

step("secrets")
core.create_namespaced_secret(NS, client.V1Secret(metadata={"name": "hidden"}, string_data={"password": "abc"}))
secret = core.read_namespaced_secret("hidden", NS)
show([secret.data, secret.type, secret.string_data])
step("services")
service = core.create_namespaced_service(
    NS,
    client.V1Service(
        metadata={"name": "web"},
        spec=client.V1ServiceSpec(cluster_ip="None", selector={"app": "web"}, ports=[client.V1ServicePort(port=80)]),
    ),
)
show(service.spec)
step("service accounts")
show(core.create_namespaced_service_account(NS, {"metadata": {"name": "robot"}}).metadata.name)
step("pods")
pod = core.create_namespaced_pod(
    NS,
    client.V1Pod(
        metadata={"name": "sleeper"},
        spec=client.V1PodSpec(
            containers=[client.V1Container(name="main", image="fermion.dev/base:latest")],
            node_selector={"example.org/none": "true"},
        ),
    ),
)
show(pod.spec)
show(pod.status)
step("status of a pod")
changed = core.patch_namespaced_pod_status("sleeper", NS, {"spec": {"priority": 7}, "status": {"message": "asleep"}})
show([changed.status.message, changed.spec.priority])
step("binding")
core.create_namespaced_pod_binding(
    "sleeper", NS, {"metadata": {"name": "sleeper"}, "target": {"apiVersion": "v1", "kind": "Node", "name": "nowhere"}}, _preload_content=False
)
bound = core.read_namespaced_pod("sleeper", NS)
show([bound.spec.node_name, [(c.type, c.status) for c in bound.status.conditions or []]])
with refused():
    core.create_namespaced_pod_binding(
        "sleeper", NS, {"metadata": {"name": "sleeper"}, "target": {"apiVersion": "v1", "kind": "Node", "name": "other"}}, _preload_content=False
    )
step("a pod that has a node is given its time")
deleted = core.delete_namespaced_pod("sleeper", NS, grace_period_seconds=20)
show([deleted.metadata.deletion_grace_period_seconds, deleted.metadata.deletion_timestamp is not None])
core.delete_namespaced_pod("sleeper", NS, grace_period_seconds=0)
with refused():
    core.read_namespaced_pod("sleeper", NS)
step("nodes")
node = core.create_node({"metadata": {"name": "typed-node", "labels": {"a": "b"}}, "spec": {"unschedulable": True}})
show([node.spec.unschedulable, node.metadata.name])
show([item.metadata.name for item in core.list_node(field_selector="spec.unschedulable=true").items])
core.patch_node_status("typed-node", {"status": {"capacity": {"cpu": "4", "memory": "8Gi"}}})
show(core.read_node("typed-node").status.capacity)
core.delete_node("typed-node")
step("events")
core.create_namespaced_event(
    NS,
    {
        "metadata": {"name": "something"},
        "involvedObject": {"kind": "Pod", "name": "sleeper", "namespace": NS},
        "reason": "Slept",
        "type": "Normal",
        "message": "well",
        "source": {"component": "script"},
    },
)
show([event.message for event in core.list_namespaced_event(NS, field_selector="reason=Slept").items])
step("roles")
rbac = client.RbacAuthorizationV1Api()
rbac.create_namespaced_role(
    NS, {"metadata": {"name": "reader"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}
)
show(rbac.read_namespaced_role("reader", NS).rules[0].to_dict())
step("reviews")
review = client.AuthorizationV1Api().create_self_subject_access_review(
    {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": NS}}}
)
show(review.status.allowed)
review = client.AuthorizationV1Api().create_subject_access_review(
    {"spec": {"user": "nobody", "resourceAttributes": {"verb": "get", "resource": "secrets", "namespace": NS}}}
)
show(bool(review.status.allowed))
step("the version")
show([client.VersionApi().get_code().major, client.VersionApi().get_code().minor.isdigit()])

done(NS)
