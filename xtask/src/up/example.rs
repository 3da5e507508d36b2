//! The example pipeline: train, look, serve, account. Everything it makes stays.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::fermion::{Fermion, NAMESPACE};
use crate::console::{self, Console};
use crate::workspace::root;

/// How long the first start of something may take: images are built then.
const FIRST_START: &str = "30m";
/// Programs that the pods read from a ConfigMap.
const PROGRAMS: [&str; 2] = ["train.py", "serve.py"];
/// The jobs of `train.yaml`.
const JOBS: [&str; 2] = ["digits", "digits-ddp"];
/// What the drawings in `digits-sample.json` are of.
const SAMPLE_DIGITS: [i64; 3] = [5, 6, 5];
/// What is run in the notebook's kernel.
const CELL: &str =
    "import sklearn.datasets as d, platform; print(f'{d.load_digits().data.shape[0]} digits, Python {platform.python_version()}')";
/// What the language model is asked.
const QUESTION: &str = "In one sentence: what is machine learning?";
const ADVICE: &str = "`fermion -n examples status` and `fermion -n examples get pods -o wide` say more; then run `cargo xtask up` again";

/// What the example came to.
#[derive(Debug, Default)]
pub(super) struct Results {
    parts: Vec<(&'static str, Vec<String>)>,
    usage: String,
}

impl Results {
    pub(super) fn print(&self) -> Result<()> {
        for (title, lines) in &self.parts {
            console::heading(title)?;
            for line in lines {
                console::answer(line)?;
            }
        }
        console::heading("4 Account: what each pod held")?;
        console::answer(self.usage.trim_end())
    }
}

pub(super) fn run(console: &Console, fermion: &Fermion) -> Result<Results> {
    console.step("the example: namespace, programs and volume");
    apply(fermion, "namespace.yaml")?;
    fermion.tell(&["apply", "-f", "-"], &programs()?.to_string(), ADVICE)?;
    apply(fermion, "volume.yaml")?;
    let mut results = Results::default();
    results.parts.push(("1 Train: the digits of scikit-learn", train(console, fermion)?));
    results.parts.push(("2 Look: JupyterLab through the platform's proxy", look(console, fermion)?));
    results.parts.push(("3 Serve: the model just trained, and a language model", serve(console, fermion)?));
    results.usage = fermion.ask(&["usage"], ADVICE)?;
    Ok(results)
}

fn apply(fermion: &Fermion, file: &str) -> Result<()> {
    let path = root().join("examples").join(file);
    let path = path.to_str().context("the source tree's path is not UTF-8")?;
    fermion.ask(&["apply", "-f", path], ADVICE).map(drop)
}

/// The programs as a ConfigMap.
fn programs() -> Result<Value> {
    let mut data = serde_json::Map::new();
    for name in PROGRAMS {
        let path = root().join("examples/digits").join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        data.insert(name.to_owned(), Value::String(text));
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "digits", "namespace": NAMESPACE},
        "data": data,
    }))
}

fn phase(object: &Value) -> &str {
    object["status"]["phase"].as_str().unwrap_or("Pending")
}

fn train(console: &Console, fermion: &Fermion) -> Result<Vec<String>> {
    apply(fermion, "train.yaml")?;
    for name in JOBS {
        if phase(&fermion.object("trainingjob", name)?) == "Failed" {
            console.step(&format!("job {name} failed before; running it anew"));
            fermion.ask(&["delete", "trainingjob", name], ADVICE)?;
            fermion.ask(&["wait", &format!("job/{name}"), "--gone", "--timeout", "2m"], ADVICE)?;
        }
    }
    apply(fermion, "train.yaml")?;
    let mut lines = Vec::new();
    for name in JOBS {
        let mut job = fermion.object("trainingjob", name)?;
        if phase(&job) != "Succeeded" {
            console.step(&format!("following job {name}"));
            fermion.show(&["follow", name], ADVICE)?;
            job = fermion.object("trainingjob", name)?;
        }
        if phase(&job) != "Succeeded" {
            bail!("job {name} is {}, not Succeeded\n  {ADVICE}", phase(&job));
        }
        lines.push(format!("{name:<14} {}", metrics(&job)));
    }
    Ok(lines)
}

/// The newest metrics of a job in one line.
fn metrics(job: &Value) -> String {
    let workers: i64 = job["spec"]["roles"].as_array().into_iter().flatten().filter_map(|role| role["replicas"].as_i64()).sum();
    let mut line = format!("{workers} {}", if workers == 1 { "worker: " } else { "workers:" });
    for (name, value) in job["status"]["metrics"].as_object().into_iter().flatten() {
        // Writing to a String cannot fail.
        let _ = match value.as_f64() {
            Some(number) if number.fract() != 0.0 => write!(line, " {name}={number:.4}"),
            _ => write!(line, " {name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
        };
    }
    line
}

fn look(console: &Console, fermion: &Fermion) -> Result<Vec<String>> {
    apply(fermion, "notebook.yaml")?;
    console.step("waiting for the environment `notebook`");
    fermion.show(&["wait", "env/notebook", "--timeout", FIRST_START], ADVICE)?;
    let said = fermion.ask(&["notebook", "run", "notebook", CELL], ADVICE)?;
    let terminal = fermion.ask(&["exec", "notebook", "--", "sh", "-c", "echo terminal as $(id -un) in $PWD"], ADVICE)?;
    let address = fermion.ask(&["open", "notebook", "--print"], ADVICE)?;
    Ok(vec![
        format!("a kernel says   {}", said.trim()),
        format!("a shell says    {}", terminal.trim()),
        format!("in a browser    {}", address.trim()),
    ])
}

fn serve(console: &Console, fermion: &Fermion) -> Result<Vec<String>> {
    apply(fermion, "serve.yaml")?;
    apply(fermion, "chat.yaml")?;
    console.step("waiting for the service `digits`");
    fermion.show(&["wait", "service/digits", "--timeout", FIRST_START], ADVICE)?;
    let sample = fs::read_to_string(root().join("examples/digits-sample.json")).context("cannot read examples/digits-sample.json")?;
    let predicted = fermion.ask(&["call", "digits", "/predict", "--data", &sample], ADVICE)?;
    console.step("waiting for the service `chat`");
    fermion.show(&["wait", "service/chat", "--timeout", FIRST_START], ADVICE)?;
    console.step(&format!("asking the language model: {QUESTION}"));
    fermion.show(&["chat", "chat", QUESTION, "--max-tokens", "80"], ADVICE)?;
    Ok(vec![
        format!(
            "digits, 2 replicas   POST /services/{NAMESPACE}/digits/predict: drawings of {SAMPLE_DIGITS:?} are taken for {:?}",
            predictions(&predicted)?
        ),
        format!("chat                 /services/{NAMESPACE}/chat/v1 speaks OpenAI's chat API; its answer stands above"),
    ])
}

/// What the service takes the drawings for.
fn predictions(answer: &str) -> Result<Vec<i64>> {
    let answer: Value = serde_json::from_str(answer).context("what the service answered is not JSON")?;
    let digits: Vec<i64> = answer["predictions"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
    if digits.len() == SAMPLE_DIGITS.len() {
        Ok(digits)
    } else {
        bail!("the service answered {answer} to {} drawings", SAMPLE_DIGITS.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_stand_in_one_line() {
        let job = json!({
            "spec": {"roles": [{"name": "worker", "replicas": 2}]},
            "status": {"metrics": {"accuracy": 0.973_611_1, "epoch": 20, "kind": "test"}},
        });
        assert_eq!(metrics(&job), "2 workers: accuracy=0.9736 epoch=20 kind=test");
    }
}
