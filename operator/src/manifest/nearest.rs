//! What somebody who mistyped a word most likely meant.

/// The word that is nearest to `typed`, if one is near enough to be meant.
pub fn nearest<'a>(typed: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed_lower = typed.to_lowercase();
    let near = words.into_iter().map(|word| (distance(&typed_lower, &word.to_lowercase()), word)).min()?;
    let longer = typed.chars().count().max(near.1.chars().count());
    // A third of the letters: `rtee` is rte, `learnRate` is learningRate, `foo` is nothing.
    (near.0 * 3 <= longer.max(3)).then_some(near.1)
}

/// Letters to insert, remove, change, or swap with their neighbour, to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<_>, Vec<_>) = (one.chars().collect(), other.chars().collect());
    let mut before_last = vec![0; other.len() + 1];
    let mut last: Vec<_> = (0..=other.len()).collect();
    for i in 0..one.len() {
        let mut row = vec![i + 1];
        for j in 0..other.len() {
            let change = last[j] + usize::from(one[i] != other[j]);
            let mut best = change.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && one[i] == other[j - 1] && one[i - 1] == other[j] {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        let tasks = ["cola", "mnli", "mrpc", "rte", "sst", "sts"];
        for (typed, meant) in [
            ("rtee", Some("rte")),
            ("RTE", Some("rte")),
            ("mprc", Some("mrpc")),
            ("cloa", Some("cola")),
            ("squad", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, tasks), meant, "{typed}");
        }
        assert_eq!(nearest("learnRate", ["learningRate", "lrDecay"]), Some("learningRate"));
    }
}
