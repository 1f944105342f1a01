//! `bam completion`: what a shell has to know so that it completes `bam`'s words.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::{Cli, say};

/// Arguments of `bam completion`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

pub fn completion(arguments: &Arguments) {
    let mut script = Vec::new();
    generate(arguments.shell, &mut Cli::command(), "bam", &mut script);
    say(&String::from_utf8_lossy(&script));
}
