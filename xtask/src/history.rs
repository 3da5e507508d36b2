//! `cargo xtask check-history`: the history checker of the store, for as long as it is wanted.
//!
//! Clients write to stores while their servers are killed and paused and their connections cut; then
//! what everybody was told is held against the log. `cargo xtask test` does so for seconds,
//! `cargo xtask ci` for minutes. The checker itself is a test: `crates/store/tests/it/history.rs`.

use std::process::Command;

use anyhow::Result;

use crate::console::Console;
use crate::{packages, process, workspace};

/// How long CI checks each store, in seconds.
const SECONDS: u64 = 300;
/// Tells the checker for how many seconds clients write.
const SECONDS_VARIABLE: &str = "FERMION_CHECK_SECONDS";
/// Tells it which choices to make.
const SEED_VARIABLE: &str = "FERMION_CHECK_SEED";

/// Which store is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Store {
    /// One server on SQLite
    Sqlite,
    /// One server and three servers on PostgreSQL
    Postgres,
}

impl Store {
    /// The tests that check it.
    fn tests(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &["history::history_of_one_server_on_sqlite_is_sound"],
            Self::Postgres => {
                &["history::history_of_one_server_on_postgres_is_sound", "history::history_of_three_servers_on_postgres_is_sound"]
            }
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArguments {
    /// How long clients write while their servers are hurt
    #[arg(long, default_value_t = SECONDS, value_name = "SECONDS")]
    seconds: u64,
    /// Check one store only [default: both at the same time]
    #[arg(long, value_enum)]
    store: Option<Store>,
    /// Make the choices of the run that printed this
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(arguments: &HistoryArguments) -> Result<()> {
    let console = Console::new();
    packages::install(&console, &packages::TO_TEST)?;
    let stores = arguments.store.map_or(vec![Store::Sqlite, Store::Postgres], |store| vec![store]);
    console.step(&format!("{} s of clients, kills, pauses and cut connections; a seed repeats the choices of a run", arguments.seconds));
    check(&stores, arguments.seconds, arguments.seed)
}

/// Checks both stores at the same time, for as long as CI does.
pub(crate) fn run_all(console: &Console) -> Result<()> {
    packages::install(console, &packages::TO_TEST)?;
    check(&[Store::Sqlite, Store::Postgres], SECONDS, None)
}

fn check(stores: &[Store], seconds: u64, seed: Option<u64>) -> Result<()> {
    process::show(&mut checker(stores, seconds, seed), "the checker says above what does not fit, and the seed that repeats its choices")
}

/// The tests, all at once, with what they print.
fn checker(stores: &[Store], seconds: u64, seed: Option<u64>) -> Command {
    let tests: Vec<&str> = stores.iter().flat_map(|store| store.tests()).copied().collect();
    let mut command = workspace::cargo("test");
    command.args(["--quiet", "--package", "fermion-store", "--test", "it", "--", "--exact", "--nocapture", "--test-threads"]);
    command.arg(tests.len().to_string()).args(tests).env(SECONDS_VARIABLE, seconds.to_string());
    match seed {
        Some(seed) => command.env(SEED_VARIABLE, seed.to_string()),
        None => command.env_remove(SEED_VARIABLE),
    };
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_a_test_that_there_is() {
        let file = workspace::root().join("crates/store/tests/it/history.rs");
        let text = std::fs::read_to_string(file).expect("the checker");
        for test in [Store::Sqlite, Store::Postgres].into_iter().flat_map(Store::tests) {
            let name = test.strip_prefix("history::").expect("it is in that module");
            assert!(text.contains(&format!("#[test]\nfn {name}()")), "nothing would check {name}");
        }
    }

    #[test]
    fn a_seed_and_a_store_can_be_chosen() {
        let command = checker(&[Store::Sqlite], 5, Some(7));
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert!(words.ends_with(&["1".to_owned(), "history::history_of_one_server_on_sqlite_is_sound".to_owned()]), "{words:?}");
        let set: Vec<_> = command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?))).collect();
        assert!(set.contains(&(SECONDS_VARIABLE, "5")) && set.contains(&(SEED_VARIABLE, "7")), "{set:?}");
    }
}
