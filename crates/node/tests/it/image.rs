//! Official images, built for real and run in containers. The first run builds them, which takes
//! minutes; later ones find them in the user's cache.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fermion_node::image::{Builder, BuilderConfig, BuiltImage, Recipe, Recipes};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::sandbox::{PATIENCE, Sandbox, wait_for};

const FOREVER: &[&str] = &["sleep", "infinity"];

fn builder(sandbox: &Sandbox) -> Builder {
    Builder::new(&BuilderConfig::new(&sandbox.home), sandbox.runtime().cri()).expect("a builder")
}

async fn ensure(builder: &Builder, name: &str) -> BuiltImage {
    match builder.ensure(name, |_| {}).await {
        Ok(built) => built,
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(error.as_ref())),
    }
}

#[tokio::test]
async fn the_base_image_holds_nothing_of_this_machine() {
    let sandbox = Sandbox::start().await;
    let builder = builder(&sandbox);
    let built = ensure(&builder, "base").await;
    let (pod, config) = sandbox.run_pod("base").await;
    let container = sandbox.run_container(&pod, config, &built.reference, FOREVER).await;
    let sources = sandbox
        .shell(
            &container,
            "cat /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/auth.conf.d/* 2>/dev/null || true; ls /var/lib/apt/lists",
        )
        .await;
    assert_eq!(sources, "");
    let version = sandbox.shell(&container, "python3 --version; . /etc/os-release; echo $VERSION_CODENAME").await;
    assert_eq!(version, "Python 3.11.2\nbookworm\n");
    sandbox.tear_down().await;
}

#[tokio::test]
async fn the_python_image_computes_and_serves_notebooks() {
    let sandbox = Sandbox::start().await;
    let builder = builder(&sandbox);
    let built = ensure(&builder, "python").await;
    let (pod, config) = sandbox.run_pod("python").await;
    let container = sandbox.run_container(&pod, config, &built.reference, FOREVER).await;
    let script = "python3 -c 'from sklearn.datasets import load_digits; print(load_digits().data.shape)'; jupyter lab --version";
    assert_eq!(sandbox.shell(&container, script).await, "(1797, 64)\n4.6.6\n");
    // Its packages were fetched with this machine's settings, of which none is left.
    let traces = "ls -d /etc/pip.conf /root/.npmrc /root/.cache /root/.config /run/fermion-build 2>/dev/null || true;
        grep -rlI fermion-build /etc /opt /root /var || true";
    assert_eq!(sandbox.shell(&container, traces).await, "");
    sandbox.tear_down().await;
}

#[tokio::test]
async fn the_llm_image_streams_a_chat_answer() {
    let sandbox = Sandbox::start().await;
    let builder = builder(&sandbox);
    let built = ensure(&builder, "llm").await;
    let (pod, config) = sandbox.run_pod("llm").await;
    let address = sandbox.pod_status(&pod).await.network.expect("a network").ip;
    sandbox.run_container(&pod, config, &built.reference, &["fermion-llm-serve", "--port", "8080"]).await;
    wait_for("the model is loaded", || async {
        let (head, _) = request(&address, "GET /health", "").await?;
        head.contains(" 200 ").then_some(())
    })
    .await;
    let question = r#"{"stream": true, "temperature": 0, "max_tokens": 20, "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "What is the capital of France?"}]}"#;
    let (head, lines) = request(&address, "POST /v1/chat/completions", question).await.expect("an answer");
    assert!(head.contains(" 200 "), "{head}");
    let events: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("data: ")).collect();
    let words = events.iter().filter_map(|event| {
        let event: serde_json::Value = serde_json::from_str(event).ok()?;
        Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned())
    });
    let words: Vec<String> = words.collect();
    assert!(words.len() > 3, "it comes in pieces: {words:?}");
    assert!(words.concat().contains("Paris"), "{words:?}");
    assert_eq!(events.last(), Some(&"[DONE]"));
    sandbox.tear_down().await;
}

/// The head and the lines of a plain HTTP answer; nothing while no one listens.
async fn request(address: &str, what: &str, body: &str) -> Option<(String, Vec<String>)> {
    let exchange = async {
        let mut stream = TcpStream::connect((address, 8080)).await.ok()?;
        let length = body.len();
        let text = format!("{what} HTTP/1.1\r\nHost: model\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).await.ok()?;
        let mut lines = BufReader::new(stream).lines();
        let head = lines.next_line().await.ok()??;
        let mut rest = Vec::new();
        while let Ok(Some(line)) = lines.next_line().await {
            rest.push(line);
        }
        Some((head, rest))
    };
    tokio::time::timeout(PATIENCE, exchange).await.ok()?
}

#[tokio::test]
async fn an_image_is_made_once_for_all_who_ask_and_again_when_it_was_removed() {
    use fermion_node::cri::v1;
    let sandbox = Sandbox::start().await;
    let builder = builder(&sandbox);
    let asked = (0..8).map(|_| {
        let builder = builder.clone();
        tokio::spawn(async move { ensure(&builder, "base").await })
    });
    let built: Vec<BuiltImage> = futures::future::join_all(asked).await.into_iter().map(|one| one.expect("it is built")).collect();
    assert!(built.windows(2).all(|pair| pair[0] == pair[1]));
    let listed = builder.list();
    let base = listed.iter().find(|image| image.name == "base").expect("it is listed");
    assert_eq!(base.built.as_ref(), built.first());

    let image = Some(v1::ImageSpec { image: base.reference.clone(), ..Default::default() });
    let cri = sandbox.runtime().cri();
    cri.remove_image(v1::RemoveImageRequest { image: image.clone() }).await.expect("it can be removed");
    let steps = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&steps);
    let again = builder.ensure("base", move |now| heard.lock().expect("no panic").push(now.total)).await.expect("it comes back");
    assert_eq!(Some(&again), built.first());
    assert!(steps.lock().expect("no panic").iter().all(|total| *total <= 1), "it is not built again: {steps:?}");
    let request = v1::ImageStatusRequest { image, verbose: false };
    assert!(cri.image_status(request).await.expect("it answers").image.is_some());
    sandbox.tear_down().await;
}

#[tokio::test]
async fn a_failed_build_names_the_step_the_reason_and_what_to_do() {
    let sandbox = Sandbox::start().await;
    let base = Recipes::embedded().expect("the official recipes").get("base").expect("the base").clone();
    let text = "description = 'd'\nfrom = 'base'\napt = ['no-such-package-anywhere']";
    let broken = Recipe::parse("broken", text, BTreeMap::new()).expect("a recipe");
    let recipes = Recipes::new(vec![base, broken]).expect("recipes");
    let config = BuilderConfig::new(&sandbox.home);
    let builder = Builder::with_recipes(&config, sandbox.runtime().cri(), recipes).expect("a builder");
    let error = builder.ensure("broken", |_| {}).await.expect_err("there is no such package");
    let text = error.to_string();
    assert!(text.contains("image broken could not be built: installing Debian packages failed"), "{text}");
    assert!(text.contains("apt-get update"), "{text}");
    let reason = std::error::Error::source(error.as_ref()).expect("a reason").to_string();
    assert!(reason.contains("Unable to locate package no-such-package-anywhere"), "{reason}");
    // Nothing of the build is left, except for what it said.
    let work = sandbox.home.join("images/work");
    wait_for("the build's folder is removed", || async { work.read_dir().ok()?.next().is_none().then_some(()) }).await;
    let log = std::fs::read_to_string(sandbox.home.join("logs/images/broken.log")).expect("a log");
    assert!(log.contains("no-such-package-anywhere"));
    sandbox.tear_down().await;
}

/// What is left when the server is killed in the middle of a build, which ends none of it.
#[tokio::test]
async fn the_next_server_ends_what_is_left_of_a_build() {
    let sandbox = Sandbox::start().await;
    let folder = sandbox.home.join("images/work/base-0");
    let leave_one = || {
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut command = std::process::Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--wd"]).arg(&folder).args(["sleep", "1000"]);
        command.spawn().expect("unshare runs")
    };
    let mut build = leave_one();
    let builder = builder(&sandbox);
    assert!(!build.wait().expect("it has ended").success());
    assert!(!folder.exists());
    drop(builder);
    let mut build = leave_one();
    let report = sandbox.tear_down().await;
    assert!(!build.wait().expect("it has ended").success());
    assert_eq!(report.killed, 1, "{report:?}");
}

#[tokio::test]
async fn a_name_without_a_recipe_is_refused_with_those_there_are() {
    let sandbox = Sandbox::start().await;
    let builder = builder(&sandbox);
    assert_eq!(builder.is_official("fermion.dev/python:latest"), Some("python"));
    assert_eq!(builder.is_official("fermion.dev/python"), Some("python"));
    for other in ["python", "fermion.dev/pause:1", "fermion.dev/none", "docker.io/library/python:latest", "fermion.dev/python:1"] {
        assert_eq!(builder.is_official(other), None, "{other}");
    }
    let asked = tokio::time::timeout(Duration::from_secs(10), builder.ensure("none", |_| {}));
    let error = asked.await.expect("at once").expect_err("there is no such image");
    assert!(error.to_string().contains("base, llm, python"), "{error}");
    sandbox.tear_down().await;
}
