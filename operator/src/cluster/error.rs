//! What can go wrong between the operator and the API server.

use std::time::Duration;

/// A call to the API server that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or could not be reached.
    #[error("cannot {what}: {}", said(source))]
    Api {
        /// What was tried.
        what: String,
        /// What came back.
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("cannot {what}: no answer for {} s", after.as_secs())]
    Timeout {
        /// What was tried.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// Another operator does the work.
    #[error("cannot {what}: this operator does not lead (any more)")]
    NotLeading {
        /// What was not tried.
        what: String,
    },
}

impl Error {
    /// The HTTP status, if there was an answer.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => code(source),
            Self::Timeout { .. } | Self::NotLeading { .. } => None,
        }
    }

    /// Did the API server understand the request, and refuse it? Then a person may have to do something.
    pub fn is_refusal(&self) -> bool {
        matches!(self.code(), Some(400..=499)) && !matches!(self.code(), Some(404 | 408 | 409 | 429))
    }

    /// How it counts in the metrics.
    pub fn result(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Api { .. } if self.code() == Some(409) => "conflict",
            Self::Api { .. } | Self::NotLeading { .. } => "error",
        }
    }
}

/// The HTTP status of an answer.
pub fn code(error: &kube::Error) -> Option<u16> {
    if let kube::Error::Api(status) = error { Some(status.code) } else { None }
}

/// The API server's own sentence, where there is one.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}
