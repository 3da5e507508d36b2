"""The dynamic client: everything from discovery alone."""

from _steps import client, done, namespace, refused, show, step
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError, ResourceNotFoundError

NS = namespace("dynamic")
dynamic = DynamicClient(client.ApiClient())

step("kinds are found")
maps = dynamic.resources.get(api_version="v1", kind="ConfigMap")
show([maps.name, maps.singular_name, maps.namespaced, sorted(maps.verbs), maps.short_names])
leases = dynamic.resources.get(api_version="coordination.k8s.io/v1", kind="Lease")
show([leases.group_version, leases.name, leases.preferred])
show(dynamic.resources.get(api_version="v1", kind="ConfigMap", short_names=["cm"]).name)
step("subresources are found")
pods = dynamic.resources.get(api_version="v1", kind="Pod")
show(sorted(set(pods.subresources) & {"status", "log", "exec", "binding", "eviction"}))
step("a kind that is not there")
try:
    dynamic.resources.get(api_version="example.org/v1", kind="Unicorn")
except ResourceNotFoundError as error:
    show(type(error).__name__)

step("create, read, list")
made = maps.create(namespace=NS, body={"metadata": {"name": "settings", "labels": {"a": "b"}}, "data": {"color": "blue"}})
show(made.data.color)
show(maps.get(name="settings", namespace=NS).kind)
listed = maps.get(namespace=NS, label_selector="a=b")
show([listed.kind, [item.metadata.name for item in listed.items]])
step("items of a list")
show([[item.kind, item.apiVersion] for item in listed.items])
step("patch in three ways")
show(maps.patch(namespace=NS, name="settings", body={"data": {"size": "3"}}, content_type="application/merge-patch+json").data.to_dict())
show(maps.patch(namespace=NS, name="settings", body={"data": {"size": None}}, content_type="application/strategic-merge-patch+json").data.to_dict())
show(
    maps.patch(
        namespace=NS,
        name="settings",
        body=[{"op": "add", "path": "/data/new", "value": "1"}],
        content_type="application/json-patch+json",
    ).data.to_dict()
)
step("replace of an old version")
try:
    maps.replace(namespace=NS, body={**made.to_dict(), "data": {"color": "old"}})
except ConflictError as error:
    show([error.status, error.summary().splitlines()[0][:40]])
step("status by its subresource")
pods.create(
    namespace=NS,
    body={
        "metadata": {"name": "sleeper"},
        "spec": {"containers": [{"name": "a", "image": "x"}], "nodeSelector": {"example.org/none": "true"}},
    },
)
pods.status.patch(namespace=NS, name="sleeper", body={"status": {"message": "asleep"}}, content_type="application/merge-patch+json")
show(pods.get(name="sleeper", namespace=NS).status.message)
show(pods.status.get(name="sleeper", namespace=NS).status.message)
step("delete")
show(maps.delete(name="settings", namespace=NS).status)
try:
    maps.get(name="settings", namespace=NS)
except NotFoundError as error:
    show(error.status)
step("watch")
maps.create(namespace=NS, body={"metadata": {"name": "watched"}})
for event in maps.watch(namespace=NS, timeout=60):
    show([event["type"], event["object"].metadata.name])
    if event["type"] == "ADDED":
        maps.delete(name="watched", namespace=NS)
    else:
        break

done(NS)
