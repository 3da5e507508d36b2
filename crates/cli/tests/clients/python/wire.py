"""Requests as they are on the wire, good and bad: code, content type, reason and message."""

import json

from _steps import client, done, eventually, namespace, show, show_status, step

NS = namespace("wire")
api = client.ApiClient()
BASE = f"/api/v1/namespaces/{NS}/configmaps"
JSON = "application/json"


def ask(method, path, body=None, **headers):
    """Sends a request; headers are given with `_` for `-`."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    api.update_params_for_auth(headers, [], ["BearerToken"])
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    if body is not None:
        headers.setdefault("Content-Type", JSON)
    pool = api.rest_client.pool_manager
    return pool.request(
        method, api.configuration.host + path, body=body, headers=headers, timeout=30, redirect=False, preload_content=True
    )


def shown(method, path, body=None, **headers):
    response = ask(method, path, body, **headers)
    if response.status >= 400:
        show_status(response.status, response.data)
    else:
        # Of a watch, the first event.
        text = json.loads((response.data or b"null").splitlines()[0])
        kind = [text.get("kind"), text.get("apiVersion")] if isinstance(text, dict) else []
        print(response.status, response.headers.get("Content-Type"), *kind)
    warning = response.headers.get("Warning")
    if warning:
        print("  warning:", warning)
    return response


def config_map(name, **more):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **more}


step("create, get, list, delete")
shown("POST", BASE, config_map("one", data={"a": "1"}))
shown("GET", f"{BASE}/one")
shown("GET", BASE)
shown("DELETE", f"{BASE}/one")
step("no body")
shown("POST", BASE)
step("an empty body")
shown("POST", BASE, b"")
step("a body that is no json")
shown("POST", BASE, b"{nonsense")
step("a body that is a list")
shown("POST", BASE, b"[]")
step("a body that is a text")
shown("POST", BASE, b'"text"')
step("a body that ends too soon")
shown("POST", BASE, b'{"apiVersion": "v1", "kind": "ConfigMap"')
step("a body with something behind it")
shown("POST", BASE, json.dumps(config_map("behind")) + "}")
step("yaml as a body")
shown("POST", BASE, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yaml}\n", Content_Type="application/yaml")
step("a content type that nobody knows")
shown("POST", BASE, config_map("typed"), Content_Type="text/plain")
step("an answer that nobody can give")
shown("GET", BASE, Accept="text/html")
step("a list of answers, one possible")
shown("GET", BASE, Accept="text/html, application/json;q=0.5")
step("a kind that is another")
shown("POST", BASE, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}})
step("a version that is another")
shown("POST", BASE, {"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "x"}})
step("no kind")
shown("POST", BASE, {"metadata": {"name": "kindless"}})
step("an unknown field is told")
shown("POST", BASE, config_map("unknown", dtaa={}))
shown("POST", f"{BASE}?fieldValidation=Warn", config_map("warned", dtaa={}))
shown("POST", f"{BASE}?fieldValidation=Strict", config_map("strict", dtaa={}))
shown("POST", f"{BASE}?fieldValidation=Nonsense", config_map("nonsense"))
step("a field given twice is told")
twice = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"twice"},"data":{"a":"1"},"data":{"b":"2"}}'
shown("POST", f"{BASE}?fieldValidation=Warn", twice)
twice = twice.replace("twice", "twice-strict")
shown("POST", f"{BASE}?fieldValidation=Strict", twice)
step("names of fields in another case are unknown")
shown("POST", f"{BASE}?fieldValidation=Strict", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "case"}, "Data": {}})
step("null as a map")
shown("POST", BASE, config_map("nulls", data=None))
step("null as a value of a map")
shown("POST", BASE, config_map("null-value", data={"a": None}))
step("a number as a value of a map of texts")
shown("POST", BASE, config_map("number", data={"a": 1}))
step("a dry run that is none")
shown("POST", f"{BASE}?dryRun=Some", config_map("dry"))
step("create at a name")
shown("POST", f"{BASE}/named", config_map("named"))
step("put what is not there")
shown("PUT", f"{BASE}/new", config_map("new"))
step("put another name")
shown("PUT", f"{BASE}/unknown", config_map("other"))
step("put another namespace")
shown("PUT", f"{BASE}/unknown", {**config_map("unknown"), "metadata": {"name": "unknown", "namespace": "default"}})
step("put a version that is none")
shown("PUT", f"{BASE}/unknown", {**config_map("unknown"), "metadata": {"name": "unknown", "resourceVersion": "newest"}})
step("put another uid")
shown("PUT", f"{BASE}/unknown", {**config_map("unknown"), "metadata": {"name": "unknown", "uid": "00000000-0000-0000-0000-000000000000"}})
step("put on a collection")
shown("PUT", BASE, config_map("new"))
step("patch without a type")
shown("PATCH", f"{BASE}/unknown", {"data": {}}, Content_Type=JSON)
step("patch that is no object")
shown("PATCH", f"{BASE}/unknown", b"[]", Content_Type="application/merge-patch+json")
shown("PATCH", f"{BASE}/unknown", b"{}", Content_Type="application/json-patch+json")
step("json patch with an operation nobody knows")
shown("PATCH", f"{BASE}/unknown", [{"op": "shake", "path": "/data"}], Content_Type="application/json-patch+json")
step("json patch of the kind")
shown("PATCH", f"{BASE}/unknown", [{"op": "replace", "path": "/kind", "value": "Secret"}], Content_Type="application/json-patch+json")
step("patch of a collection")
shown("PATCH", BASE, {"data": {}}, Content_Type="application/merge-patch+json")
step("apply without a manager")
shown("PATCH", f"{BASE}/applied", config_map("applied"), Content_Type="application/apply-patch+yaml")
step("apply in yaml")
yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: applied\ndata:\n  a: '1'\n"
shown("PATCH", f"{BASE}/applied?fieldManager=me", yaml, Content_Type="application/apply-patch+yaml")
step("apply of what is no object")
shown("PATCH", f"{BASE}/applied?fieldManager=me", "- a\n- b\n", Content_Type="application/apply-patch+yaml")
step("force where nothing is applied")
shown("PATCH", f"{BASE}/unknown?force=true", {"data": {}}, Content_Type="application/merge-patch+json")
step("delete with a body that is wrong")
shown("DELETE", f"{BASE}/unknown", {"propagationPolicy": "Sideways"})
shown("DELETE", f"{BASE}/unknown", {"gracePeriodSeconds": "soon"})
shown("DELETE", f"{BASE}/unknown", b"nonsense")
step("delete in two ways at once")
ask("POST", BASE, config_map("both"))
shown("DELETE", f"{BASE}/both", {"propagationPolicy": "Orphan", "orphanDependents": True})
ask("DELETE", f"{BASE}/both")
eventually("it to be gone", lambda: ask("GET", f"{BASE}/both").status == 404)
step("delete answers what it did")
answer = json.loads(shown("DELETE", f"{BASE}/unknown").data)
show({name: answer.get(name) for name in ("kind", "apiVersion", "status", "metadata")})
show(sorted(answer.get("details", {})))
step("delete of what waits for a finalizer answers the object")
shown("POST", BASE, {**config_map("held"), "metadata": {"name": "held", "finalizers": ["example.org/wait"]}})
answer = json.loads(shown("DELETE", f"{BASE}/held").data)
show(sorted(answer["metadata"]))
shown("PATCH", f"{BASE}/held", {"metadata": {"finalizers": None}}, Content_Type="application/merge-patch+json")
step("delete of a collection answers the list")
shown("DELETE", BASE)
step("paths that are not there")
for path in (
    "/nothing",
    "/api/v2",
    "/api/v1/nothing",
    f"/api/v1/namespaces/{NS}/nothing",
    f"{BASE}/one/nothing",
    f"{BASE}/one/status",
    "/apis/example.org",
    "/apis/example.org/v1/things",
    "/api/v1/configmaps/one",
    f"/api/v1/namespaces/{NS}/nodes",
    f"/api/v1/namespaces/{NS}/namespaces/{NS}",
):
    print(path)
    shown("GET", path)
step("methods that are not there")
shown("PUT", "/version")
shown("POST", "/api/v1")
shown("POST", f"/api/v1/namespaces/{NS}", {})
shown("DELETE", "/api")
shown("POST", "/api/v1/configmaps", config_map("nowhere"))
step("slashes at the end")
shown("GET", f"{BASE}/")
shown("GET", "/api/")
shown("GET", "/apis/coordination.k8s.io/v1/")
step("selectors that are wrong")
shown("GET", f"{BASE}?labelSelector=a%20b")
shown("GET", f"{BASE}?labelSelector=a+in+b")
shown("GET", f"{BASE}?labelSelector=-a%3Db")
shown("GET", f"{BASE}?fieldSelector=data.a%3D1")
shown("GET", f"{BASE}?fieldSelector=metadata.name")
step("options that are wrong")
shown("GET", f"{BASE}?limit=many")
shown("GET", f"{BASE}?limit=-1")
shown("GET", f"{BASE}?watch=perhaps&timeoutSeconds=1")
shown("GET", f"{BASE}?timeoutSeconds=soon")
shown("GET", f"{BASE}?resourceVersion=newest")
shown("GET", f"{BASE}?resourceVersion=1&resourceVersionMatch=Nearly")
shown("GET", f"{BASE}?resourceVersionMatch=NotOlderThan")
shown("GET", f"{BASE}?resourceVersion=0&resourceVersionMatch=Exact")
shown("GET", f"{BASE}?continue=nonsense")
shown("GET", f"{BASE}?unheard=of")
step("a name that no object can have")
shown("GET", f"{BASE}/Not_A_Name")
shown("GET", f"{BASE}/%2e%2e")
step("a namespace that is not there")
shown("GET", "/api/v1/namespaces/nowhere/configmaps")
shown("GET", "/api/v1/namespaces/nowhere/configmaps/one")
shown("POST", "/api/v1/namespaces/nowhere/configmaps", config_map("one"))
shown("DELETE", "/api/v1/namespaces/nowhere/configmaps")
step("a table")
shown("POST", BASE, config_map("tabled", data={"a": "1", "b": "2"}))
table = json.loads(shown("GET", BASE, Accept="application/json;as=Table;v=v1;g=meta.k8s.io").data)
show([[column["name"], column["type"], column["format"], column["priority"]] for column in table["columnDefinitions"]])
show([[row["cells"][:2], row["object"]["kind"], row["object"]["apiVersion"], sorted(row["object"])] for row in table["rows"]])
step("a table of whole objects")
table = json.loads(shown("GET", f"{BASE}?includeObject=Object", Accept="application/json;as=Table;v=v1;g=meta.k8s.io").data)
show([[row["object"]["kind"], sorted(row["object"])] for row in table["rows"]])
table = json.loads(shown("GET", f"{BASE}?includeObject=None", Accept="application/json;as=Table;v=v1;g=meta.k8s.io").data)
show([row.get("object") for row in table["rows"]])
shown("GET", f"{BASE}?includeObject=Some", Accept="application/json;as=Table;v=v1;g=meta.k8s.io")
step("metadata only")
show(sorted(json.loads(shown("GET", f"{BASE}/tabled", Accept="application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").data)))
listed = json.loads(shown("GET", BASE, Accept="application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").data)
show([[item.get("kind"), item.get("apiVersion"), sorted(item)] for item in listed["items"]])
step("items of a list leave out what the list says")
show([[item.get("kind"), item.get("apiVersion")] for item in json.loads(ask("GET", BASE).data)["items"]])
step("what metadata holds")
show(sorted(json.loads(ask("GET", f"{BASE}/tabled").data)["metadata"]))
show(sorted(json.loads(ask("GET", BASE).data)["metadata"]))
step("head")
response = ask("HEAD", f"{BASE}/tabled")
show([response.status, len(response.data)])
step("a namespace's metadata and spec")
found = json.loads(ask("GET", f"/api/v1/namespaces/{NS}").data)
show([found["spec"], found["status"], found["metadata"].get("labels")])
step("no token")
headers_free = api.rest_client.pool_manager.request("GET", api.configuration.host + BASE, timeout=30)
show_status(headers_free.status, headers_free.data)
step("a wrong token")
wrong = api.rest_client.pool_manager.request(
    "GET", api.configuration.host + BASE, headers={"Authorization": "Bearer wrong"}, timeout=30
)
show_status(wrong.status, wrong.data)
step("another whom nobody lets in")
shown("GET", BASE, Impersonate_User="ann")
step("a scale where there is none")
shown("GET", f"{BASE}/tabled/scale")
step("an eviction of what is not there")
shown(
    "POST",
    f"/api/v1/namespaces/{NS}/pods/none/eviction",
    {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": "none", "namespace": NS}},
)
step("a body that is too large")
large = json.dumps(config_map("large", data={"a": "x" * (4 * 1024 * 1024)}))
shown("POST", BASE, large)
step("an object that is too large for its kind")
shown("POST", BASE, config_map("large", data={"a": "x" * (1024 * 1024 + 1)}))
step("annotations that are too large")
shown("POST", BASE, {**config_map("large"), "metadata": {"name": "large", "annotations": {"a": "x" * (256 * 1024 + 1)}}})
step("json that is nested deeply")
shown("POST", BASE, '{"apiVersion":"v1","kind":"ConfigMap","metadata":' + '{"a":' * 20000 + "1" + "}" * 20000 + "}")

done(NS)
