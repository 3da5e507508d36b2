"""Watching: resume, bookmarks, versions that are gone, selectors, the end of a watch."""

import json
import threading

from _steps import client, done, namespace, refused, show, show_status, step
from kubernetes import watch
from kubernetes.client.exceptions import ApiException

NS = namespace("watching")
core = client.CoreV1Api()


def make(name, **labels):
    return core.create_namespaced_config_map(NS, {"metadata": {"name": name, "labels": labels}})


def events(count, **options):
    """The first events of a watch, as (type, name)."""
    found = []
    watching = watch.Watch()
    for event in watching.stream(core.list_namespaced_config_map, NS, timeout_seconds=60, **options):
        found.append([event["type"], event["object"].metadata.name])
        if len(found) == count:
            watching.stop()
    assert len(found) == count, f"the watch ended after {found}"
    return found


def lines(**query):
    """The raw lines of a watch that ends by itself."""
    response = core.list_namespaced_config_map(NS, watch=True, _preload_content=False, _request_timeout=60, **query)
    return [json.loads(line) for line in response.data.decode().splitlines()]


step("from the start: what is there, as added")
make("one"), make("two")
show(sorted(events(2)))
step("from a version: what happened since")
since = core.list_namespaced_config_map(NS).metadata.resource_version
make("three")
core.patch_namespaced_config_map("three", NS, {"data": {"a": "1"}})
core.delete_namespaced_config_map("three", NS)
show(events(3, resource_version=since))
step("resumed at the version of an event, nothing is lost or repeated")
first = lines(resource_version=since, timeout_seconds=1)
middle = first[0]["object"]["metadata"]["resourceVersion"]
show([event["type"] for event in lines(resource_version=middle, timeout_seconds=1)])
step("versions rise")
versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in first]
show(versions == sorted(set(versions)))
step("a deleted object is shown as it was, at a newer version")
last = first[-1]["object"]
show([last["data"], int(last["metadata"]["resourceVersion"]) > versions[-2]])
step("while it is watched")
seen = []
started = threading.Event()


def follow():
    watching = watch.Watch()
    for event in watching.stream(core.list_namespaced_config_map, NS, timeout_seconds=60):
        seen.append([event["type"], event["object"].metadata.name])
        started.set()
        if event["type"] == "DELETED":
            watching.stop()


follower = threading.Thread(target=follow)
follower.start()
started.wait(60)
make("live")
core.delete_namespaced_config_map("live", NS)
follower.join(60)
show([event for event in seen if event[1] == "live"])
step("by label: into view and out of it")
since = core.list_namespaced_config_map(NS).metadata.resource_version
make("shy", visible="no")
core.patch_namespaced_config_map("shy", NS, {"metadata": {"labels": {"visible": "yes"}}})
core.patch_namespaced_config_map("shy", NS, {"data": {"a": "1"}})
core.patch_namespaced_config_map("shy", NS, {"metadata": {"labels": {"visible": "no"}}})
core.delete_namespaced_config_map("shy", NS)
show(events(3, resource_version=since, label_selector="visible=yes"))
step("by field")
show(events(2, field_selector="metadata.name=shy", resource_version=since)[:1])
step("a bookmark, when asked for, ends a watch that is over")
marks = lines(resource_version=since, timeout_seconds=1, allow_watch_bookmarks=True, label_selector="none=such")
show([[mark["type"], mark["object"]["kind"], sorted(mark["object"]["metadata"])] for mark in marks])
step("no bookmark when nobody asked")
show(lines(resource_version=since, timeout_seconds=1, label_selector="none=such"))
step("a version that is gone")
gone = lines(resource_version="1", timeout_seconds=5)
show([gone[0]["type"], gone[0]["object"]["code"], gone[0]["object"]["reason"]] if gone[0]["type"] == "ERROR" else [e["type"] for e in gone])
step("a version that is none")
with refused():
    core.list_namespaced_config_map(NS, watch=True, resource_version="newest", _preload_content=False)
step("initial events and their end, as a stream of a list")
try:
    stream = lines(
        timeout_seconds=2,
        allow_watch_bookmarks=True,
        send_initial_events=True,
        resource_version_match="NotOlderThan",
    )
    for event in stream:
        if event["type"] == "BOOKMARK" and event["object"]["metadata"].get("annotations"):
            show(["BOOKMARK", event["object"]["metadata"]["annotations"]])
            break
        show([event["type"], event["object"].get("metadata", {}).get("name")])
except ApiException as error:
    show_status(error.status, error.body)
step("initial events need a match")
try:
    show([event["type"] for event in lines(timeout_seconds=1, send_initial_events=True)])
except ApiException as error:
    show_status(error.status, error.body)
step("one object by its name's path")
response = core.api_client.call_api(
    "/api/v1/watch/namespaces/{namespace}/configmaps/{name}",
    "GET",
    {"namespace": NS, "name": "one"},
    [("timeoutSeconds", "1")],
    auth_settings=["BearerToken"],
    _preload_content=False,
    _return_http_data_only=True,
)
show([json.loads(line)["object"]["metadata"]["name"] for line in response.data.decode().splitlines()])
step("as a table")
response = core.api_client.call_api(
    "/api/v1/namespaces/{namespace}/configmaps",
    "GET",
    {"namespace": NS},
    [("watch", "true"), ("timeoutSeconds", "1")],
    {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"},
    auth_settings=["BearerToken"],
    _preload_content=False,
    _return_http_data_only=True,
)
rows = []
for line in response.data.decode().splitlines():
    event = json.loads(line)
    table = event["object"]
    columns = [column["name"] for column in table.get("columnDefinitions") or []]
    show([event["type"], table["kind"], columns, len(table["rows"])])
    rows += [row["cells"][:2] for row in table["rows"]]
# What is there when a watch begins comes in any order.
show(sorted(rows))
step("as metadata only")
response = core.api_client.call_api(
    "/api/v1/namespaces/{namespace}/configmaps",
    "GET",
    {"namespace": NS},
    [("watch", "true"), ("timeoutSeconds", "1")],
    {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"},
    auth_settings=["BearerToken"],
    _preload_content=False,
    _return_http_data_only=True,
)
for line in response.data.decode().splitlines():
    event = json.loads(line)
    show([event["type"], event["object"]["kind"], event["object"]["apiVersion"], sorted(event["object"])])

done(NS)
