//! What a cache makes of what a watch says.

use bam_operator::cluster::cache::{Cache, Changed};
use bam_operator::cluster::facts::JobFacts;
use k8s_openapi::api::batch::v1::Job;
use kube::runtime::watcher::Event;

use crate::fixture::{RUN, job};

fn apply(cache: &Cache<JobFacts>, event: Event<Job>) -> Vec<String> {
    let word = |changed: Changed<JobFacts>| match (changed.before, changed.after) {
        (None, Some(_)) => format!("{} came", changed.key.1),
        (Some(_), Some(_)) => format!("{} changed", changed.key.1),
        (_, None) => format!("{} went", changed.key.1),
    };
    cache.apply(event).into_iter().map(word).collect()
}

#[test]
fn only_other_facts_are_a_change() {
    let cache = Cache::default();
    assert_eq!(apply(&cache, Event::Apply(job(1, "r", None))), [format!("{RUN}-1 came")]);
    let mut same = job(1, "r", None);
    same.metadata.resource_version = Some("7".to_owned());
    assert!(apply(&cache, Event::Apply(same)).is_empty());
    assert_eq!(apply(&cache, Event::Apply(job(1, "r", Some("Failed")))), [format!("{RUN}-1 changed")]);
    assert_eq!(apply(&cache, Event::Delete(job(1, "r", None))), [format!("{RUN}-1 went")]);
    assert!(apply(&cache, Event::Delete(job(1, "r", None))).is_empty());
    assert!(cache.of_run("lab", RUN).is_empty());
}

#[test]
fn what_went_while_nobody_watched_is_noticed_when_everything_is_listed_anew() {
    let cache = Cache::default();
    apply(&cache, Event::Apply(job(1, "r", None)));
    apply(&cache, Event::Apply(job(2, "r", None)));
    assert!(apply(&cache, Event::Init).is_empty());
    assert!(apply(&cache, Event::InitApply(job(2, "r", None))).is_empty());
    assert_eq!(apply(&cache, Event::InitApply(job(3, "r", None))), [format!("{RUN}-3 came")]);
    assert_eq!(cache.all().len(), 3, "what is not listed yet is still there");
    assert_eq!(apply(&cache, Event::InitDone), [format!("{RUN}-1 went")]);
    assert_eq!(cache.of_run("lab", RUN).len(), 2);
    assert!(cache.of_run("elsewhere", RUN).is_empty());
}
