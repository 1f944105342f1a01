//! Which row is learned from at which step. All of it is computed before training from the sizes
//! of the tasks and a seed, so that resuming needs no more than the number of the step.
//!
//! The reference writes all tasks' rows (some repeated) and some padding into one file, in one
//! random order, and reads that over and over through a buffer of 100 rows from which it draws at
//! random: each epoch has the order of the one before, give or take a hundred rows.

use bam_crds::shares::train_steps;

use crate::random::Stream;

/// Rows in the buffer that the reference's reader draws from.
const BUFFER: usize = 100;

/// One place of the training set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Example {
    /// A training row of a task.
    Row {
        /// Position in the list of tasks.
        task: u16,
        /// Position in the task's training rows, swapped copies included.
        row: u32,
    },
    /// Contributes nothing: it fills the set up to whole batches.
    Padding,
}

/// The training set and the order in which it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    examples: Vec<Example>,
    order: Vec<u32>,
    batch: usize,
}

impl Schedule {
    /// The schedule of a run. `tasks` are each task's training rows and how many times they stand
    /// in the set. `train_batch_size` rows make a step; the set is read `epochs` times.
    pub fn new(tasks: &[(usize, usize)], train_batch_size: usize, epochs: f64, seed: u64) -> Schedule {
        let examples = training_set(tasks, train_batch_size, seed);
        let steps = train_steps(examples.len(), train_batch_size, epochs);
        let order = training_order(examples.len(), steps, train_batch_size, seed);
        Schedule { examples, order, batch: train_batch_size }
    }

    /// Number of optimizer steps.
    pub fn steps(&self) -> usize {
        self.order.len() / self.batch
    }

    /// The examples of a step, in their order.
    ///
    /// # Panics
    /// If there is no such step.
    pub fn step(&self, step: usize) -> impl ExactSizeIterator<Item = Example> + '_ {
        self.order[step * self.batch..][..self.batch].iter().map(|place| self.examples[*place as usize])
    }
}

/// All tasks' rows in order, each task's block as often as its multiple, then padding up to whole
/// batches; then everything shuffled.
pub fn training_set(tasks: &[(usize, usize)], batch: usize, seed: u64) -> Vec<Example> {
    let real: usize = tasks.iter().map(|(rows, multiple)| rows * multiple).sum();
    let mut examples = Vec::with_capacity(real.next_multiple_of(batch));
    for (task, (rows, multiple)) in tasks.iter().enumerate() {
        for _ in 0..*multiple {
            examples.extend((0..*rows as u32).map(|row| Example::Row { task: task as u16, row }));
        }
    }
    examples.resize(real.next_multiple_of(batch), Example::Padding);
    let order = Stream::new(seed, "data/file").permutation(examples.len());
    order.into_iter().map(|place| examples[place]).collect()
}

/// The places of the training set in the order of training, `steps * batch` of them: the set over
/// and over, through the buffer. An epoch's end is no boundary, the buffer runs on across it.
pub fn training_order(padded: usize, steps: usize, batch: usize, seed: u64) -> Vec<u32> {
    let mut stream = Stream::new(seed, "data/buffer");
    let mut file = (0..padded as u32).cycle();
    let mut buffer: Vec<u32> = file.by_ref().take(BUFFER).collect();
    let mut draw = || {
        let place = stream.below(BUFFER as u64) as usize;
        // A set of no rows has no steps, so there is always a next place.
        file.next().map(|next| std::mem::replace(&mut buffer[place], next))
    };
    (0..steps * batch).map_while(|_| draw()).collect()
}

#[cfg(test)]
#[path = "batches_tests.rs"]
mod tests;
