//! `fermion login`: keeps a server's address and a token that the server has confirmed.

use std::io::{IsTerminal as _, Read as _};

use http::Uri;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use kube::Api;
use kube::api::PostParams;

use crate::connection::{Authority, ConnectionArguments, Login, Session, Token, server_address, travels_safely, write_private};
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::{output, terminal};

/// Nothing longer is read as a token.
const INPUT_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The token, or with --user the password, is asked for or read from standard input.
A token can also come from --token-file or FERMION_TOKEN.")]
pub(crate) struct LoginArguments {
    /// Address of the server, such as https://127.0.0.1:6780
    #[arg(value_name = "SERVER")]
    address: String,
    /// Sign in with a password as this user, instead of a token
    #[arg(short, long, value_name = "NAME", conflicts_with = "token_file")]
    user: Option<String>,
}

pub(crate) async fn run(arguments: LoginArguments, connection: &ConnectionArguments) -> Outcome<Exit> {
    let server = server_address(&arguments.address)?;
    let authority = connection.authority_of(&server)?;
    let token = match (&arguments.user, &connection.token_file, Token::from_environment()?) {
        (Some(user), ..) => sign_in(&server, authority.as_ref(), user, &ask("Password")?).await?,
        (None, Some(file), _) => Token::from_file(file)?,
        (None, None, Some(token)) => token,
        (None, None, None) => Token::new(&ask("Token")?).ok_or_else(|| {
            Failure::new("no token was given")
                .why("a token is one line of printable ASCII without spaces")
                .hint("--user NAME signs in with a password; the server's own administrator has a token in $FERMION_HOME/kubeconfig")
        })?,
    };
    let session = Session::new(server.clone(), authority.as_ref(), Some(token.clone()), String::new())?;
    let user = who_am_i(&session).await.attempt(|| format!("cannot log in at {server}"))?;
    let login = Login { server: server.clone(), authority, token: Some(token), namespace: connection.namespace.clone() };
    let file = connection.login_file()?;
    write_private(&file, &login.to_yaml()?)?;
    output::line(&format!(
        "logged in at {server} as {}",
        user.username.as_deref().map_or_else(|| "an unnamed user".to_owned(), output::plain)
    ))?;
    output::note(&format!("kept in {}; kubectl reads it too: export KUBECONFIG={}", file.display(), file.display()));
    Ok(Exit::Done)
}

/// Asks the server whom it takes us for.
pub(crate) async fn who_am_i(session: &Session) -> Result<UserInfo, kube::Error> {
    let reviews: Api<SelfSubjectReview> = Api::all(session.client.clone());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    Ok(review.status.and_then(|status| status.user_info).unwrap_or_default())
}

/// Exchanges a password for a token.
async fn sign_in(server: &Uri, authority: Option<&Authority>, user: &str, password: &str) -> Outcome<Token> {
    if !travels_safely(server) {
        return Err(Failure::new(format!("will not send a password to {server}"))
            .why("it would travel over the network in plain text")
            .hint("write https:// instead"));
    }
    let session = Session::new(server.clone(), authority, None, String::new())?;
    let body = serde_json::json!({"username": user, "password": password}).to_string();
    let request = http::Request::post("/auth/sign-in")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.into_bytes())
        .map_err(|error| Failure::new("cannot write the request").because(error))?;
    let answer: serde_json::Value = session.client.request(request).await.attempt(|| format!("cannot sign in at {server} as {user}"))?;
    Token::new(answer["token"].as_str().unwrap_or_default()).ok_or_else(|| Failure::new("the server's answer holds no token"))
}

/// Asks for a secret without showing it, or reads it from a pipe.
fn ask(name: &str) -> Outcome<String> {
    let unreadable = |error: std::io::Error| Failure::new(format!("cannot read the {}", name.to_lowercase())).because(error);
    let mut text = String::new();
    if std::io::stdin().is_terminal() {
        eprint!("{name}: ");
        let hidden = terminal::Mode::hidden().map_err(unreadable)?;
        let read = std::io::stdin().read_line(&mut text);
        drop(hidden);
        eprintln!();
        read.map_err(unreadable)?;
    } else {
        std::io::stdin().take(INPUT_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
