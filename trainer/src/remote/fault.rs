//! What went wrong in a store, as a person has to hear it: where, what the store said, what to do. Nothing secret is in it:
//! of an answer only its code and its message are told.

use std::error::Error;

use bam_crds::ExitReason;
use object_store::Error as ObjectError;

use super::address::{Address, Kind, endpoint};
use crate::failure::Failure;

/// What was asked of the store.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doing {
    Read,
    Write,
    List,
    Remove,
}

/// Codes of an answer that say that the bucket, and not an object in it, is missing.
const NO_BUCKET: &[&str] = &["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"];
/// Codes of S3 and Azure for keys that are wrong or too old.
const BAD_CREDENTIALS: &[&str] = &[
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "AuthenticationFailed",
    "invalid_grant",
];
/// Where programs on a provider's own machines are given credentials: asked when the environment holds none.
const PROVIDERS_OWN: &[&str] = &["169.254.169.254", "metadata.google.internal"];
/// Longest answer that is told if it is of no known form.
const LONGEST: usize = 300;

/// Is it the object alone that is missing?
pub(super) fn is_no_such_object(error: &ObjectError) -> bool {
    matches!(error, ObjectError::NotFound { .. }) && !mentions(error, NO_BUCKET)
}

fn mentions(error: &ObjectError, codes: &[&str]) -> bool {
    let text = error.to_string();
    codes.iter().any(|code| text.contains(code))
}

/// The failure of a request about an object.
pub(super) fn failure(address: &Address, doing: Doing, name: &str, error: &ObjectError) -> Failure {
    if mentions(error, NO_BUCKET) {
        let message = format!(
            "{}: there is no such bucket ({}); create it, with glue_data and pretrained_models in {}",
            address.root(),
            cause(error),
            address.of(""),
        );
        return Failure::new(ExitReason::MissingInput, message);
    }
    let denied = matches!(error, ObjectError::PermissionDenied { .. } | ObjectError::Unauthenticated { .. })
        || mentions(error, &["403 Forbidden", "401 Unauthorized"]);
    let advice = if mentions(error, BAD_CREDENTIALS) || matches!(error, ObjectError::Unauthenticated { .. }) {
        format!("the store does not accept the credentials: {}", address.kind.credentials())
    } else if denied {
        format!("give these credentials the permission {}", doing.permission(address.kind))
    } else if mentions(error, PROVIDERS_OWN) {
        format!("there are no credentials: {}", address.kind.credentials())
    } else {
        let server = endpoint().filter(|_| address.kind == Kind::S3).unwrap_or("the store".to_owned());
        format!("check that {server} can be reached from here, and start again: what was sent before is whole")
    };
    let message = format!("{}: cannot {}: {}; {advice}", address.of(name), doing.words(), cause(error));
    Failure::new(ExitReason::StoreUnavailable, message)
}

impl Doing {
    fn words(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
            Self::Remove => "remove",
        }
    }

    /// Without the right to list, S3 and Google deny an object that is not there, instead of saying so.
    fn permission(self, kind: Kind) -> &'static str {
        match (kind, self) {
            (Kind::S3, Self::Read) => "s3:GetObject (and s3:ListBucket, without which a missing object is denied too)",
            (Kind::S3, Self::Write) => "s3:PutObject",
            (Kind::S3, Self::List) => "s3:ListBucket",
            (Kind::S3, Self::Remove) => "s3:DeleteObject",
            (Kind::Gcs, Self::Read) => "storage.objects.get (and storage.objects.list)",
            (Kind::Gcs, Self::Write) => "storage.objects.create (and storage.objects.delete, to replace)",
            (Kind::Gcs, Self::List) => "storage.objects.list",
            (Kind::Gcs, Self::Remove) => "storage.objects.delete",
            (Kind::Azure, Self::Read | Self::List) => "Storage Blob Data Reader",
            (Kind::Azure, Self::Write | Self::Remove) => "Storage Blob Data Contributor",
        }
    }
}

/// What the store said, or why nobody heard it.
pub(super) fn cause(error: &ObjectError) -> String {
    let text = error.to_string();
    let between = |begin: &str, end: &str| Some(text.split_once(begin)?.1.split_once(end)?.0.trim().to_owned());
    if let Some(code) = between("<Code>", "</Code>") {
        return match between("<Message>", "</Message>") {
            Some(message) if !message.is_empty() => format!("{code}: {}", message.trim_end_matches('.')),
            _ => code,
        };
    }
    let mut deepest: &dyn Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let words = deepest.to_string();
    let line = words.lines().next().unwrap_or_default();
    line.trim().trim_end_matches(':').chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENIED: &str = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>\
                          <Message>Access Denied.</Message><AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>";

    fn denied(text: &str) -> ObjectError {
        ObjectError::PermissionDenied { path: "x".to_owned(), source: text.to_owned().into() }
    }

    #[test]
    fn access_denied_names_the_permission_that_each_kind_of_store_lacks() {
        for (uri, doing, end) in [
            ("s3://m/bam", Doing::Write, "the permission s3:PutObject"),
            ("s3://m/bam", Doing::Remove, "the permission s3:DeleteObject"),
            ("gs://m/bam", Doing::List, "the permission storage.objects.list"),
            ("az://m/bam", Doing::Read, "the permission Storage Blob Data Reader"),
        ] {
            let failure = failure(&Address::parse(uri).unwrap(), doing, "runs/1", &denied(DENIED));
            assert_eq!(failure.reason, ExitReason::StoreUnavailable);
            let begin = format!("{uri}/runs/1: cannot {}: AccessDenied: Access Denied; give these", doing.words());
            assert!(failure.message.starts_with(&begin), "{}", failure.message);
            assert!(failure.message.ends_with(end), "{}", failure.message);
            assert!(!failure.message.contains("AKIA"), "{}", failure.message);
        }
    }

    #[test]
    fn a_bucket_that_is_missing_is_no_missing_object() {
        let of = |code: &str| ObjectError::NotFound {
            path: "x".to_owned(),
            source: format!("404: <Code>{code}</Code>").into(),
        };
        assert!(is_no_such_object(&of("NoSuchKey")));
        assert!(!is_no_such_object(&of("NoSuchBucket")));
        let failure = failure(&Address::parse("s3://m/bam").unwrap(), Doing::Read, "x", &of("NoSuchBucket"));
        let message = "s3://m: there is no such bucket (NoSuchBucket); create it, with glue_data and pretrained_models in s3://m/bam";
        assert_eq!((failure.reason, failure.message.as_str()), (ExitReason::MissingInput, message));
    }

    #[test]
    fn an_answer_of_no_known_form_is_told_in_one_short_line() {
        let said = cause(&denied(&format!("bad gateway:\n{}", "x".repeat(10_000))));
        assert_eq!(said, "bad gateway");
    }
}
