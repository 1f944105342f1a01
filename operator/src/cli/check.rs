//! `bam check`: everything that is wrong with a manifest, with the verdict of an API server.

use std::path::Path;

use super::{Exit, input, say};
use crate::manifest;

/// Arguments of `bam check`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    manifests: input::Manifests,
}

pub fn check(arguments: &Arguments) -> Result<(), Exit> {
    let mut is_sound = true;
    for file in &arguments.manifests.files {
        is_sound &= check_one(file)?;
    }
    if is_sound { Ok(()) } else { Err(Exit::Faults) }
}

/// Is there nothing wrong with it?
fn check_one(file: &Path) -> Result<bool, Exit> {
    let manifest = manifest::read(&input::text(file)?);
    let mut text = String::new();
    for note in &manifest.notes {
        text += &format!("note: {}\n", input::locate(file, note));
    }
    for fault in &manifest.faults {
        text += &format!("{}\n", input::locate(file, fault));
    }
    let experiments = manifest.experiments.iter().filter_map(|it| it.metadata.name.clone());
    let names: Vec<_> = experiments.chain(manifest.profiles.iter().map(|it| it.named.to_string())).collect();
    text += &match manifest.faults.len() {
        0 => format!("{}: no faults ({})\n", file.display(), names.join(", ")),
        1 => "1 fault\n".to_owned(),
        count => format!("{count} faults\n"),
    };
    say(&text);
    Ok(manifest.faults.is_empty())
}
