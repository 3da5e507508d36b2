//! `fermion delete`.

use kube::api::{DeleteParams, DynamicObject};
use kube::{Api, ResourceExt as _};

use super::apply::{Source, read_objects};
use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::output;
use crate::resources::{Resource, Resources};

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArguments {
    /// Kind, such as trainingjob
    #[arg(required_unless_present = "files", requires = "names")]
    kind: Option<String>,
    /// Names
    names: Vec<String>,
    /// Delete what these files name instead: a file, a directory, or - for standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE", conflicts_with = "kind")]
    files: Vec<Source>,
    /// It is fine when an object does not exist
    #[arg(long)]
    ignore_not_found: bool,
}

pub(crate) async fn run(arguments: DeleteArguments, session: &Session) -> Outcome<Exit> {
    let resources = Resources::discover(&session.client).await?;
    let mut doomed: Vec<(&Resource, Option<String>, String)> = Vec::new();
    if let Some(kind) = &arguments.kind {
        let resource = resources.find(kind)?;
        doomed.extend(arguments.names.iter().map(|name| (resource, None, name.clone())));
    }
    for object in read_objects(&arguments.files)? {
        let types = object.types.clone().unwrap_or_default();
        doomed.push((resources.of_object(&types.api_version, &types.kind)?, object.namespace(), object.name_any()));
    }
    // What was made last goes first: the reverse of the order in the files.
    if arguments.kind.is_none() {
        doomed.reverse();
    }
    for (resource, namespace, name) in doomed {
        delete(session, resource, namespace.as_deref(), &name, arguments.ignore_not_found).await?;
    }
    Ok(Exit::Done)
}

async fn delete(session: &Session, resource: &Resource, namespace: Option<&str>, name: &str, ignore_missing: bool) -> Outcome<()> {
    let api = dynamic_api(session, resource, namespace);
    let title = resource.title();
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => output::line(&format!("{title}/{name} deleted")),
        Err(kube::Error::Api(status)) if status.is_not_found() && ignore_missing => Ok(()),
        Err(error) => Err::<(), _>(error).attempt(|| format!("cannot delete {title} `{name}`")),
    }
}

/// The objects of a kind, in a namespace where it has one.
pub(crate) fn dynamic_api(session: &Session, resource: &Resource, namespace: Option<&str>) -> Api<DynamicObject> {
    if resource.namespaced {
        Api::namespaced_with(session.client.clone(), namespace.unwrap_or(&session.namespace), &resource.api)
    } else {
        Api::all_with(session.client.clone(), &resource.api)
    }
}

/// A name that goes into a request's path.
pub(crate) fn check_name(name: &str) -> Outcome<()> {
    let fine =
        !name.is_empty() && name != "." && name != ".." && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
    if fine {
        Ok(())
    } else {
        Err(Failure::new(format!("`{name}` is not a name")).hint("names have letters, digits, `-`, `.`, `_` and `:`"))
    }
}
