//! Cuts the rows of one optimizer step into micro-batches that fit the memory. Which rows belong to
//! the step is decided before and never changed here: their gradients are summed, so the cut
//! changes nothing but rounding.

/// Groups the rows of a step by length. `lengths[i]` is the number of pieces of row `i` of the
/// step, `None` for padding, which contributes nothing and is left out. Returns positions in
/// `lengths`, each real row once.
///
/// Rows go from the longest to the shortest, equal ones in their order, and a micro-batch takes
/// the next row as long as it has at most `limit` pieces after padding: rows times the longest of
/// them. So the first one is the widest: what does not fit the memory shows at once. A row longer
/// than the limit goes alone.
pub fn cut(lengths: &[Option<usize>], limit: usize) -> Vec<Vec<usize>> {
    let mut rows: Vec<(usize, usize)> =
        lengths.iter().enumerate().filter_map(|(i, length)| length.map(|length| (i, length))).collect();
    rows.sort_by_key(|(_, length)| std::cmp::Reverse(*length));

    let mut batches = Vec::new();
    let mut rest = rows.as_slice();
    while let Some((_, longest)) = rest.first() {
        let take = (limit / (*longest).max(1)).clamp(1, rest.len());
        let (batch, after) = rest.split_at(take);
        batches.push(batch.iter().map(|(i, _)| *i).collect());
        rest = after;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_step_is_cut_as_its_limit_says() {
        let lengths: Vec<Option<usize>> = vec![Some(10), None, Some(40), Some(10), Some(20), Some(40), None];
        let cases: [(usize, &[&[usize]]); 5] = [
            (4096, &[&[2, 5, 4, 0, 3]]),
            (80, &[&[2, 5], &[4, 0, 3]]),
            (40, &[&[2], &[5], &[4, 0], &[3]]),
            (1, &[&[2], &[5], &[4], &[0], &[3]]),
            (0, &[&[2], &[5], &[4], &[0], &[3]]),
        ];
        for (limit, batches) in cases {
            assert_eq!(cut(&lengths, limit), batches, "{limit} pieces");
        }
    }

    #[test]
    fn a_step_of_padding_alone_has_no_micro_batch() {
        assert!(cut(&[None, None], 8).is_empty());
        assert!(cut(&[], 8).is_empty());
    }

    proptest! {
        #[test]
        fn every_real_row_stands_once_and_the_limit_holds(
            lengths in prop::collection::vec(prop::option::of(2usize..129), 0..200),
            limit in 1usize..5000,
        ) {
            let batches = cut(&lengths, limit);
            let mut seen: Vec<usize> = batches.concat();
            let in_order: Vec<usize> = seen.iter().map(|i| lengths[*i].unwrap()).collect();
            prop_assert!(in_order.is_sorted_by(|a, b| a >= b));
            seen.sort_unstable();
            let real: Vec<usize> = (0..lengths.len()).filter(|i| lengths[*i].is_some()).collect();
            prop_assert_eq!(seen, real);
            for batch in &batches {
                let longest = batch.iter().filter_map(|i| lengths[*i]).max().unwrap();
                prop_assert!(batch.len() == 1 || batch.len() * longest <= limit);
            }
            // Greedy: no micro-batch could have taken the next one's first row.
            for pair in batches.windows(2) {
                let longest = lengths[pair[0][0]].unwrap();
                prop_assert!((pair[0].len() + 1) * longest > limit);
            }
        }
    }
}
