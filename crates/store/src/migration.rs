//! The rule for changes of the schema.
//!
//! While servers are being replaced one by one, and when an update is taken back, the program before
//! meets the schema after. So every change is one of two:
//!
//! - An [`Step::Addition`] adds tables, indexes, or columns with a default. The program before must work
//!   on as if it were not there: it does not write to it, and so nothing that the program after keeps
//!   there may be wrong because of that. It does not change the schema's version.
//! - A [`Step::Break`] may do anything. It is allowed one release after no program needs what it takes
//!   away: the release that stopped using a column comes first, the one that drops it later. It raises the
//!   version, and programs that do not know the version refuse to open the database.

use std::collections::BTreeSet;

use crate::error::Error;

/// One change of the schema.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// The program before goes on working.
    Addition(&'static str),
    /// The program before must not open the database any more.
    Break(&'static str),
}

/// What a database says was done to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// How many breaking steps.
    pub(crate) version: u32,
    /// The indexes of the additions.
    pub(crate) additions: BTreeSet<u32>,
}

/// A step that is still to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) sql: &'static str,
    /// What it is recorded under.
    pub(crate) number: u32,
    table: &'static str,
}

impl Pending {
    /// The statement that records it, with the number and the time as `values`.
    pub(crate) fn record(self, values: &str) -> String {
        format!("INSERT INTO {} VALUES {values}", self.table)
    }
}

/// The steps that a database still needs, in order.
pub(crate) fn pending(steps: &[Step], applied: &Applied) -> Result<Vec<Pending>, Error> {
    let known = steps.iter().filter(|step| matches!(step, Step::Break(_))).count() as u32;
    if applied.version > known {
        return Err(Error::SchemaTooNew { found: applied.version, known });
    }
    let mut version = 0;
    let mut pending = Vec::new();
    for (step, index) in steps.iter().zip(0..) {
        match step {
            Step::Break(sql) => {
                version += 1;
                if version > applied.version {
                    pending.push(Pending { sql, number: version, table: "schema_versions" });
                }
            }
            Step::Addition(sql) if !applied.additions.contains(&index) => {
                pending.push(Pending { sql, number: index, table: "schema_additions" });
            }
            Step::Addition(_) => {}
        }
    }
    Ok(pending)
}
