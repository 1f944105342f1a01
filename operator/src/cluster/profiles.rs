//! What was seen of profiles, of both kinds. A cluster need not have them: whoever names one is told what is missing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bam_crds::profile::{ProfileKind, ProfileRef};
use bam_crds::{BamProfile, ClusterBamProfile};

use super::cache::Cache;
use super::facts::ProfileFacts;
use crate::plan::Why;
use crate::plan::profile::Found;

/// What an operator that sees one namespace says of what is in none.
pub const OF_NO_NAMESPACE: &str =
    "this operator sees one namespace alone, and may read nothing outside of it: name a BamProfile";

/// All profiles.
#[derive(Debug, Default)]
pub struct Profiles {
    /// Those of namespaces.
    pub namespaced: Cache<ProfileFacts<BamProfile>>,
    /// Those of the cluster.
    pub cluster: Cache<ProfileFacts<ClusterBamProfile>>,
    unreadable: Mutex<BTreeMap<ProfileKind, String>>,
}

impl Profiles {
    /// Notes why no profile of a kind can be read; none: they can. Returns whether that is new.
    pub fn note(&self, kind: ProfileKind, unreadable: Option<String>) -> bool {
        let mut known = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(&kind) == unreadable.as_ref() {
            return false;
        }
        match unreadable {
            Some(why) => drop(known.insert(kind, why)),
            None => drop(known.remove(&kind)),
        }
        true
    }

    /// What an experiment of this namespace finds under that name.
    ///
    /// # Errors
    /// If nothing can be said about it.
    pub fn find(&self, namespace: &str, named: &ProfileRef) -> Result<Found, Why> {
        let unreadable = |message| Why::ProfileUnreadable { profile: named.to_string(), message };
        if let Some(why) = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).get(&named.kind) {
            return Err(unreadable(why.clone()));
        }
        let (found, place) = match named.kind {
            ProfileKind::BamProfile => {
                let facts = self.namespaced.get(namespace, &named.name);
                (facts.map(|facts| facts.found.clone()), format!("in namespace {namespace}"))
            }
            ProfileKind::ClusterBamProfile => {
                let facts = self.cluster.get("", &named.name);
                (facts.map(|facts| facts.found.clone()), "in this cluster".to_owned())
            }
        };
        match found {
            None => Err(Why::ProfileMissing { profile: named.to_string(), place }),
            Some(found) => found.map_err(|error| unreadable(format!("{error}; correct it, or upgrade the operator"))),
        }
    }
}

/// What an answer of the API server means: the profiles of a kind cannot be read, whoever asks again.
pub fn unreadable(kind: ProfileKind, code: u16) -> Option<String> {
    let plural = kind.plural();
    match code {
        404 => Some(format!(
            "this cluster does not know the kind: `kubectl apply --server-side -f crds/{plural}.bam.dev.yaml`, or upgrade the \
             chart"
        )),
        403 => Some(format!("this operator may not: give it the verbs list and watch of {plural}.bam.dev")),
        _ => None,
    }
}
