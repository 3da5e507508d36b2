"""Kinds that users define, from Python."""

from _steps import client, done, eventually, namespace, refused, show, step
from kubernetes.client.exceptions import ApiException

NS = namespace("custom-python")
GROUP, VERSION, PLURAL = "python.example.org", "v1", "snakes"
definitions = client.ApiextensionsV1Api()
custom = client.CustomObjectsApi()
SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["length"],
            "properties": {
                "length": {"type": "integer", "minimum": 1},
                "pattern": {"type": "string", "default": "plain"},
                "replicas": {"type": "integer"},
            },
        },
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "phase": {"type": "string"}}},
    },
}

step("define a kind")
definitions.create_custom_resource_definition(
    {
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": PLURAL, "singular": "snake", "kind": "Snake"},
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": SCHEMA},
                    "subresources": {
                        "status": {},
                        "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                    },
                }
            ],
        },
    }
)


def established():
    found = definitions.read_custom_resource_definition(f"{PLURAL}.{GROUP}")
    conditions = {condition.type: condition.status for condition in (found.status.conditions or [])}
    return conditions if conditions.get("Established") == "True" else None


show(eventually("the kind to be established", established))
found = definitions.read_custom_resource_definition(f"{PLURAL}.{GROUP}")
show([found.status.accepted_names.kind, found.status.accepted_names.list_kind, found.status.stored_versions])


def served():
    try:
        return custom.list_namespaced_custom_object(GROUP, VERSION, NS, PLURAL)
    except ApiException:
        return None


step("an empty list")
listed = eventually("the kind to be served", served)
show([listed["kind"], listed["apiVersion"], listed["items"]])


def snake(name, **spec):
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Snake", "metadata": {"name": name}, "spec": spec}


step("create fills defaults in")
made = custom.create_namespaced_custom_object(GROUP, VERSION, NS, PLURAL, snake("adder", length=3))
show([made["spec"], made["metadata"]["generation"]])
step("create of what is wrong")
with refused():
    custom.create_namespaced_custom_object(GROUP, VERSION, NS, PLURAL, snake("short", length=0))
with refused():
    custom.create_namespaced_custom_object(GROUP, VERSION, NS, PLURAL, snake("none"))
step("replace needs the version")
with refused():
    custom.replace_namespaced_custom_object(GROUP, VERSION, NS, PLURAL, "adder", snake("adder", length=4))
made["spec"]["length"] = 4
show(custom.replace_namespaced_custom_object(GROUP, VERSION, NS, PLURAL, "adder", made)["metadata"]["generation"])
step("patch")
show(custom.patch_namespaced_custom_object(GROUP, VERSION, NS, PLURAL, "adder", {"spec": {"pattern": "zigzag"}})["spec"])
step("status")
status = {"status": {"phase": "Coiled", "replicas": 1}}
changed = custom.patch_namespaced_custom_object_status(GROUP, VERSION, NS, PLURAL, "adder", status)
show([changed["status"], changed["metadata"]["generation"]])
step("scale")
scaled = custom.patch_namespaced_custom_object_scale(GROUP, VERSION, NS, PLURAL, "adder", {"spec": {"replicas": 5}})
show([scaled["kind"], scaled["apiVersion"], scaled["spec"], scaled["status"]])
step("list in all namespaces")
show([item["metadata"]["name"] for item in custom.list_cluster_custom_object(GROUP, VERSION, PLURAL)["items"]])
step("delete")
show(custom.delete_namespaced_custom_object(GROUP, VERSION, NS, PLURAL, "adder")["status"])
step("delete the definition")
definitions.delete_custom_resource_definition(f"{PLURAL}.{GROUP}")


def unserved():
    try:
        custom.list_namespaced_custom_object(GROUP, VERSION, NS, PLURAL)
        return None
    except ApiException as error:
        return error.status


show(eventually("the kind to go", unserved))

done(NS)
