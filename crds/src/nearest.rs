//! "Did you mean": what somebody who mistyped a word most likely meant.

/// The word that is nearest to `typed` (case aside), if one is near enough to be meant.
pub fn nearest<'a>(typed: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = typed.to_lowercase();
    let distance = |word: &str| strsim::osa_distance(&lower, &word.to_lowercase());
    // The first of several that are equally near.
    let (distance, word) =
        words.into_iter().map(|word| (distance(word), word)).min_by_key(|(distance, _)| *distance)?;
    let longer = typed.chars().count().max(word.chars().count());
    // A third of the letters: `rtee` is rte, `learnRate` is learningRate, `foo` is nothing.
    (distance * 3 <= longer.max(3) && distance < word.chars().count()).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        let words = ["cola", "mnli", "mrpc", "rte", "sst", "sts", "learning_rate", "lr_decay", "train_batch_size"];
        for (typed, meant) in [
            ("rtee", Some("rte")),
            ("RTE", Some("rte")),
            ("tre", Some("rte")),
            ("mprc", Some("mrpc")),
            ("sst2", Some("sst")),
            ("learning_rat", Some("learning_rate")),
            ("train_batchsize", Some("train_batch_size")),
            ("squad", None),
            ("squad_v2_large", None),
            ("qqq", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, words), meant, "{typed}");
        }
        assert_eq!(nearest("sts1", ["sts2", "sts3"]), Some("sts2"), "the first of two");
        assert_eq!(nearest("anything", []), None);
    }
}
