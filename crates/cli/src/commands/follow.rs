//! `fermion follow`: takes up a job that was submitted elsewhere or earlier.

use fermion_api::ai::TrainingJob;
use kube::Api;

use super::run::follow::to_the_end;
use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Outcome};

#[derive(Debug, clap::Args)]
#[command(after_help = "The exit code is the job's. Ctrl-C stops following; the job goes on.")]
pub(crate) struct FollowArguments {
    /// Name of the job
    job: String,
}

pub(crate) async fn run(arguments: FollowArguments, session: &Session) -> Outcome<Exit> {
    let name = arguments.job.strip_prefix("job/").unwrap_or(&arguments.job);
    super::delete::check_name(name)?;
    let api: Api<TrainingJob> = Api::namespaced(session.client.clone(), &session.namespace);
    let job = api.get(name).await.attempt(|| format!("cannot read job `{name}` in namespace `{}`", session.namespace))?;
    to_the_end(session, &job).await
}
