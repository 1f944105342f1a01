//! Independent pieces of CPU work on as many threads as libtorch uses.

use std::sync::{Mutex, PoisonError};

/// Elements below which starting a thread (30 µs) costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 16;

/// Calls `work` once for every piece, in any order. `elements` is the size of all pieces together.
pub(crate) fn for_each<T: Send>(pieces: Vec<T>, elements: usize, work: impl Fn(T) + Sync) {
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).min(pieces.len());
    if threads <= 1 || elements < WORTH_A_THREAD {
        return pieces.into_iter().for_each(work);
    }
    let queue = Mutex::new(pieces.into_iter());
    let drain = || {
        // A poisoned queue means that a thread panicked; the scope passes that on.
        while let Some(piece) = { queue.lock().unwrap_or_else(PoisonError::into_inner).next() } {
            work(piece);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(drain);
        }
        drain();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        for elements in [0, usize::MAX] {
            let mut values = vec![0; 1000];
            for_each(values.chunks_mut(7).enumerate().collect(), elements, |(number, piece)| {
                piece.iter_mut().for_each(|value| *value += number + 1);
            });
            assert!(values.iter().enumerate().all(|(at, &value)| value == at / 7 + 1));
        }
    }
}
