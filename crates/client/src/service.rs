//! What an InferenceService serves, asked through the gateway.

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube::client::Body;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Client;

/// The largest answer that is read whole, in bytes. [`Service::send`] passes on longer ones.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;
/// How much of a refusal's text is kept, in characters.
const REFUSAL_CHARACTERS_MAX: usize = 1_000;
/// The longest name of an object.
const NAME_BYTES_MAX: usize = 253;

/// Why a service gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The name is not one that a service can have, or the path is none.
    #[error("there can be no service {service:?} with the address {path:?}: addresses begin with a slash")]
    Address {
        /// The service.
        service: String,
        /// What was to be asked for.
        path: String,
    },
    /// The question cannot be written as JSON, or the answer not be read as what was expected.
    #[error("cannot {attempt} service {service} as JSON")]
    Json {
        /// What was attempted: to ask, or to read the answer of.
        attempt: &'static str,
        /// The service.
        service: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The server cannot be reached, or the connection was lost.
    #[error("lost the connection to service {service}, or got none")]
    Connection {
        /// The service.
        service: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The gateway or the service refused: who asks may not, no replica is ready, the request is wrong.
    #[error("service {service} answers {code}: {said}")]
    Refused {
        /// The service.
        service: String,
        /// The status code.
        code: StatusCode,
        /// What was said.
        said: String,
    },
    /// The answer is larger than [`ANSWER_BYTES_MAX`].
    #[error("service {service} answers more than {ANSWER_BYTES_MAX} bytes")]
    TooLarge {
        /// The service.
        service: String,
    },
}

/// An InferenceService as its users see it: an address, and what it serves below that.
///
/// Who asks needs the verb `create` on `inferenceservices/proxy`. The token stays with the gateway;
/// the model never sees it.
///
/// ```
/// # fermion_testkit::with_server(async |server| {
/// # let client = fermion_client::Client::from_home(server.home()).await?;
/// # server.serve_model("digits").await?;
/// use fermion_client::AskError;
/// use serde_json::{Value, json};
///
/// let answer: Value = client.service("digits").post("/predict", &json!({"pixels": [0, 255]})).await?;
/// assert_eq!(answer, json!({"address": "/predict", "question": {"pixels": [0, 255]}}));
///
/// let refused = client.service("nothing").post::<_, Value>("/predict", &json!({})).await.unwrap_err();
/// assert!(matches!(refused, AskError::Refused { code, .. } if code == 404), "{refused}");
/// # Ok(()) });
/// ```
#[derive(Clone)]
pub struct Service {
    kube: kube::Client,
    namespace: String,
    name: String,
}

impl Client {
    /// An InferenceService of the namespace, to be asked. For the object itself see
    /// [`Client::services`].
    pub fn service(&self, name: impl Into<String>) -> Service {
        Service { kube: self.kube(), namespace: self.namespace().to_owned(), name: name.into() }
    }
}

impl Service {
    /// Asks in JSON and reads the answer whole.
    ///
    /// # Errors
    /// When there is no answer, or it is another than what is expected.
    pub async fn post<Q, A>(&self, path: &str, question: &Q) -> Result<A, AskError>
    where
        Q: Serialize + ?Sized,
        A: DeserializeOwned,
    {
        let json = |attempt| move |source| AskError::Json { attempt, service: self.name.clone(), source };
        let question = serde_json::to_vec(question).map_err(json("ask"))?;
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json").header(header::ACCEPT, "application/json");
        let request = request.body(Body::from(question)).map_err(|_| self.no_address(path))?;
        let answer = self.send(request).await?.into_body();
        serde_json::from_slice(&self.whole(answer).await?).map_err(json("read the answer of"))
    }

    /// Sends any request; the answer comes as it is made, so that what a model says can be read word
    /// by word. The request's address is a path below the service's own, with its query.
    ///
    /// ```
    /// # fermion_testkit::with_server(async |server| {
    /// # let client = fermion_client::Client::from_home(server.home()).await?;
    /// # server.serve_model("chat").await?;
    /// use http::Request;
    /// use http_body_util::BodyExt as _;
    ///
    /// let request = Request::post("/words?n=2").body("one two".to_owned().into_bytes().into())?;
    /// let mut answer = client.service("chat").send(request).await?.into_body();
    /// while let Some(frame) = answer.frame().await {
    ///     println!("{:?}", frame?.data_ref());
    /// }
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, AskError> {
        *request.uri_mut() = self.address(request.uri())?;
        let connection = |source: kube::Error| AskError::Connection { service: self.name.clone(), source: Box::new(source) };
        let answer = self.kube.send(request).await.map_err(connection)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let code = answer.status();
        let said = match self.whole(answer.into_body()).await {
            Ok(text) => said(&text),
            Err(unread) => unread.to_string(),
        };
        Err(AskError::Refused { service: self.name.clone(), code, said })
    }

    fn no_address(&self, path: &str) -> AskError {
        AskError::Address { service: self.name.clone(), path: path.to_owned() }
    }

    /// Where the gateway passes a path on to this service and to nothing else.
    fn address(&self, path: &http::Uri) -> Result<http::Uri, AskError> {
        let wrong = || self.no_address(&path.to_string());
        let below = path.path_and_query().filter(|_| path.host().is_none()).ok_or_else(wrong)?.as_str();
        let fine = |name: &str| {
            let bytes = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
            bytes && !name.starts_with('.') && (1..=NAME_BYTES_MAX).contains(&name.len())
        };
        if !below.starts_with('/') || !fine(&self.namespace) || !fine(&self.name) {
            return Err(wrong());
        }
        format!("/services/{}/{}{below}", self.namespace, self.name).parse().map_err(|_| wrong())
    }

    async fn whole(&self, body: Body) -> Result<Bytes, AskError> {
        match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(read) => Ok(read.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(AskError::TooLarge { service: self.name.clone() }),
            Err(source) => Err(AskError::Connection { service: self.name.clone(), source }),
        }
    }
}

/// The sentence in a refusal: `message` of a Status, or the text as it is.
fn said(text: &[u8]) -> String {
    let status = serde_json::from_slice::<serde_json::Value>(text).ok();
    let message = status.as_ref().and_then(|status| status["message"].as_str()).map(str::to_owned);
    let said = message.unwrap_or_else(|| String::from_utf8_lossy(text).trim().to_owned());
    said.chars().take(REFUSAL_CHARACTERS_MAX).collect()
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("namespace", &self.namespace).field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service without a server behind it.
    fn service(name: &str) -> Service {
        let kube = kube::Client::new(
            tower::service_fn(|_: Request<Body>| async { Err::<Response<Body>, _>(std::io::Error::other("nobody asks")) }),
            "default",
        );
        Client::new(kube, "lab").service(name)
    }

    #[tokio::test]
    async fn addresses_lead_to_the_service_and_nowhere_else() {
        let address = |name: &str, path: &str| service(name).address(&path.parse().unwrap()).map(|address| address.to_string()).ok();
        assert_eq!(address("digits", "/v1/chat?a=b").as_deref(), Some("/services/lab/digits/v1/chat?a=b"));
        assert_eq!(address("digits", "/").as_deref(), Some("/services/lab/digits/"));
        for (name, path) in [("a/b", "/"), ("", "/"), ("..", "/"), ("A", "/"), ("a%2f", "/"), ("a", "http://other.example/"), ("a", "*")] {
            assert_eq!(address(name, path), None, "{name} {path}");
        }
    }

    #[test]
    fn a_refusal_tells_its_sentence() {
        assert_eq!(said(br#"{"kind": "Status", "message": "no replica is ready"}"#), "no replica is ready");
        assert_eq!(said(b" out of memory\n"), "out of memory");
        assert_eq!(said("\u{e4}".repeat(5_000).as_bytes()).chars().count(), REFUSAL_CHARACTERS_MAX);
    }
}
