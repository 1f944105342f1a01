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

/// The losses of a step's micro-batches together.
pub(crate) struct Losses {
    /// Weighted sum over all rows.
    pub sum: f64,
    /// Rows and weighted sum of each task.
    tasks: Vec<(usize, f64)>,
}

impl Losses {
    /// Nothing yet, of so many tasks.
    pub(crate) fn new(tasks: usize) -> Self {
        Self { sum: 0.0, tasks: vec![(0, 0.0); tasks] }
    }

    /// Reads all numbers of a micro-batch at once: on a GPU each read waits for the device.
    pub(crate) fn add(&mut self, part: &Part) {
        let scalars: Vec<Tensor> =
            [&part.sum].into_iter().chain(part.tasks.iter().map(|(_, _, sum)| sum)).map(Tensor::detach).collect();
        let values = Vec::<f32>::try_from(Tensor::stack(&scalars, 0).to_device(Device::Cpu)).expect("losses are f32");
        self.sum += f64::from(values[0]);
        for ((task, rows, _), value) in part.tasks.iter().zip(&values[1..]) {
            self.tasks[*task].0 += rows;
            self.tasks[*task].1 += f64::from(*value);
        }
    }

    /// The mean loss of the rows of each task that has some.
    pub(crate) fn means<'a>(&self, tasks: &'a [PreparedTask]) -> Vec<(&'a str, f64)> {
        let with_rows = tasks.iter().zip(&self.tasks).filter(|(_, (rows, _))| *rows > 0);
        let mean = |task: &PreparedTask, rows: usize, sum: f64| sum / (task.weight * rows as f64);
        with_rows.map(|(task, (rows, sum))| (task.task.name.as_str(), mean(task, *rows, *sum))).collect()
    }
}
