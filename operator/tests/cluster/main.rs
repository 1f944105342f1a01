//! The pure parts of the cluster's edge: from objects to what the planner is told, and from its decisions to objects.

mod attempts;
mod cache;
mod fixture;
mod hindrances;
mod jobs;
mod placements;
mod profiles;
mod slices;
mod stories;
mod waking;
