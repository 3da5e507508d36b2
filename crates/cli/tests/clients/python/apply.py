"""Server-side apply as other programs than kubectl use it."""

from _steps import client, done, namespace, refused, show, step
from kubernetes.dynamic import DynamicClient

NS = namespace("applying")
dynamic = DynamicClient(client.ApiClient())
maps = dynamic.resources.get(api_version="v1", kind="ConfigMap")
pods = dynamic.resources.get(api_version="v1", kind="Pod")


def config_map(name, data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NS}, "data": data}


def managers(object):
    found = [
        [field["manager"], field["operation"], field.get("subresource"), field.get("fieldsV1")]
        for field in object.to_dict()["metadata"].get("managedFields") or []
        # Why a pod waits is written beside the script, when it comes.
        if field["manager"] != "fermion-controllers"
    ]
    return sorted(found, key=str)


step("apply makes what is not there")
made = maps.server_side_apply(body=config_map("shared", {"a": "1"}), field_manager="one")
show(managers(made))
step("the same again writes nothing")
again = maps.server_side_apply(body=config_map("shared", {"a": "1"}), field_manager="one")
show(again.metadata.resourceVersion == made.metadata.resourceVersion)
step("two managers, two fields")
both = maps.server_side_apply(body=config_map("shared", {"b": "1"}), field_manager="two")
show(both.data.to_dict())
show(managers(both))
step("a conflict names the manager and the field")
with refused():
    maps.server_side_apply(body=config_map("shared", {"a": "2"}), field_manager="two")
step("force takes over")
forced = maps.server_side_apply(body=config_map("shared", {"a": "2"}), field_manager="two", force_conflicts=True)
show(forced.data.to_dict())
show(managers(forced))
step("what a manager drops goes")
show((maps.server_side_apply(body=config_map("shared", {"a": "2", "c": "1"}), field_manager="two")).data.to_dict())
show((maps.server_side_apply(body=config_map("shared", {"a": "2"}), field_manager="two")).data.to_dict())
step("without a manager")
with refused():
    dynamic.request(
        "patch",
        f"/api/v1/namespaces/{NS}/configmaps/shared",
        body=config_map("shared", {"a": "2"}),
        content_type="application/apply-patch+yaml",
    )
step("with managed fields in the body")
with refused():
    maps.server_side_apply(
        body={**config_map("shared", {}), "metadata": {"name": "shared", "namespace": NS, "managedFields": [{"manager": "x", "operation": "Apply"}]}},
        field_manager="one",
    )
step("with another name than the address")
with refused():
    dynamic.request(
        "patch",
        f"/api/v1/namespaces/{NS}/configmaps/shared",
        body=config_map("other", {}),
        content_type="application/apply-patch+yaml",
        query_params=[("fieldManager", "one")],
    )
step("with a version that is old")
with refused():
    body = config_map("shared", {"a": "2"})
    body["metadata"]["resourceVersion"] = made.metadata.resourceVersion
    maps.server_side_apply(body=body, field_manager="two")
step("a manager's name that is too long")
with refused():
    maps.server_side_apply(body=config_map("shared", {"a": "2"}), field_manager="m" * 200)
step("lists of containers merge by name")


def pod(containers):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "sleeper", "namespace": NS},
        "spec": {"containers": containers, "nodeSelector": {"example.org/none": "true"}},
    }


pods.server_side_apply(
    body=pod([{"name": "a", "image": "x", "ports": [{"containerPort": 80, "protocol": "TCP"}]}, {"name": "b", "image": "y"}]),
    field_manager="one",
)
changed = pods.server_side_apply(body=pod([{"name": "b", "image": "y"}]), field_manager="two")
show([[container.name, container.image] for container in changed.spec.containers])
show(managers(changed))
step("status has managers of its own")
pods.status.server_side_apply(
    body={
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "sleeper", "namespace": NS},
        "status": {"conditions": [{"type": "Rested", "status": "True"}]},
    },
    field_manager="nurse",
)
seen = pods.get(name="sleeper", namespace=NS)
show([condition.type for condition in seen.status.conditions if condition.type == "Rested"])
show([entry[:3] for entry in managers(seen) if entry[0] == "nurse"])
step("an update's manager is the client")
core = client.CoreV1Api()
core.patch_namespaced_config_map("shared", NS, {"data": {"patched": "1"}}, field_manager="patcher")
show([entry[:3] for entry in managers(maps.get(name="shared", namespace=NS))])
step("managed fields can be reset")
maps.patch(
    name="shared", namespace=NS, body={"metadata": {"managedFields": [{}]}}, content_type="application/merge-patch+json"
)
show(managers(maps.get(name="shared", namespace=NS)))

done(NS)
