//! The table of scores: a row per task, a column per run.

use bam_crds::BamExperimentStatus;
use bam_crds::experiment::RunSummary;
use bam_crds::report::TaskResult;
use bam_crds::run::{Role, RunPhase};

/// Students that have a column each; of more only the best, median and deviation are shown.
const COLUMNS: usize = 4;
const BOLD: &str = "\u{1b}[1m";
const PLAIN: &str = "\u{1b}[0m";

struct Cell {
    text: String,
    /// What counts when the best of a row is looked for.
    score: Option<f64>,
}

/// Dev scores of what is finished, the best of each task in bold if `bold`. Empty if nothing is.
pub fn scores(status: &BamExperimentStatus, bold: bool) -> String {
    let tasks = tasks(&status.runs);
    if tasks.is_empty() {
        return String::new();
    }
    let columns = columns(status);
    let mut rows = vec![columns.iter().map(|(title, _)| title.clone()).collect::<Vec<_>>()];
    let mut best = Vec::new();
    for task in &tasks {
        let cells: Vec<_> = columns.iter().map(|(_, cell)| cell(task)).collect();
        let highest = cells.iter().filter_map(|cell| cell.score).max_by(f64::total_cmp);
        let competitors = cells.iter().filter(|cell| cell.score.is_some()).count();
        let is_best = |cell: &Cell| competitors > 1 && cell.score.is_some() && cell.score == highest;
        best.push(cells.iter().map(is_best).collect::<Vec<_>>());
        rows.push(cells.into_iter().map(|cell| cell.text).collect());
    }
    layout(&rows, |row, column| bold && row > 0 && best[row - 1][column])
}

type Column<'a> = (String, Box<dyn Fn(&str) -> Cell + 'a>);

fn columns(status: &BamExperimentStatus) -> Vec<Column<'_>> {
    let runs = &status.runs;
    let distills = runs.iter().any(|run| run.role == Role::Teacher);
    let students: Vec<_> = runs.iter().filter(|run| run.role == Role::Student).collect();
    let text = |text: &str| Cell { text: text.to_owned(), score: None };
    let mut columns: Vec<Column<'_>> = vec![
        ("task".to_owned(), Box::new(move |task| text(task))),
        ("metric".to_owned(), Box::new(move |task| text(result(runs, task).map_or("-", |it| &it.main_metric)))),
        (
            "majority".to_owned(),
            Box::new(move |task| Cell { score: None, ..number(result(runs, task).and_then(|it| it.majority)) }),
        ),
    ];
    if distills {
        // The mean, where there are several.
        let teacher = move |task: &str| {
            let teachers = runs.iter().filter(|run| run.role == Role::Teacher && run.tasks == [task]);
            let scores: Vec<f64> = teachers.map(|run| main(run, task)).collect::<Option<_>>()?;
            (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
        };
        columns.push(("teacher".to_owned(), Box::new(move |task| number(teacher(task)))));
    }
    let noun = match (distills, runs.iter().any(|run| run.tasks.len() > 1)) {
        (true, _) => "student",
        (false, true) => "multi-task",
        (false, false) => "single-task",
    };
    if students.len() <= COLUMNS {
        for student in &students {
            let student: &RunSummary = student;
            let title = if students.len() == 1 {
                noun.to_owned()
            } else {
                format!("{noun} {}", student.trial.unwrap_or_default())
            };
            columns.push((title, Box::new(move |task| number(main(student, task)))));
        }
    }
    if students.len() > 1 {
        let summary = |task: &str| status.scores.get(task);
        // No competitor for the best of its row: that may be a teacher.
        if students.len() > COLUMNS {
            let best = move |task: &str| Cell { score: None, ..number(summary(task).and_then(|it| it.best)) };
            columns.push(("best".to_owned(), Box::new(best)));
        }
        columns.push(("median".to_owned(), Box::new(move |task| number(summary(task).map(|it| it.median)))));
        columns.push((
            "sd".to_owned(),
            Box::new(move |task| Cell { score: None, ..number(summary(task).and_then(|it| it.standard_deviation)) }),
        ));
    }
    columns
}

fn tasks(runs: &[RunSummary]) -> Vec<String> {
    let students = runs.iter().find(|run| run.role == Role::Student);
    let tasks = students.map(|student| student.tasks.clone()).unwrap_or_default();
    tasks.into_iter().filter(|task| result(runs, task).is_some()).collect()
}

/// Any result of a task: what is the same for all runs stands in each of them.
fn result<'a>(runs: &'a [RunSummary], task: &str) -> Option<&'a TaskResult> {
    runs.iter().flat_map(|run| &run.results).find(|result| result.task == task)
}

fn main(run: &RunSummary, task: &str) -> Option<f64> {
    let result = run.results.iter().find(|result| result.task == task && run.phase == RunPhase::Succeeded)?;
    result.metrics.get(&result.main_metric).copied()
}

fn number(score: Option<f64>) -> Cell {
    Cell { text: score.map_or_else(|| "-".to_owned(), |score| format!("{score:.1}")), score }
}

/// Text in columns: words to the left, numbers (from the third column on) to the right.
fn layout(rows: &[Vec<String>], is_bold: impl Fn(usize, usize) -> bool) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<_> =
        (0..columns).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            let padded = if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            if is_bold(index, column) { format!("{BOLD}{padded}{PLAIN}") } else { padded }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
        if index == 0 {
            text += &widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join("  ");
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::status;
    use std::collections::BTreeMap;

    fn run(role: Role, tasks: &[&str], trial: Option<u32>, scores: &[f64]) -> RunSummary {
        let result = |(task, score): (&&str, &f64)| TaskResult {
            task: (*task).to_owned(),
            main_metric: "accuracy".to_owned(),
            metrics: BTreeMap::from([("accuracy".to_owned(), *score)]),
            majority: Some(52.7),
            rows: 277,
        };
        RunSummary {
            name: String::new(),
            role,
            tasks: tasks.iter().map(|task| (*task).to_owned()).collect(),
            trial,
            fold: None,
            phase: if scores.is_empty() { RunPhase::Running } else { RunPhase::Succeeded },
            message: String::new(),
            shared: String::new(),
            progress: None,
            results: tasks.iter().zip(scores).map(result).collect(),
            finished_at: None,
        }
    }

    fn of(runs: Vec<RunSummary>) -> BamExperimentStatus {
        BamExperimentStatus { scores: status::scores(&runs), runs, ..Default::default() }
    }

    #[test]
    fn several_teachers_of_a_task_have_one_column_with_their_mean_once_all_are_done() {
        let teachers = |second: &[f64]| {
            of(vec![
                run(Role::Teacher, &["rte"], None, &[66.0]),
                run(Role::Teacher, &["rte"], None, second),
                run(Role::Student, &["rte"], Some(1), &[71.2]),
            ])
        };
        assert!(scores(&teachers(&[65.0]), false).contains("65.5     71.2\n"), "{}", scores(&teachers(&[65.0]), false));
        assert!(scores(&teachers(&[]), false).contains("-     71.2\n"), "{}", scores(&teachers(&[]), false));
    }

    #[test]
    fn the_best_of_each_task_is_bold_on_a_terminal() {
        let status = of(vec![
            run(Role::Teacher, &["rte"], None, &[66.4]),
            run(Role::Teacher, &["mrpc"], None, &[88.1]),
            run(Role::Student, &["rte", "mrpc"], Some(1), &[71.2, 87.9]),
        ]);
        let plain = "task  metric    majority  teacher  student\n\
                     ----  --------  --------  -------  -------\n\
                     rte   accuracy      52.7     66.4     71.2\n\
                     mrpc  accuracy      52.7     88.1     87.9\n";
        assert_eq!(scores(&status, false), plain);
        let bold = scores(&status, true);
        assert!(bold.contains("   66.4  \u{1b}[1m   71.2\u{1b}[0m\n"), "{bold:?}");
        assert!(bold.contains("\u{1b}[1m   88.1\u{1b}[0m     87.9\n"), "{bold:?}");
    }

    #[test]
    fn many_trials_are_shown_by_their_best_and_their_median() {
        let trial = |trial: u32| run(Role::Student, &["rte"], Some(trial), &[f64::from(60 + trial)]);
        let table = scores(&of((1..=9).map(trial).collect()), false);
        let expected = "task  metric    majority  best  median   sd\n\
                        ----  --------  --------  ----  ------  ---\n\
                        rte   accuracy      52.7  69.0    65.0  2.7\n";
        assert_eq!(table, expected);
    }

    #[test]
    fn what_is_not_finished_has_no_number() {
        let status = of(vec![run(Role::Teacher, &["rte"], None, &[66.4]), run(Role::Student, &["rte"], Some(1), &[])]);
        assert!(scores(&status, true).ends_with("rte   accuracy      52.7     66.4        -\n"));
        assert_eq!(scores(&of(vec![run(Role::Student, &["rte"], Some(1), &[])]), true), "");
    }
}
