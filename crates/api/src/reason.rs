//! Stable codes for why something waits or failed. The same code stands in
//! `status.conditions`, in the CLI and in the console, and has its sentence there.

/// A Workload waits: the pool has too little free of some resource now.
pub const INSUFFICIENT_RESOURCES: &str = "InsufficientResources";
/// A Workload waits for nodes on which nothing runs: work of its queue has them to itself.
pub const NO_EMPTY_NODE: &str = "NoEmptyNode";
/// A Workload waits for ever: it asks for more than any node has.
pub const EXCEEDS_CAPACITY: &str = "ExceedsCapacity";
/// A Workload waits behind others of its queue that go first.
pub const BEHIND_OTHERS: &str = "BehindOthers";
/// No node of the pool that it could use is ready.
pub const NO_READY_NODE: &str = "NoReadyNode";
/// The queue named does not exist.
pub const QUEUE_NOT_FOUND: &str = "QueueNotFound";
/// The queue admits nothing now.
pub const QUEUE_CLOSED: &str = "QueueClosed";
/// A Workload waits: the queue is for others.
pub const QUEUE_NOT_ALLOWED: &str = "QueueNotAllowed";
/// A Workload waits: its queue, or one above it, would go beyond its limit.
pub const QUEUE_LIMIT: &str = "QueueLimit";
/// A Workload waits: a quota or policy allows its owner no more.
pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
/// A Workload waits: as many of its owner's run as may.
pub const TOO_MANY_RUNNING: &str = "TooManyRunning";
/// A Workload waits: such work may not run at this hour.
pub const OUTSIDE_HOURS: &str = "OutsideHours";
/// A Workload waits: others are being stopped for it.
pub const WAITING_FOR_EVICTIONS: &str = "WaitingForEvictions";
/// It was stopped for work that goes before it.
pub const PREEMPTED: &str = "Preempted";
/// It was stopped because it had fewer pods than it needs, and there was no room for the rest.
pub const INCOMPLETE: &str = "Incomplete";
/// It was stopped because its queue used what another is guaranteed.
pub const RECLAIMED: &str = "Reclaimed";
/// It was stopped to start over elsewhere, as work that waits needs its place.
pub const MOVED: &str = "Moved";
/// It has its place again after it was stopped for others.
pub const RETURNED: &str = "Returned";
/// A person suspended it.
pub const SUSPENDED: &str = "Suspended";
/// Stopped because nobody used it for the set time.
pub const IDLE: &str = "Idle";
/// Every member has its place.
pub const ADMITTED: &str = "Admitted";
/// Ran longer than allowed.
pub const MAX_DURATION_EXCEEDED: &str = "MaxDurationExceeded";
/// Failed in a way that is not tried again.
pub const PERMANENT_FAILURE: &str = "PermanentFailure";
/// Failed more often than allowed.
pub const RETRIES_EXHAUSTED: &str = "RetriesExhausted";
/// Ended at the program's own request (its exit code says so).
pub const USER_REQUESTED: &str = "UserRequested";
/// Starts again after a failure.
pub const RETRYING: &str = "Retrying";
/// The rules for success hold.
pub const SUCCEEDED: &str = "Succeeded";
/// A Workload waits: no node of the pool has the labels and taints it asks for.
pub const NO_MATCHING_NODE: &str = "NoMatchingNode";
/// A Workload waits: some of its pods do not exist yet.
pub const MEMBERS_MISSING: &str = "MembersMissing";
/// Another object already has the name that is needed.
pub const NAME_TAKEN: &str = "NameTaken";
/// A request of a controller was refused by the API.
pub const REFUSED: &str = "Refused";
/// A node stopped reporting.
pub const NODE_STATUS_UNKNOWN: &str = "NodeStatusUnknown";
/// A pod's node stopped reporting for so long that the pod counts as lost.
pub const NODE_LOST: &str = "NodeLost";
/// Nodes that are named are not there.
pub const NODES_MISSING: &str = "NodesMissing";
/// A container ends again and again.
pub const CRASH_LOOP: &str = "CrashLoop";
/// Replicas did not become ready in time.
pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
/// Debug mode was switched on or off.
pub const ENTRY_POINT_CHANGED: &str = "EntryPointChanged";
/// Containers are being made ready to run.
pub const STARTING: &str = "Starting";
/// It runs.
pub const RUNNING: &str = "Running";
/// Everything that was asked for is ready.
pub const READY: &str = "Ready";
/// It is being stopped.
pub const STOPPING: &str = "Stopping";
/// Work dies on a node that does not die elsewhere, so that it takes no new work for a while.
pub const QUARANTINED: &str = "Quarantined";
/// A node's quarantine is over, or was lifted.
pub const QUARANTINE_ENDED: &str = "QuarantineEnded";
