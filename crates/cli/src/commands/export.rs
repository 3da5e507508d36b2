//! `fermion export`: a list as a file, or the template of one.

use std::path::{Path, PathBuf};

use futures::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;

use super::list::ListArguments;
use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::output;
use crate::resources::Resources;

/// Bytes read at once.
const PIECE_BYTES: usize = 64 * 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fermion export trainingjobs -o jobs.xlsx
  fermion export pods -A --search vision --sort-by metadata.name -o pods.csv
  fermion export queues --template -o queues.xlsx   an empty table to fill in and import")]
pub(crate) struct ExportArguments {
    /// Kind, such as pods or tj
    kind: String,
    #[command(flatten)]
    list: ListArguments,
    /// File to write; - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Form of the file [default: as the file's name ends]
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// Not the list, but an empty table with its columns
    #[arg(long, conflicts_with_all = ["selector", "field_selector", "search", "sort_by"])]
    template: bool,
}

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FileFormat {
    /// Comma-separated values, which every spreadsheet reads
    Csv,
    /// A workbook
    Xlsx,
    /// A List of Kubernetes
    Json,
}

impl FileFormat {
    /// The form that was asked for, or that a file's name tells.
    pub(crate) fn of(asked: Option<Self>, file: &Path) -> Outcome<Self> {
        if let Some(asked) = asked {
            return Ok(asked);
        }
        let ending = file.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
        match ending.as_deref() {
            Some("csv") => Ok(Self::Csv),
            Some("xlsx") => Ok(Self::Xlsx),
            Some("json") => Ok(Self::Json),
            _ => Err(Failure::new(format!("cannot tell the form of {}", file.display()))
                .hint("end its name in .csv, .xlsx or .json, or give --format")),
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Xlsx => "xlsx",
            Self::Json => "json",
        }
    }
}

pub(crate) async fn run(arguments: ExportArguments, session: &Session) -> Outcome<Exit> {
    let format = FileFormat::of(arguments.format, &arguments.output)?;
    let resources = Resources::discover(&session.client).await?;
    let resource = resources.find(&arguments.kind)?;
    let asked = if arguments.template { "template" } else { "export" };
    let address = arguments.list.address(resource, session, [(asked, format.as_str().to_owned())]);
    let what = || format!("cannot export {}", resource.api.plural);
    let request = http::Request::get(address).body(Vec::new()).map_err(|error| Failure::new(what()).because(error))?;
    let mut stream = Box::pin(session.client.request_stream(request).await.attempt(what)?);
    let broken = |error: std::io::Error| {
        Failure::new(what())
            .because(error)
            .hint("the server broke off, so the file is not whole; its log says why")
            .with_exit(Exit::Unreachable)
    };
    let mut piece = vec![0; PIECE_BYTES];
    if arguments.output == Path::new("-") {
        let mut out = tokio::io::stdout();
        loop {
            let length = stream.read(&mut piece).await.map_err(broken)?;
            if length == 0 {
                out.flush().await?;
                return Ok(Exit::Done);
            }
            out.write_all(&piece[..length]).await?;
        }
    }
    let mut draft = Draft::new(&arguments.output).await?;
    loop {
        let length = stream.read(&mut piece).await.map_err(broken)?;
        if length == 0 {
            break;
        }
        draft.write(&piece[..length]).await?;
    }
    let bytes = draft.complete(&arguments.output).await?;
    output::note(&format!("{bytes} bytes written to {}", arguments.output.display()));
    if resource.api.group.is_empty() && resource.api.plural == "secrets" && !arguments.template {
        output::note("the values of Secrets are left out");
    }
    Ok(Exit::Done)
}

/// A file that takes its name when it is whole; until then, and if it never is, there is none.
struct Draft {
    path: PathBuf,
    file: tokio::fs::File,
    bytes: u64,
    complete: bool,
}

impl Draft {
    async fn new(target: &Path) -> Outcome<Self> {
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".{}", uuid::Uuid::new_v4().simple()));
        let path = PathBuf::from(name);
        let file =
            tokio::fs::OpenOptions::new().write(true).create_new(true).open(&path).await.map_err(|error| unwritable(target, error))?;
        Ok(Self { path, file, bytes: 0, complete: false })
    }

    async fn write(&mut self, piece: &[u8]) -> Outcome<()> {
        self.bytes += piece.len() as u64;
        self.file.write_all(piece).await.map_err(|error| unwritable(&self.path, error))
    }

    async fn complete(mut self, target: &Path) -> Outcome<u64> {
        self.file.flush().await.map_err(|error| unwritable(target, error))?;
        tokio::fs::rename(&self.path, target).await.map_err(|error| unwritable(target, error))?;
        self.complete = true;
        Ok(self.bytes)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.complete {
            // What failed before is what the person is told.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(format!("cannot write {}", path.display())).because(error).hint("check that its directory is there and has room")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_file_is_told_by_its_name_or_asked_for() {
        assert_eq!(FileFormat::of(None, Path::new("a.b/Jobs.XLSX")).ok(), Some(FileFormat::Xlsx));
        assert_eq!(FileFormat::of(Some(FileFormat::Csv), Path::new("-")).ok(), Some(FileFormat::Csv));
        assert!(FileFormat::of(None, Path::new("-")).is_err());
    }

    #[tokio::test]
    async fn a_file_that_is_not_whole_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("jobs.csv");
        let mut draft = Draft::new(&target).await.unwrap();
        draft.write(b"half").await.unwrap();
        drop(draft);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let mut draft = Draft::new(&target).await.unwrap();
        draft.write(b"whole").await.unwrap();
        assert_eq!(draft.complete(&target).await.ok(), Some(5));
        assert_eq!(std::fs::read(&target).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
