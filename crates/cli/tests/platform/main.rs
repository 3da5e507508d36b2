//! The platform as a whole: the real binary, driven by the real `kubectl`, hurt in the ways
//! machines hurt it. Tests under `containers` run pods, as do some of
//! those under `clients`; the others need no node.

/// Makes tests of functions that take a `Database`: one for each, called `on_sqlite::NAME` and
/// `on_postgres::NAME`.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        on_both!(@ on_sqlite Sqlite $($name),+);
        on_both!(@ on_postgres Postgres $($name),+);
    };
    (@ $on:ident $database:ident $($name:ident),+) => {
        mod $on {
            $(
                #[test]
                fn $name() {
                    super::$name(fermion_testkit::Database::$database);
                }
            )+
        }
    };
}

mod access;
mod accounts;
mod affinity;
mod api;
mod cards;
mod clients;
mod connections;
mod container_faults;
mod containers;
mod definitions;
mod faults;
mod guide;
mod lists;
mod malformed;
mod manifests;
mod new_kind;
mod preemption;
mod queues;
mod quotas;
mod reviews;
mod secrets;
mod server_side_apply;
mod several_servers;
mod store_commands;
mod webhooks;
mod workloads;

/// What the file of a kind takes from the crate that it is in.
pub(crate) use fermion_api::{Invalid, Rules, kind};

/// The binary under test.
const FERMION: &str = env!("CARGO_BIN_EXE_fermion");
