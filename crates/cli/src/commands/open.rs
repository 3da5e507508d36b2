//! `fermion open`: the address of an environment's app, with a way in for the browser.

use fermion_api::ai::DevEnvironment;
use fermion_api::ai::dev_environment::Phase;
use fermion_api::conditions;
use http::Uri;
use kube::Api;
use serde_json::Value;

use crate::connection::{Session, is_loopback};
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::{output, terminal};

/// Programs that open an address in a browser, best first.
const OPENERS: [&str; 3] = ["xdg-open", "open", "wslview"];

#[derive(Debug, clap::Args)]
#[command(after_help = "The address holds a ticket that lets one browser in, once, and soon expires. Treat it like a password.")]
pub(crate) struct OpenArguments {
    /// Name of the environment
    environment: String,
    /// Name of the app; the only one, or the first, when left out
    app: Option<String>,
    /// Only print the address
    #[arg(long)]
    print: bool,
}

pub(crate) async fn run(arguments: OpenArguments, session: &Session) -> Outcome<Exit> {
    let app = running_app(session, &arguments.environment, arguments.app.as_deref()).await?;
    let address = ticket(session, &arguments.environment, &app).await?;
    output::line(&address)?;
    if !arguments.print && terminal::is_interactive() && !launch(&address) {
        output::note("open it in a browser");
    }
    Ok(Exit::Done)
}

/// The name of an app of an environment that runs.
pub(crate) async fn running_app(session: &Session, environment: &str, app: Option<&str>) -> Outcome<String> {
    let api: Api<DevEnvironment> = Api::namespaced(session.client.clone(), &session.namespace);
    let found =
        api.get(environment).await.attempt(|| format!("cannot read environment `{environment}` in namespace `{}`", session.namespace))?;
    let names: Vec<&str> = found.spec.apps.iter().map(|app| app.name.as_str()).collect();
    let known = || format!("its apps are: {}", names.join(", "));
    let app = match app {
        Some(app) if names.contains(&app) => app,
        Some(app) => {
            return Err(Failure::new(format!("environment `{environment}` has no app `{app}`")).hint(known()).with_exit(Exit::Missing));
        }
        None => names.first().copied().ok_or_else(|| {
            Failure::new(format!("environment `{environment}` has no apps"))
                .hint("add one to spec.apps, such as {name: jupyter, kind: Jupyter}")
                .with_exit(Exit::Missing)
        })?,
    };
    let status = found.status.clone().unwrap_or_default();
    if status.phase != Phase::Running {
        let why = conditions::find(&status.conditions, "Ready").map_or_else(String::new, |ready| ready.message.clone());
        let failure = Failure::new(format!("environment `{environment}` is {}, not Running", format!("{:?}", status.phase).to_lowercase()));
        let failure = if why.is_empty() { failure } else { failure.why(why) };
        return Err(failure.hint(if found.spec.suspend {
            format!("start it: fermion get devenvironment {environment} shows it; set spec.suspend to false")
        } else {
            "wait a moment; `fermion status` says what it waits for".to_owned()
        }));
    }
    Ok(app.to_owned())
}

/// Asks the gateway for an address that lets a browser in.
async fn ticket(session: &Session, environment: &str, app: &str) -> Outcome<String> {
    let path = format!("/apps/{}/{environment}/{app}/ticket", session.namespace);
    let request = http::Request::post(path).body(Vec::new()).map_err(|error| Failure::new("cannot write the request").because(error))?;
    let answer: Value =
        session.client.request(request).await.attempt(|| format!("cannot get a ticket for app `{app}` of environment `{environment}`"))?;
    let url = answer["url"].as_str().unwrap_or_default();
    absolute(&session.server, url)
        .ok_or_else(|| Failure::new("the server's answer names no address of its own").why(format!("it said `{url}`")))
}

/// An address on the server itself; `None` when it leads elsewhere.
fn absolute(server: &Uri, url: &str) -> Option<String> {
    let root = server.to_string();
    let root = root.trim_end_matches('/');
    let elsewhere = url.starts_with("//") || url.chars().any(|c| c.is_control() || c == '\\');
    match url {
        _ if elsewhere => None,
        path if path.starts_with('/') => Some(format!("{root}{path}")),
        whole if whole.strip_prefix(root).is_some_and(|rest| rest.starts_with('/')) => Some(whole.to_owned()),
        whole if plain_root(server).is_some_and(|root| whole.strip_prefix(&root).is_some_and(|rest| rest.starts_with('/'))) => {
            Some(whole.to_owned())
        }
        _ => None,
    }
}

/// The same server over plain HTTP, which it speaks to this machine's browsers on the same port:
/// they have no reason to trust its certificate.
fn plain_root(server: &Uri) -> Option<String> {
    is_loopback(server).then(|| server.authority().map(|authority| format!("http://{authority}"))).flatten()
}

/// Starts a browser, where there is one.
fn launch(address: &str) -> bool {
    OPENERS.iter().any(|program| {
        let mut command = std::process::Command::new(program);
        command.arg(address).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_to_the_server_itself() {
        let server: Uri = "http://127.0.0.1:6780".parse().expect("a URI");
        let secure: Uri = "https://127.0.0.1:6780".parse().expect("a URI");
        assert_eq!(absolute(&secure, "http://127.0.0.1:6780/apps/x").as_deref(), Some("http://127.0.0.1:6780/apps/x"));
        assert_eq!(absolute(&secure, "http://127.0.0.1:6781/apps/x"), None);
        let remote: Uri = "https://example.org:6780".parse().expect("a URI");
        assert_eq!(absolute(&remote, "http://example.org:6780/apps/x"), None);
        assert_eq!(
            absolute(&server, "/apps/a/b/c/?fermion_ticket=x").as_deref(),
            Some("http://127.0.0.1:6780/apps/a/b/c/?fermion_ticket=x")
        );
        assert_eq!(absolute(&server, "http://127.0.0.1:6780/apps/").as_deref(), Some("http://127.0.0.1:6780/apps/"));
        for elsewhere in [
            "",
            "http://evil.example/",
            "//evil.example/",
            "http://127.0.0.1:6780.evil.example/",
            "javascript:x",
            "/\\evil.example",
            "/a\nb",
        ] {
            assert_eq!(absolute(&server, elsewhere), None, "{elsewhere}");
        }
    }
}
