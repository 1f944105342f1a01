//! From a URI and the environment to a store that can be asked.

use std::sync::Arc;
use std::time::Duration;

use bam_crds::ExitReason;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path as Key;
use object_store::{BackoffConfig, ClientConfigKey, Error as ObjectError, ObjectStore, RetryConfig};

use super::fault::{self, Doing};
use crate::failure::Failure;

/// A request takes no longer than this, whatever it carries…
const WHOLE_REQUEST: (ClientConfigKey, &str) = (ClientConfigKey::Timeout, "600s");
/// … and nobody waits so long for a store that says nothing.
const SILENCE: (ClientConfigKey, &str) = (ClientConfigKey::ReadTimeout, "60s");

/// Whose store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Amazon S3, and all that speak its language.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// Where an artifact store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) kind: Kind,
    pub(super) bucket: String,
    prefix: String,
}

impl Address {
    pub(super) fn parse(uri: &str) -> Result<Self, Failure> {
        let refused = |problem: &str| {
            let message =
                format!("{uri:?} {problem}: write s3://bucket/folder, gs://bucket/folder or az://container/folder");
            Failure::new(ExitReason::BadConfig, message)
        };
        let (scheme, rest) = uri.split_once("://").ok_or_else(|| refused("is no URI of an object store"))?;
        let kind = match scheme {
            "s3" => Kind::S3,
            "gs" => Kind::Gcs,
            "az" => Kind::Azure,
            _ => return Err(refused("is of no known kind of object store")),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(refused("names no bucket"));
        }
        Ok(Self { kind, bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
    }

    /// The URI of the bucket alone.
    pub(super) fn root(&self) -> String {
        let scheme = match self.kind {
            Kind::S3 => "s3",
            Kind::Gcs => "gs",
            Kind::Azure => "az",
        };
        format!("{scheme}://{}", self.bucket)
    }

    /// The URI of an object.
    pub(super) fn of(&self, name: &str) -> String {
        let parts = [self.root(), self.prefix.clone(), name.to_owned()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }

    /// What the store calls an object.
    pub(super) fn key(&self, name: &str) -> Result<Key, Failure> {
        let refused = |error: object_store::path::Error| {
            Failure::new(ExitReason::BadConfig, format!("{}: not a name of an object: {error}", self.of(name)))
        };
        match self.prefix.is_empty() {
            true => Key::parse(name),
            false => Key::parse(format!("{}/{name}", self.prefix)),
        }
        .map_err(refused)
    }

    /// What the trainer calls it.
    pub(super) fn name(&self, key: &Key) -> Option<String> {
        let name = key.as_ref().strip_prefix(&self.prefix)?;
        Some(name.trim_start_matches('/').to_owned())
    }

    /// The store behind it, with what the environment says of it. S3 is told a SHA-256 of everything that is sent, and
    /// refuses what does not arrive as it left.
    pub(super) fn connect(&self, patience: Duration) -> Result<Arc<dyn ObjectStore>, Failure> {
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: Duration::from_secs(15), ..BackoffConfig::default() },
            max_retries: usize::MAX,
            retry_timeout: patience,
        };
        let limits = [WHOLE_REQUEST, SILENCE];
        let store: Result<Arc<dyn ObjectStore>, ObjectError> = match self.kind {
            Kind::S3 => {
                let mut builder = AmazonS3Builder::from_env().with_bucket_name(&self.bucket).with_retry(retry);
                for (key, value) in limits {
                    builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
                }
                // Whoever names such an endpoint wants no TLS, as in a cluster of one's own.
                if endpoint().is_some_and(|endpoint| endpoint.starts_with("http://")) {
                    builder = builder.with_allow_http(true);
                }
                builder.with_checksum_algorithm(Checksum::SHA256).build().map(|store| Arc::new(store) as _)
            }
            Kind::Gcs => {
                let mut builder =
                    GoogleCloudStorageBuilder::from_env().with_bucket_name(&self.bucket).with_retry(retry);
                for (key, value) in limits {
                    builder = builder.with_config(GoogleConfigKey::Client(key), value);
                }
                builder.build().map(|store| Arc::new(store) as _)
            }
            Kind::Azure => {
                let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(&self.bucket).with_retry(retry);
                for (key, value) in limits {
                    builder = builder.with_config(AzureConfigKey::Client(key), value);
                }
                builder.build().map(|store| Arc::new(store) as _)
            }
        };
        store.map_err(|error| {
            let message = format!("{}: {}; {}", self.root(), fault::cause(&error), self.kind.credentials());
            Failure::new(ExitReason::StoreUnavailable, message)
        })
    }

    pub(super) fn fault(&self, doing: Doing, name: &str, error: &ObjectError) -> Failure {
        fault::failure(self, doing, name, error)
    }
}

impl Kind {
    /// Where its credentials come from.
    pub(super) fn credentials(self) -> &'static str {
        match self {
            Self::S3 => {
                "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION in the environment of the trainer"
            }
            Self::Gcs => "check GOOGLE_SERVICE_ACCOUNT or GOOGLE_SERVICE_ACCOUNT_KEY in the environment of the trainer",
            Self::Azure => {
                "check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY in the environment of the trainer"
            }
        }
    }
}

/// The server, if it is not the one of the store's owner. (Both variables are those of Amazon's own tools.)
pub(super) fn endpoint() -> Option<String> {
    ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].iter().find_map(|name| std::env::var(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_a_bucket_and_a_folder_in_it() {
        for (uri, kind, object) in [
            ("s3://models/bam", Kind::S3, "s3://models/bam/runs/1"),
            ("gs://models", Kind::Gcs, "gs://models/runs/1"),
            ("az://models/a/b/", Kind::Azure, "az://models/a/b/runs/1"),
        ] {
            let address = Address::parse(uri).unwrap();
            assert_eq!((address.kind, address.of("runs/1").as_str()), (kind, object));
            let key = address.key("runs/1").unwrap();
            assert_eq!(address.name(&key).as_deref(), Some("runs/1"), "{key}");
        }
    }

    #[test]
    fn what_is_no_uri_of_an_object_store_is_refused() {
        for (uri, problem) in [
            ("/bam", "\"/bam\" is no URI of an object store"),
            ("ftp://models/bam", "\"ftp://models/bam\" is of no known kind of object store"),
            ("s3:///bam", "\"s3:///bam\" names no bucket"),
        ] {
            let failure = Address::parse(uri).unwrap_err();
            let advice = "write s3://bucket/folder, gs://bucket/folder or az://container/folder";
            assert_eq!((failure.reason, failure.message), (ExitReason::BadConfig, format!("{problem}: {advice}")));
        }
        let failure = Address::parse("s3://models/bam").unwrap().key("../other").unwrap_err();
        assert_eq!(failure.reason, ExitReason::BadConfig);
    }
}
