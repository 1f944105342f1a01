//! One GET: with a range, through redirects, and with a token for whom it is meant. No retries, no files.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bam_crds::Digest;
use ureq::http::{HeaderMap, HeaderName, StatusCode, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};
use url::Url;

/// To find a host and to connect to it.
const CONNECT: Duration = Duration::from_secs(20);
/// From the request to the answer's head.
const ANSWER: Duration = Duration::from_secs(60);
/// Between two pieces of an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// Redirects in a row.
const REDIRECTS: usize = 10;

/// Hugging Face's name for the commit that a branch or tag stands for.
const COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
/// Hugging Face's name for the SHA-256 of a large file, in quotes.
const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");

/// Asks servers.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    token: Option<Token>,
}

/// A bearer token, and the one server that it is for. It is never shown.
struct Token {
    value: String,
    server: Url,
}

/// An answer that brings content.
#[derive(Debug)]
pub struct Answer {
    /// The first byte of the file that it brings.
    pub start: u64,
    /// Bytes of the whole file.
    pub total: Option<u64>,
    /// What to ask with to get the rest of the same content, should this end early.
    pub validator: Option<String>,
    /// The commit that it comes from, if the server says so.
    pub commit: Option<String>,
    /// The content's digest, if the server says so.
    pub sha256: Option<Digest>,
    /// The content.
    pub body: Body,
}

/// Why there is no content.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody answers, or not to the end.
    #[error("{url}: {problem}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What went wrong.
        problem: String,
    },
    /// The server answers, with something else.
    #[error("{url}: the server says {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// How it is called.
        status: StatusCode,
        /// How long the server wants to be left alone.
        pause: Option<Duration>,
    },
    /// It will be the same the next time.
    #[error("{url}: {problem}")]
    Refused {
        /// What was asked for.
        url: String,
        /// What is not accepted.
        problem: String,
    },
}

impl HttpError {
    /// May the same request go well later?
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429),
            Self::Refused { .. } => false,
        }
    }

    /// Does the server know nothing of it?
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status, .. } if matches!(status.as_u16(), 404 | 410))
    }

    /// How long the server wants to be left alone.
    pub fn pause(&self) -> Option<Duration> {
        match self {
            Self::Status { pause, .. } => *pause,
            _ => None,
        }
    }

    /// What went wrong while the content came.
    pub fn broken(url: &Url, error: &io::Error) -> Self {
        Self::Unreachable { url: url.to_string(), problem: error.to_string() }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a token for {}", self.server)
    }
}

impl Client {
    /// A client that goes through `proxy`, if there is one.
    pub fn new(proxy: Option<Proxy>) -> Self {
        // The operator's provider: with two of them rustls would not know which one is meant.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // The system's certificates, or those of SSL_CERT_FILE: a company's proxy may have its own.
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("bam-trainer/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .tls_config(tls)
            .build()
            .new_agent();
        Self { agent, token: None }
    }

    /// A client with the environment's proxy (HTTPS_PROXY, NO_PROXY and their like), which shows the token of HF_TOKEN to a
    /// model repository.
    pub fn from_environment(models: &Url) -> Self {
        let client = Self::new(Proxy::try_from_env());
        match std::env::var("HF_TOKEN") {
            Ok(token) if !token.trim().is_empty() => client.with_token(token.trim().to_owned(), models),
            _ => client,
        }
    }

    /// The client, which shows `token` to this server and to no other; and never where others can read along.
    fn with_token(self, token: String, server: &Url) -> Self {
        let safe = server.scheme() == "https" || server.host_str().is_some_and(|host| host == "127.0.0.1");
        Self { token: safe.then(|| Token { value: token, server: server.clone() }), ..self }
    }

    /// Asks for a file: for all of it, or for what follows `from` bytes of the content that the validator stands for. If
    /// that is no longer the content, all of it comes.
    ///
    /// # Errors
    /// If no content comes.
    pub fn get(&self, url: &Url, from: Option<(u64, &str)>) -> Result<Answer, HttpError> {
        let mut at = url.clone();
        // What the first server says of the file: the one that it sends us to only keeps bytes.
        let (mut commit, mut sha256) = (None, None);
        for _ in 0..=REDIRECTS {
            let response = self.ask(&at, from).map_err(|error| failed(&at, error))?;
            let headers = response.headers();
            commit = commit.or_else(|| text(headers, COMMIT).map(str::to_owned));
            sha256 = sha256.or_else(|| text(headers, LINKED_ETAG)?.trim_matches('"').parse().ok());
            if response.status().is_redirection() {
                at = redirect(&at, headers)?;
                continue;
            }
            let refused = |problem: &str| HttpError::Refused { url: at.to_string(), problem: problem.to_owned() };
            if text(headers, header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
                return Err(refused("the server packs what it was asked to send as it is"));
            }
            let length = text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
            let (start, total) = match (response.status(), from) {
                (StatusCode::OK, _) => (0, length),
                (StatusCode::PARTIAL_CONTENT, Some((from, _))) => match range(headers) {
                    Some((start, total)) if start == from => (start, total),
                    _ => return Err(refused("the server sends another part of the file than was asked for")),
                },
                (status, _) => {
                    let pause = text(headers, header::RETRY_AFTER).and_then(|seconds| seconds.parse().ok());
                    return Err(HttpError::Status { url: at.into(), status, pause: pause.map(Duration::from_secs) });
                }
            };
            if length.is_none() && text(headers, header::TRANSFER_ENCODING).is_none() {
                return Err(refused(
                    "the server does not say where the file ends, so that half of it would pass for all",
                ));
            }
            let validator = validator(headers);
            return Ok(Answer { start, total, validator, commit, sha256, body: response.into_body() });
        }
        Err(HttpError::Refused { url: url.to_string(), problem: format!("more than {REDIRECTS} redirects") })
    }

    fn ask(&self, url: &Url, from: Option<(u64, &str)>) -> Result<ureq::http::Response<Body>, ureq::Error> {
        let mut request = self.agent.get(url.as_str());
        if let Some((from, validator)) = from {
            request = request.header(header::RANGE, format!("bytes={from}-")).header(header::IF_RANGE, validator);
        }
        if let Some(token) = self.token.as_ref().filter(|token| token.server.origin() == url.origin()) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.value));
        }
        request.call()
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Where a server sends us; never from a connection that nobody can listen to onto one that anybody can.
fn redirect(from: &Url, headers: &HeaderMap) -> Result<Url, HttpError> {
    let refused = |problem: String| HttpError::Refused { url: from.to_string(), problem };
    let location = text(headers, header::LOCATION).unwrap_or_default();
    let to = from.join(location).map_err(|error| refused(format!("redirects to {location:?}: {error}")))?;
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(to),
        (_, scheme) => Err(refused(format!("redirects to {scheme}, which is not safe"))),
    }
}

/// What stands for exactly this content: a strong ETag, or else a date.
fn validator(headers: &HeaderMap) -> Option<String> {
    let etag = text(headers, header::ETAG).filter(|etag| !etag.starts_with("W/"));
    etag.or_else(|| text(headers, header::LAST_MODIFIED)).map(str::to_owned)
}

/// First byte, and bytes of the whole file: `bytes 500-999/1000`.
fn range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (part, total) = text(headers, header::CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
    Some((part.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

fn failed(url: &Url, error: ureq::Error) -> HttpError {
    let url = url.to_string();
    match error {
        // A certificate that nobody vouches for comes as either of these.
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => refused_tls(url, &error),
        ureq::Error::Io(io) if io.kind() == io::ErrorKind::InvalidData => refused_tls(url, &io),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
            HttpError::Refused { url, problem: error.to_string() }
        }
        ureq::Error::HostNotFound => HttpError::Unreachable { url, problem: "there is no such host".to_owned() },
        ureq::Error::Timeout(_) => HttpError::Unreachable { url, problem: "no answer in time".to_owned() },
        ureq::Error::Io(io) => HttpError::Unreachable { url, problem: io.to_string() },
        error => HttpError::Unreachable { url, problem: error.to_string() },
    }
}

fn refused_tls(url: String, error: &dyn fmt::Display) -> HttpError {
    let advice = "if a proxy of your own stands between, let SSL_CERT_FILE name a file with its certificate authority";
    HttpError::Refused { url, problem: format!("no safe connection: {error}; {advice}") }
}
