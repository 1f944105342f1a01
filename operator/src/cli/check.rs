//! `bam check`: everything that is wrong with a manifest, with the verdict of an API server.

use std::path::PathBuf;

use super::{Exit, input, say};
use crate::manifest;

/// Arguments of `bam check`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The manifest; `-` for standard input.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
}

pub fn check(arguments: &Arguments) -> Result<(), Exit> {
    let file = &arguments.file;
    let manifest = manifest::read(&input::text(file)?);
    let mut text = String::new();
    for note in &manifest.notes {
        text += &format!("note: {}\n", input::locate(file, note));
    }
    for fault in &manifest.faults {
        text += &format!("{}\n", input::locate(file, fault));
    }
    let names: Vec<_> = manifest.experiments.iter().filter_map(|it| it.metadata.name.as_deref()).collect();
    text += &match manifest.faults.len() {
        0 => format!("{}: no faults ({})\n", file.display(), names.join(", ")),
        1 => "1 fault\n".to_owned(),
        count => format!("{count} faults\n"),
    };
    say(&text);
    if manifest.faults.is_empty() { Ok(()) } else { Err(Exit::Faults) }
}
