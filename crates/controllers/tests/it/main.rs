//! Every controller at once, against the real API and store in this process. Only the node is
//! a stand-in: it runs nothing, and says of each pod what a test tells it to.

mod collection;
mod dev_environments;
mod endpoints;
mod nodes;
mod partitions;
mod scheduling;
mod services;
mod simulated;
mod stage;
mod training_jobs;
