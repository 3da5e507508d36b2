"""Leader election over a Lease: one leads, another takes over when it is gone."""

import threading
from datetime import datetime, timedelta, timezone

from _steps import client, done, eventually, namespace, refused, show, step

NS = namespace("leading")
leases = client.CoordinationV1Api()
LEASE_S = 2
"""How long a leader holds without renewing, in seconds."""


class Candidate:
    """Takes and renews a lease as client-go's leader election does: every write carries the
    version it was decided on, so of two that try at once one is refused."""

    def __init__(self, name):
        self.name = name

    def spec(self, transitions, acquired):
        now = datetime.now(timezone.utc)
        return client.V1LeaseSpec(
            holder_identity=self.name,
            lease_duration_seconds=LEASE_S,
            acquire_time=acquired or now,
            renew_time=now,
            lease_transitions=transitions,
        )

    def attempt(self):
        """Whether it leads now."""
        try:
            lease = leases.read_namespaced_lease("leader", NS)
        except client.ApiException as error:
            assert error.status == 404, error
            body = client.V1Lease(metadata=client.V1ObjectMeta(name="leader"), spec=self.spec(0, None))
            return self.written(lambda: leases.create_namespaced_lease(NS, body))
        held = lease.spec.holder_identity
        fresh = datetime.now(timezone.utc) < lease.spec.renew_time + timedelta(seconds=LEASE_S)
        if held and held != self.name and fresh:
            return False
        mine = held == self.name
        lease.spec = self.spec(lease.spec.lease_transitions + (not mine), lease.spec.acquire_time if mine else None)
        return self.written(lambda: leases.replace_namespaced_lease("leader", NS, lease))

    @staticmethod
    def written(write):
        try:
            write()
            return True
        except client.ApiException as error:
            assert error.status == 409, error
            return False


step("of many that try at once, one leads")
candidates = [Candidate(f"candidate-{index}") for index in range(8)]
won = []
barrier = threading.Barrier(len(candidates))


def compete(candidate):
    barrier.wait()
    if candidate.attempt():
        won.append(candidate)


threads = [threading.Thread(target=compete, args=(candidate,)) for candidate in candidates]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
show(len(won))
leader = won[0]
others = [candidate for candidate in candidates if candidate is not leader]
step("it renews, and nobody else gets it")
show([leader.attempt(), any(other.attempt() for other in others)])
step("times keep their microseconds")
lease = leases.read_namespaced_lease("leader", NS)
moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
lease.spec.acquire_time = moment
leases.replace_namespaced_lease("leader", NS, lease)
show(leases.read_namespaced_lease("leader", NS).spec.acquire_time == moment)
step("when it is silent, another takes over")
successor = eventually("another to lead", lambda: next((other for other in others if other.attempt()), None))
lease = leases.read_namespaced_lease("leader", NS)
show([lease.spec.holder_identity == successor.name, lease.spec.lease_transitions])
step("and the old one sees that it does not lead")
show(leader.attempt())
step("it is given back")
lease.spec.holder_identity = ""
leases.replace_namespaced_lease("leader", NS, lease)
show(leader.attempt())

done(NS)
