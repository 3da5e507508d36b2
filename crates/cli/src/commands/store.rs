//! `fermion backup`, `fermion restore` and `fermion store`: the database itself, beside the server.
//!
//! Unlike every other command these open the database. They do so on the machine that has it: what they
//! read includes everything, so whoever may run them is who may read its files.

use std::path::PathBuf;

use fermion_store::{Copied, Place, Verified};

use crate::failure::{Exit, Failure, Outcome};
use crate::output;
use crate::server::{data_directory, home};

/// Problems that are printed one by one.
const PROBLEMS_SHOWN_MAX: usize = 20;

/// Files of the home without which a server does not start on data that was used with them.
const KEY_FILES: [&str; 2] = ["secrets.key", "service-account.key"];

/// Where the database is.
#[derive(Debug, clap::Args)]
pub(crate) struct DatabaseArguments {
    /// PostgreSQL database [default: SQLite in the home]
    #[arg(long, env = "FERMION_DATABASE", hide_env_values = true, value_name = "URL")]
    database: Option<String>,
}

/// Options of `fermion backup`.
#[derive(Debug, clap::Args)]
pub(crate) struct BackupArguments {
    /// File to make; it must not exist yet
    file: PathBuf,
    #[command(flatten)]
    of: DatabaseArguments,
}

/// Options of `fermion restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArguments {
    /// A file that `fermion backup` made
    file: PathBuf,
    #[command(flatten)]
    to: DatabaseArguments,
}

/// Commands of `fermion store`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum StoreCommand {
    /// Read everything and say what is wrong; the server may run
    Check {
        /// A backup to check instead, whatever database is set
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        of: DatabaseArguments,
    },
    /// Copy to another database, with every revision, the log and all facts
    Copy {
        /// A directory, a backup, or postgres://…
        #[arg(long, value_name = "PLACE")]
        from: String,
        /// A directory or database without a store, or a file that does not exist yet
        #[arg(long, value_name = "PLACE")]
        to: String,
    },
}

impl DatabaseArguments {
    fn place(self, home: Option<PathBuf>) -> Outcome<Place> {
        if let Some(url) = self.database {
            return Ok(Place::Postgres(url));
        }
        home_of(home).map(|home| Place::Directory(data_directory(&home)))
    }
}

fn home_of(given: Option<PathBuf>) -> Outcome<PathBuf> {
    home(given).map_err(|error| Failure::new("cannot tell where the database is").why(error.to_string()))
}

/// Makes a backup; the server may run.
pub(crate) async fn backup(arguments: BackupArguments, home: Option<PathBuf>) -> Outcome<Exit> {
    let from = arguments.of.place(home)?;
    copy("cannot make the backup", &from, &Place::File(arguments.file)).await
}

/// Puts a backup where there is no store yet.
pub(crate) async fn restore(arguments: RestoreArguments, home: Option<PathBuf>) -> Outcome<Exit> {
    let keys = home_of(home.clone())?;
    let to = arguments.to.place(home)?;
    let verified = verify(&Place::File(arguments.file.clone())).await?;
    if !is_sound(&verified) {
        return Err(Failure::new("the backup is damaged, so nothing was restored").hint("restore an older one"));
    }
    let done = copy("cannot restore the backup", &Place::File(arguments.file), &to).await?;
    if KEY_FILES.iter().any(|name| !keys.join(name).exists()) {
        let names = KEY_FILES.join(" and ");
        output::note(&format!("no backup holds keys: put {names} of the server that it was made from into {}", keys.display()));
    }
    Ok(done)
}

/// Checks or copies a store.
pub(crate) async fn run(command: StoreCommand, home: Option<PathBuf>) -> Outcome<Exit> {
    match command {
        StoreCommand::Check { file, of } => {
            let place = match file {
                Some(file) => Place::File(file),
                None => of.place(home)?,
            };
            let verified = verify(&place).await?;
            if is_sound(&verified) {
                output::line(&format!("sound: {}", describe(&verified.seen)))?;
                return Ok(Exit::Done);
            }
            Err(Failure::new("the database is damaged").hint("stop the server and restore a backup with `fermion restore`"))
        }
        StoreCommand::Copy { from, to } => copy("cannot copy the store", &Place::parse(&from), &Place::parse(&to)).await,
    }
}

async fn copy(what: &str, from: &Place, to: &Place) -> Outcome<Exit> {
    let copied = fermion_store::copy(from, to).await.map_err(|error| failed(what, &error))?;
    output::line(&format!("copied: {}", describe(&copied)))?;
    Ok(Exit::Done)
}

async fn verify(place: &Place) -> Outcome<Verified> {
    fermion_store::verify(place).await.map_err(|error| failed("cannot check the store", &error))
}

/// Tells the problems, if there are any.
fn is_sound(verified: &Verified) -> bool {
    for problem in verified.problems.iter().take(PROBLEMS_SHOWN_MAX) {
        eprintln!("{problem}");
    }
    let hidden = verified.problems.len().saturating_sub(PROBLEMS_SHOWN_MAX) as u64 + verified.more_problems;
    if hidden > 0 {
        eprintln!("and {hidden} more");
    }
    verified.problems.is_empty()
}

fn describe(copied: &Copied) -> String {
    let Copied { revision, versions, objects, facts } = copied;
    format!("{objects} objects at revision {revision}, {versions} versions, {facts} facts")
}

fn failed(what: &str, error: &fermion_store::Error) -> Failure {
    let mut failure = Failure::new(what);
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        failure = failure.why(error.to_string());
        cause = error.source();
    }
    failure
}
