//! `fermion run`: a command as a training job, followed to its end.

pub(crate) mod follow;
mod submit;

use fermion_api::ai::TrainingJob;
use fermion_api::ai::training_job::Framework;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};

use self::submit::{Assignment, Mount};
use crate::connection::Session;
use crate::failure::{Attempt as _, Exit, Outcome};
use crate::output;

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
The exit code is the job's. Ctrl-C stops following; the job goes on.
Examples:
  fermion run -- python -c 'print(6 * 7)'
  fermion run --replicas 2 --framework pytorch --volume data:/data:ro -- python train.py")]
pub(crate) struct RunArguments {
    /// Name of the job; made from the command when left out
    #[arg(long)]
    name: Option<String>,
    /// Image to run it in
    #[arg(long, default_value = "fermion.dev/python:latest")]
    image: String,
    /// Processors of each replica, such as 500m or 4
    #[arg(long, default_value = "500m", value_parser = submit::quantity)]
    cpu: String,
    /// Memory of each replica, such as 512Mi or 8Gi
    #[arg(long, default_value = "512Mi", value_parser = submit::quantity)]
    memory: String,
    /// How many replicas; they start together
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    replicas: i32,
    /// Whose variables for rank and peers the command expects
    #[arg(long, value_enum, default_value = "plain")]
    framework: FrameworkArgument,
    /// A variable for the command; repeat for more
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<Assignment>,
    /// A volume claim to mount; repeat for more
    #[arg(long, value_name = "CLAIM:/PATH[:ro]")]
    volume: Vec<Mount>,
    /// Queue to wait in
    #[arg(long, default_value = "default")]
    queue: String,
    /// Submit it and do not follow
    #[arg(short, long)]
    detach: bool,
    /// Delete the job when it has ended
    #[arg(long, conflicts_with = "detach")]
    rm: bool,
    /// The command, after --
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FrameworkArgument {
    /// Only FERMION_… variables
    Plain,
    /// Also MASTER_ADDR, RANK, WORLD_SIZE, as torch.distributed reads them
    Pytorch,
}

impl From<FrameworkArgument> for Framework {
    fn from(argument: FrameworkArgument) -> Self {
        match argument {
            FrameworkArgument::Plain => Self::Plain,
            FrameworkArgument::Pytorch => Self::PyTorch,
        }
    }
}

pub(crate) async fn run(arguments: RunArguments, session: &Session) -> Outcome<Exit> {
    let api: Api<TrainingJob> = Api::namespaced(session.client.clone(), &session.namespace);
    let name = arguments.name.clone().unwrap_or_else(|| submit::name_from(&arguments.command, uuid::Uuid::new_v4()));
    let job = submit::job(&arguments, &name)?;
    let job = api
        .create(&PostParams::default(), &job)
        .await
        .attempt(|| format!("cannot submit job `{name}` in namespace `{}`", session.namespace))?;
    if arguments.detach {
        output::line(&job.name_any())?;
        return Ok(Exit::Done);
    }
    output::note(&format!("job {} in namespace {}", output::plain(&name), session.namespace));
    let exit = follow::to_the_end(session, &job).await?;
    if arguments.rm && exit != Exit::Interrupted {
        api.delete(&name, &DeleteParams::default()).await.attempt(|| format!("cannot delete job `{name}`"))?;
    }
    Ok(exit)
}
