//! `compute.fermion.dev`: where workloads run, and who may have how much.

pub mod accelerator_model;
pub mod checks;
pub mod entitlement;
pub mod partition;
pub mod pool;
pub mod queue;
pub mod quota;
pub mod resource_group;
pub mod resource_policy;
pub mod resource_ticket;
pub mod scheduling_policy;
pub mod scheduling_review;
pub mod time_window;

pub use accelerator_model::{AcceleratorModel, AcceleratorModelSpec};
pub use partition::{Partition, PartitionSpec, PartitionStatus};
pub use pool::{Pool, PoolSpec, PoolStatus};
pub use queue::{Queue, QueueSpec, QueueStatus};
pub use quota::{Quota, QuotaSpec, QuotaStatus};
pub use resource_group::{ResourceGroup, ResourceGroupSpec, ResourceGroupStatus};
pub use resource_policy::{ResourcePolicy, ResourcePolicySpec, ResourcePolicyStatus};
pub use resource_ticket::{ResourceTicket, ResourceTicketSpec, ResourceTicketStatus};
pub use scheduling_policy::{SchedulingPolicy, SchedulingPolicySpec};
pub use scheduling_review::{SchedulingReview, SchedulingReviewSpec, SchedulingReviewStatus};
pub use time_window::{TimeWindow, TimeWindowSpec, TimeWindowStatus};
