//! "Did you mean": the closest of some known names to a mistyped one.

/// The candidate with the smallest edit distance to `name` (ASCII case aside), if it is close
/// enough to be a likely slip: at most two edits, or a third of the name's length where that is
/// more. The first of several equally close ones wins.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = name.to_ascii_lowercase().chars().collect();
    let limit = (wanted.len() / 3).max(2);
    candidates
        .into_iter()
        .map(|c| (edit_distance(&wanted, &c.to_ascii_lowercase().chars().collect::<Vec<_>>()), c))
        // Replacing every letter is no slip, however short the name.
        .filter(|(distance, c)| *distance <= limit && *distance < c.chars().count().max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

/// Levenshtein distance, one row of the table at a time.
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_finds_none() {
        let options = ["learning_rate", "lr_decay", "train_batch_size", "rte", "sts", "sst"];
        for (typed, found) in [
            ("learning_rat", Some("learning_rate")),
            ("Learning_Rate", Some("learning_rate")),
            ("train_batchsize", Some("train_batch_size")),
            ("tre", Some("rte")),
            ("sst2", Some("sst")),
            ("squad_v2_large", None),
            ("qqq", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, options), found, "{typed}");
        }
    }

    #[test]
    fn the_first_of_two_equally_close_names_wins() {
        assert_eq!(nearest("sts1", ["sts2", "sts3"]), Some("sts2"));
    }
}
