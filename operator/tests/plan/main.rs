//! The planner, fed with plain objects: tables whose names are sentences, properties over random worlds, golden plans.

mod build;
mod experiments;
#[path = "../common/findings.rs"]
mod findings;
mod gates;
mod golden;
mod profiles;
mod properties;
mod runs;
mod sharing;
mod usage;
mod world;
