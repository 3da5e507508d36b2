"""Running containers: what they print, commands inside of them, their terminals and ports."""

import json

from _steps import FIRST_POD_WAIT_S, WAIT_S, client, done, eventually, namespace, refused, show, step
from kubernetes import watch
from kubernetes.stream import portforward, stream

NS = namespace("python-containers")
core = client.CoreV1Api()
TALK = "echo first; sleep 1; echo second >&2; sleep 1; echo third; cd /tmp; exec python3 -m http.server 8000"


def is_ready():
    conditions = core.read_namespaced_pod("talker", NS).status.conditions or []
    return any(condition.type == "Ready" and condition.status == "True" for condition in conditions)


def run(*command, **options):
    """What a command prints inside the pod."""
    streams = {"stdin": False, "stdout": True, "stderr": True, "tty": False, **options}
    return stream(core.connect_get_namespaced_pod_exec, "talker", NS, command=list(command), **streams)


core.create_namespaced_pod(
    NS,
    {
        "metadata": {"name": "talker"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "main",
                    "image": "fermion.dev/base:latest",
                    "command": ["bash", "-c", TALK],
                    "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
                }
            ],
        },
    },
)
eventually("the pod to be ready", is_ready, FIRST_POD_WAIT_S)

step("a log")
print(core.read_namespaced_pod_log("talker", NS))
step("the end of a log")
print(core.read_namespaced_pod_log("talker", NS, tail_lines=1, container="main"))
step("a log with times")
show(len(core.read_namespaced_pod_log("talker", NS, tail_lines=1, timestamps=True).split()[0]) > len("2026-11-22T10:00:00Z"))
step("a log of what is not there")
with refused():
    core.read_namespaced_pod_log("talker", NS, container="other")
with refused():
    core.read_namespaced_pod_log("nobody", NS)
step("a log is followed")
following = watch.Watch()
for line in following.stream(core.read_namespaced_pod_log, "talker", NS, since_seconds=WAIT_S * 10):
    show(line)
    if line == "third":
        run("sh", "-c", "echo fourth > /proc/1/fd/1")
    if line == "fourth":
        following.stop()

step("a command")
print(run("echo", "out"))
step("a command with arguments as they are")
print(run("printf", "%s|", "a b", "$HOME", "ü", "'\""))
step("a command and its errors")
print(run("sh", "-c", "echo out; sleep 0.2; echo err >&2"))
step("a command that fails")
failing = run("sh", "-c", "exit 7", _preload_content=False)
failing.run_forever(timeout=WAIT_S)
show(failing.returncode)
step("a command that cannot be started")
missing = run("no-such-program", _preload_content=False)
missing.run_forever(timeout=WAIT_S)
show(json.loads(missing.read_channel(3))["status"])
step("a command that reads")
reading = run("sh", "-c", "read line; echo got $line", stdin=True, _preload_content=False)
reading.write_stdin("something\n")
reading.run_forever(timeout=WAIT_S)
show([reading.read_stdout(), reading.returncode])
step("a megabyte")
show(len(run("sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x")))
step("a terminal of a size")
terminal = run("bash", "-c", "until stty size | grep 101; do sleep 0.1; done", tty=True, _preload_content=False)
terminal.write_channel(4, json.dumps({"Height": 33, "Width": 101}))
terminal.run_forever(timeout=WAIT_S)
show([terminal.read_stdout().strip(), terminal.returncode])
step("a command in what is not there")
with refused():
    stream(core.connect_get_namespaced_pod_exec, "nobody", NS, command=["true"], stdout=True)

step("a port, and one where nobody listens")
forwarding = portforward(core.connect_get_namespaced_pod_portforward, "talker", NS, ports="8000,8001")


def received(port, request=b""):
    """What comes back from a port until its end."""
    connection = forwarding.socket(port)
    connection.settimeout(WAIT_S)
    if request:
        connection.sendall(request)
    answer = b""
    while part := connection.recv(65536):
        answer += part
    return answer


show(received(8001).decode())
show("refused" in forwarding.error(8001))
show(received(8000, b"GET / HTTP/1.0\r\n\r\n").split(b"\r\n")[0].decode())
show(forwarding.error(8000))

core.delete_namespaced_pod("talker", NS)
done(NS)
