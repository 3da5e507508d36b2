//! The training job that stands for a command.

use std::path::Path;
use std::str::FromStr;

use fermion_api::ai::NAME_LENGTH_MAX;
use fermion_api::ai::TrainingJob;
use fermion_api::ai::training_job::Framework;
use serde_json::json;
use uuid::Uuid;

use super::RunArguments;
use crate::failure::{Failure, Outcome};

/// Letters of a made-up name that come from the command.
const STEM_LENGTH_MAX: usize = 20;
/// Letters that keep two made-up names apart.
const SUFFIX_LENGTH: usize = 6;
/// The role of all replicas.
const ROLE: &str = "worker";

/// `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    name: String,
    value: String,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("the part before `=` is not a variable's name".to_owned());
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// `CLAIM:/PATH[:ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    claim: String,
    path: String,
    read_only: bool,
}

impl FromStr for Mount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (claim, rest) = text.split_once(':').ok_or("write CLAIM:/PATH or CLAIM:/PATH:ro")?;
        let (path, read_only) = match rest.strip_suffix(":ro") {
            Some(path) => (path, true),
            None => (rest, false),
        };
        if claim.is_empty() || !path.starts_with('/') || path.contains(':') {
            return Err("write CLAIM:/PATH or CLAIM:/PATH:ro, with an absolute path".to_owned());
        }
        Ok(Self { claim: claim.to_owned(), path: path.to_owned(), read_only })
    }
}

/// Checks an amount before the server does, to tell which option is wrong.
pub(super) fn quantity(text: &str) -> Result<String, String> {
    fermion_api::quantity::parse(text)
        .and_then(|amount| if amount > 0 { Ok(text.to_owned()) } else { Err("must be above zero".to_owned()) })
}

/// A name for a job that was given none: `python-1a2b3c`.
pub(super) fn name_from(command: &[String], unique: Uuid) -> String {
    let program = command.first().map(Path::new).and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    let letters = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let stem: String = program.chars().map(letters).take(STEM_LENGTH_MAX).collect();
    let stem = stem.trim_matches('-');
    // A name starts with a letter, so that the host names made from it are valid.
    let stem = if stem.starts_with(|c: char| c.is_ascii_lowercase()) { stem } else { "run" };
    let suffix = unique.simple().to_string();
    format!("{stem}-{}", &suffix[..SUFFIX_LENGTH])
}

/// The job.
pub(super) fn job(arguments: &RunArguments, name: &str) -> Outcome<TrainingJob> {
    if name.len() > NAME_LENGTH_MAX {
        return Err(
            Failure::new(format!("the name `{name}` is too long")).why(format!("a job's name has at most {NAME_LENGTH_MAX} characters"))
        );
    }
    let mounts = arguments.volume.iter().enumerate();
    let volumes: Vec<_> = mounts
        .clone()
        .map(|(index, mount)| {
            json!({"name": format!("volume-{index}"), "persistentVolumeClaim": {"claimName": mount.claim, "readOnly": mount.read_only}})
        })
        .collect();
    let volume_mounts: Vec<_> = mounts
        .map(|(index, mount)| json!({"name": format!("volume-{index}"), "mountPath": mount.path, "readOnly": mount.read_only}))
        .collect();
    let amounts = json!({"cpu": arguments.cpu, "memory": arguments.memory});
    let env: Vec<_> = arguments.env.iter().map(|variable| json!({"name": variable.name, "value": variable.value})).collect();
    let job = json!({
        "apiVersion": "ai.fermion.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {
            "queue": arguments.queue,
            "framework": Framework::from(arguments.framework),
            "roles": [{
                "name": ROLE,
                "replicas": arguments.replicas,
                "template": {"spec": {
                    "containers": [{
                        "name": "main",
                        "image": arguments.image,
                        "command": arguments.command,
                        "env": env,
                        "resources": {"requests": amounts, "limits": amounts},
                        "volumeMounts": volume_mounts,
                    }],
                    "volumes": volumes,
                }},
            }],
        },
    });
    serde_json::from_value(job).map_err(|error| Failure::new("cannot write the job").because(error))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArguments,
    }

    #[test]
    fn options_become_a_job() {
        let line = Line::parse_from([
            "run",
            "--replicas",
            "2",
            "--framework",
            "pytorch",
            "--env",
            "A=b=c",
            "--volume",
            "data:/data:ro",
            "--memory",
            "1Gi",
            "--",
            "python",
            "-c",
            "print('hello')",
        ]);
        let job = job(&line.run, "digits").expect("a job");
        insta::assert_snapshot!(serde_yaml::to_string(&job).expect("YAML"));
    }

    #[test]
    fn names_are_made_from_the_program() {
        let name = |program: &str| name_from(&[program.to_owned()], Uuid::nil());
        assert_eq!(name("/usr/bin/Python3"), "python3-000000");
        assert_eq!(name("7z"), "run-000000");
        assert_eq!(name("./a_b.sh"), "a-b-sh-000000");
        assert_eq!(name("算"), "run-000000");
    }

    #[test]
    fn wrong_options_say_how_to_write_them() {
        for text in ["data", "data:relative", ":/x", "data:/x:rw"] {
            assert!(text.parse::<Mount>().is_err(), "{text}");
        }
        for text in ["A", "=b", "A B=c"] {
            assert!(text.parse::<Assignment>().is_err(), "{text}");
        }
        assert!(quantity("0").is_err());
        assert!(quantity("lots").is_err());
    }
}
