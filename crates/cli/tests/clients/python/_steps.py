"""What the scripts of this folder share: steps, and how refusals and objects are shown."""

import json
import sys
import time
from contextlib import contextmanager

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

# A server with a certificate of its own making is as good as any for a comparison.
urllib3.disable_warnings()
config.load_kube_config()

WAIT_S = 60
"""How long a script waits for something that should happen soon."""


FIRST_POD_WAIT_S = 180
"""How long the first pod of a platform may take: its image is built before."""


def step(title):
    """Begins a step; its title is unique in its script."""
    print(f"\n### {title}", flush=True)


def show(value):
    """Prints a value so that it reads the same every time."""
    if hasattr(value, "to_dict"):
        value = client.ApiClient().sanitize_for_serialization(value)
    print(json.dumps(value, sort_keys=True, default=str) if isinstance(value, (dict, list)) else value, flush=True)


@contextmanager
def refused():
    """Runs what must be refused, and shows the refusal."""
    try:
        yield
    except ApiException as error:
        show_status(error.status, error.body)
    else:
        raise AssertionError("it was not refused")


def show_status(code, body):
    """Prints a refusal: code, reason, message, causes."""
    try:
        status = json.loads(body)
    except (ValueError, TypeError):
        print(code, body if isinstance(body, str) else (body or b"").decode(errors="replace"))
        return
    print(code, status.get("reason"), "-", status.get("message"))
    details = status.get("details") or {}
    causes = details.pop("causes", None) or []
    # A uid differs from run to run, and tells nothing here.
    details.pop("uid", None)
    if details:
        print("  details:", json.dumps(details, sort_keys=True))
    for cause in sorted(causes, key=lambda cause: (cause.get("field") or "", cause.get("message") or "")):
        print("  cause:", cause.get("field"), cause.get("reason"), "-", cause.get("message"))


def eventually(what, look, wait_s=WAIT_S):
    """Waits until `look` finds something, and answers it."""
    end = time.monotonic() + wait_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)


def namespace(name):
    """A namespace for this script alone."""
    client.CoreV1Api().create_namespace({"metadata": {"name": name}})
    return name


def done(name):
    """Takes the script's namespace away."""
    client.CoreV1Api().delete_namespace(name)
    sys.stdout.flush()
