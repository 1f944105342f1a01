//! The losses of an optimizer step as numbers, summed over its micro-batches.

use tch::{Device, Tensor};

use crate::prepare::PreparedTask;

/// The losses of a micro-batch.
pub(crate) struct Part {
    /// Weighted sum over its rows: a scalar.
    pub sum: Tensor,
    /// Task, number of rows and weighted sum (a scalar) of each task that has rows in it.
    pub tasks: Vec<(usize, usize, Tensor)>,
}

/// The losses of a step's micro-batches, where they were computed.
#[derive(Default)]
pub(crate) struct Losses(Vec<Kept>);

/// Of a micro-batch: which tasks have how many rows in it; and the losses, f32 [1 + tasks]: their sum, then each one's.
struct Kept {
    tasks: Vec<(usize, usize)>,
    losses: Tensor,
}

/// The losses of a step.
pub(crate) struct StepLosses {
    /// Weighted sum over all rows.
    pub sum: f64,
    /// Rows and weighted sum of each task.
    tasks: Vec<(usize, f64)>,
}

impl Losses {
    /// One more micro-batch. Nothing is read: on a GPU that would wait until all of it is computed, and the next one could not
    /// be sent meanwhile.
    pub(crate) fn add(&mut self, part: &Part) {
        let sums = part.tasks.iter().map(|(_, _, sum)| sum);
        let scalars: Vec<Tensor> = [&part.sum].into_iter().chain(sums).map(Tensor::detach).collect();
        let tasks = part.tasks.iter().map(|(task, rows, _)| (*task, *rows)).collect();
        self.0.push(Kept { tasks, losses: Tensor::stack(&scalars, 0) });
    }

    /// The numbers, of so many tasks.
    pub(crate) fn read(self, tasks: usize) -> StepLosses {
        let mut read = StepLosses { sum: 0.0, tasks: vec![(0, 0.0); tasks] };
        for Kept { tasks, losses } in self.0 {
            let values = Vec::<f32>::try_from(losses.to_device(Device::Cpu)).expect("losses are f32");
            read.sum += f64::from(values[0]);
            for ((task, rows), value) in tasks.into_iter().zip(&values[1..]) {
                read.tasks[task].0 += rows;
                read.tasks[task].1 += f64::from(*value);
            }
        }
        read
    }
}

impl StepLosses {
    /// The mean loss of the rows of each task that has some.
    pub(crate) fn means<'a>(&self, tasks: &'a [PreparedTask]) -> Vec<(&'a str, f64)> {
        let with_rows = tasks.iter().zip(&self.tasks).filter(|(_, (rows, _))| *rows > 0);
        let mean = |task: &PreparedTask, rows: usize, sum: f64| sum / (task.weight * rows as f64);
        with_rows.map(|(task, (rows, sum))| (task.task.name.as_str(), mean(task, *rows, *sum))).collect()
    }
}
