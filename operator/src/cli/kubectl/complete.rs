//! `kubectl_complete-bam`: `kubectl` calls a program of this name to complete the words of `kubectl bam`. It gets them as
//! arguments, the last one unfinished, and says what that may become: a line for each, and last what else it may be.

use std::time::Duration;

use clap::{ArgAction, Command, CommandFactory, Parser};
use kube::ResourceExt;
use kube::api::ListParams;

use super::super::say;
use super::cluster::{Cluster, EXPERIMENTS};
use super::{Cli, Place, logs};

/// The name under which `kubectl` looks for it.
pub const NAME: &str = "kubectl_complete-bam";
/// Whoever waits for a word does not wait for long.
const PATIENCE: Duration = Duration::from_secs(2);
/// That files are no possible words, in the language of `kubectl`'s completion.
const NO_FILES: &str = ":4";
/// That files are.
const FILES: &str = ":0";

/// Says what the last of these words may become.
pub async fn main(words: &[String]) {
    let (typed, before) = words.split_last().map_or((String::new(), words), |(last, before)| (last.clone(), before));
    let (candidates, files) = candidates(&typed, before).await;
    let mut text = String::new();
    for (word, about) in candidates.into_iter().filter(|(word, _)| word.starts_with(&typed)) {
        text += &if about.is_empty() { format!("{word}\n") } else { format!("{word}\t{about}\n") };
    }
    say(&format!("{text}{}\n", if files { FILES } else { NO_FILES }));
}

/// Possible words with what they mean, and whether names of files are possible, too.
async fn candidates(typed: &str, before: &[String]) -> (Vec<(String, String)>, bool) {
    let mut cli = Cli::command();
    cli.build();
    let Line { command, expects, positionals } = Line::of(&cli, before);
    if let Some(option) = expects {
        let values = option.get_possible_values().into_iter();
        let values: Vec<_> = values.map(|value| (value.get_name().to_owned(), String::new())).collect();
        let is_file = option
            .get_value_names()
            .is_some_and(|names| names.iter().any(|name| ["FILE", "DIR"].contains(&name.as_str())));
        let words = match option.get_id().as_str() {
            "run" => runs(before, &positionals).await,
            _ => values,
        };
        return (words, is_file);
    }
    if typed.starts_with('-') {
        let options = command.get_arguments().filter(|option| !option.is_positional() && !option.is_hide_set());
        let help = |help: Option<&clap::builder::StyledStr>| help.map(ToString::to_string).unwrap_or_default();
        let words = options.filter_map(|it| Some((format!("--{}", it.get_long()?), help(it.get_help()))));
        return (words.collect(), false);
    }
    if command.has_subcommands() {
        let about = |command: &Command| command.get_about().map(ToString::to_string).unwrap_or_default();
        return (command.get_subcommands().map(|it| (it.get_name().to_owned(), about(it))).collect(), false);
    }
    let takes_name = command.get_positionals().next().is_some() && positionals.is_empty();
    (if takes_name { experiments(before).await } else { Vec::new() }, false)
}

/// What is typed already.
struct Line<'a> {
    /// The command that it belongs to.
    command: &'a Command,
    /// The option whose value comes next.
    expects: Option<&'a clap::Arg>,
    /// What stands there besides options.
    positionals: Vec<String>,
}

impl<'a> Line<'a> {
    fn of(cli: &'a Command, before: &[String]) -> Self {
        let mut line = Self { command: cli, expects: None, positionals: Vec::new() };
        for word in before {
            if line.expects.take().is_some() {
                continue;
            }
            if word.starts_with('-') {
                line.expects = line.option(word);
            } else if let Some(command) = line.command.find_subcommand(word) {
                line.command = command;
            } else {
                line.positionals.push(word.clone());
            }
        }
        line
    }

    /// The option of that name, if its value is the next word.
    fn option(&self, word: &str) -> Option<&'a clap::Arg> {
        let is_it = |option: &&clap::Arg| {
            let long = option.get_long().is_some_and(|long| word == format!("--{long}"));
            long || option.get_short().is_some_and(|short| word == format!("-{short}"))
        };
        let takes_value = |option: &&clap::Arg| matches!(option.get_action(), ArgAction::Set | ArgAction::Append);
        self.command.get_arguments().find(is_it).filter(takes_value)
    }
}

/// Where the words before say that the experiments are.
fn place(before: &[String]) -> Place {
    #[derive(Debug, Parser)]
    #[command(ignore_errors = true, disable_help_flag = true)]
    struct Anything {
        #[command(flatten)]
        place: Place,
        #[arg(allow_hyphen_values = true)]
        rest: Vec<String>,
    }
    let words = [String::new()].into_iter().chain(before.iter().cloned());
    Anything::try_parse_from(words).map(|it| it.place).unwrap_or_default()
}

async fn experiments(before: &[String]) -> Vec<(String, String)> {
    let place = place(before);
    let asked = async {
        let cluster = Cluster::of(&place).await.ok()?;
        cluster.list(&cluster.experiments(), EXPERIMENTS, &ListParams::default()).await.ok()
    };
    let listed = tokio::time::timeout(PATIENCE, asked).await.ok().flatten();
    let phase = |it: &bam_crds::BamExperiment| it.status.as_ref().map(|status| format!("{:?}", status.phase));
    let words = listed.into_iter().flatten().map(|it| (it.name_any(), phase(&it).unwrap_or_default()));
    words.collect()
}

async fn runs(before: &[String], positionals: &[String]) -> Vec<(String, String)> {
    let Some(name) = positionals.first() else { return Vec::new() };
    let place = place(before);
    let asked = async { Cluster::of(&place).await.ok()?.status(name).await.ok() };
    let status = tokio::time::timeout(PATIENCE, asked).await.ok().flatten();
    let runs = status.map(|status| status.runs).unwrap_or_default();
    runs.iter().map(|run| (logs::word(run), format!("{:?}", run.phase))).collect()
}
