//! `fermion login`: keeps a server's address and a token that the server has confirmed.

use std::io::{IsTerminal as _, Read as _};

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use kube::Api;
use kube::api::PostParams;

use crate::connection::{ConnectionArguments, Login, Session, Token, server_address, write_private};
use crate::failure::{Attempt as _, Exit, Failure, Outcome};
use crate::{output, terminal};

/// Nothing longer is read as a token.
const INPUT_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, clap::Args)]
#[command(after_help = "The token is asked for, or read from standard input, --token-file or FERMION_TOKEN.")]
pub(crate) struct LoginArguments {
    /// Address of the server, such as http://127.0.0.1:6780
    #[arg(value_name = "SERVER")]
    address: String,
}

pub(crate) async fn run(arguments: LoginArguments, connection: &ConnectionArguments) -> Outcome<Exit> {
    let server = server_address(&arguments.address)?;
    let token = match (&connection.token_file, Token::from_environment()?) {
        (Some(file), _) => Token::from_file(file)?,
        (None, Some(token)) => token,
        (None, None) => ask()?,
    };
    let session = Session::new(server.clone(), Some(token.clone()), String::new())?;
    let user = who_am_i(&session).await.attempt(|| format!("cannot log in at {server}"))?;
    let login = Login { server: server.clone(), token: Some(token), namespace: connection.namespace.clone() };
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

/// Asks for the token without showing it, or reads it from a pipe.
fn ask() -> Outcome<Token> {
    let unreadable = |error: std::io::Error| Failure::new("cannot read the token").because(error);
    let mut text = String::new();
    if std::io::stdin().is_terminal() {
        eprint!("Token: ");
        let hidden = terminal::Mode::hidden().map_err(unreadable)?;
        let read = std::io::stdin().read_line(&mut text);
        drop(hidden);
        eprintln!();
        read.map_err(unreadable)?;
    } else {
        std::io::stdin().take(INPUT_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    }
    Token::new(&text).ok_or_else(|| {
        Failure::new("no token was given")
            .why("a token is one line of printable ASCII without spaces")
            .hint("the first administrator's token is in $FERMION_HOME/kubeconfig on the server")
    })
}
