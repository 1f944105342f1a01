//! MRPC in GLUE's split, made of the files that its owner gives away, as GLUE's own script makes it.

use std::collections::HashSet;

/// What the two label-bearing files and the test file are to hold.
#[derive(Debug, PartialEq)]
pub struct Splits {
    /// `train.tsv`: the rows that are not in the dev set.
    pub train: String,
    /// `dev.tsv`: the rows whose pair of ids was listed.
    pub dev: String,
    /// `test.tsv`: all rows of the test file, numbered instead of labelled.
    pub test: String,
}

/// First line of GLUE's test file.
const TEST_HEADER: &str = "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n";

/// Splits the owner's rows. `dev_ids` holds a pair of ids a line.
///
/// # Errors
/// All rows that are none, and listed pairs that no row has.
pub fn split(train: &str, test: &str, dev_ids: &str) -> Result<Splits, Vec<String>> {
    let mut problems = Vec::new();
    let wanted: HashSet<&str> = dev_ids.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let header = train.lines().next().unwrap_or_default();
    let mut splits = Splits { train: format!("{header}\n"), dev: format!("{header}\n"), test: TEST_HEADER.to_owned() };
    let mut found = HashSet::new();
    for row in rows("msr_paraphrase_train.txt", train, &mut problems) {
        let pair = &row.line[row.ids.clone()];
        let split = match wanted.contains(pair) {
            true => {
                found.insert(pair);
                &mut splits.dev
            }
            false => &mut splits.train,
        };
        split.push_str(row.line);
        split.push('\n');
    }
    for (number, row) in rows("msr_paraphrase_test.txt", test, &mut problems).enumerate() {
        let rest = &row.line[row.ids.start..];
        splits.test.push_str(&format!("{number}\t{rest}\n"));
    }
    let missing = wanted.len() - found.len();
    if missing > 0 {
        problems.push(format!("mrpc_dev_ids.tsv: {missing} of its pairs are not in msr_paraphrase_train.txt"));
    }
    if problems.is_empty() { Ok(splits) } else { Err(problems) }
}

/// A line of five fields: label, two ids, two sentences.
struct Row<'a> {
    line: &'a str,
    /// Where the two ids stand, with the TAB between them.
    ids: std::ops::Range<usize>,
}

fn rows<'a>(file: &str, text: &'a str, problems: &mut Vec<String>) -> impl Iterator<Item = Row<'a>> {
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate().skip(1) {
        let line = line.trim();
        let tabs: Vec<_> = line.match_indices('\t').map(|(at, _)| at).collect();
        match tabs[..] {
            [label, _, ids, _] => rows.push(Row { line, ids: label + 1..ids }),
            _ => problems.push(format!("{file}: line {} has {} fields, not 5", index + 1, tabs.len() + 1)),
        }
    }
    rows.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "\u{feff}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String";

    #[test]
    fn listed_pairs_go_to_dev_and_tests_are_numbered() {
        let train = format!("{HEADER}\r\n1\t10\t11\tA .\tB .\r\n0\t20\t21\tC\tD \r\n1\t30\t31\t\"E\"\tF");
        let test = format!("{HEADER}\n1\t7\t8\tx\ty\n0\t9\t9\tz\tz\n");
        let splits = split(&train, &test, "20\t21\n").unwrap();
        assert_eq!(splits.train, format!("{HEADER}\n1\t10\t11\tA .\tB .\n1\t30\t31\t\"E\"\tF\n"));
        assert_eq!(splits.dev, format!("{HEADER}\n0\t20\t21\tC\tD\n"));
        assert_eq!(splits.test, "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t7\t8\tx\ty\n1\t9\t9\tz\tz\n");
    }

    #[test]
    fn rows_that_are_none_and_pairs_that_no_row_has_are_told_at_once() {
        let problems = split("h\n1\t2\t3\n", "h\n1\t2\t3\t4\t5\t6\n", "20\t21\n22\t23\n").unwrap_err();
        assert_eq!(
            problems,
            [
                "msr_paraphrase_train.txt: line 2 has 3 fields, not 5",
                "msr_paraphrase_test.txt: line 2 has 6 fields, not 5",
                "mrpc_dev_ids.tsv: 2 of its pairs are not in msr_paraphrase_train.txt",
            ]
        );
    }
}
