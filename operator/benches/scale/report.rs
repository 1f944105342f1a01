//! What was measured beside what was hoped for.

use std::fmt::Display;

/// A table of goals.
#[derive(Debug, Default)]
pub struct Report(Vec<[String; 4]>);

impl Report {
    /// What was measured, with the goal in words; whether it is met.
    pub fn goal(&mut self, what: &str, goal: &str, measured: impl Display, met: bool) {
        let met = if met { "yes" } else { "NO" };
        self.row(what, goal, measured, met);
    }

    /// What was measured, and stands for nothing.
    pub fn note(&mut self, what: &str, measured: impl Display) {
        self.row(what, "", measured, "");
    }

    fn row(&mut self, what: &str, goal: &str, measured: impl Display, met: &str) {
        let row = [what.to_owned(), goal.to_owned(), measured.to_string(), met.to_owned()];
        println!("    {}: {} {}", row[0], row[2], if met == "NO" { "(missed)" } else { "" });
        self.0.push(row);
    }

    /// The whole table, for a terminal and for Markdown alike.
    pub fn print(&self) {
        println!("\n| what | goal | measured | met |\n|---|---|---|---|");
        for [what, goal, measured, met] in &self.0 {
            println!("| {what} | {goal} | {measured} | {met} |");
        }
    }
}
