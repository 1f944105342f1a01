//! Layer-wise learning rates: the further a parameter is from the heads, the slower it learns.

/// Where a parameter stands between the input and the heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// The embedding tables and their layer norm.
    Embeddings,
    /// Encoder layer number, from 0 at the bottom.
    Layer(usize),
    /// The pooler.
    Pooler,
    /// The heads.
    Heads,
}

impl Depth {
    /// The depth of a parameter by its name (Hugging Face's, without `bert.`; heads are `heads.<task>.…`), or nothing for a name that belongs nowhere.
    pub fn of(name: &str) -> Option<Self> {
        if let Some(rest) = name.strip_prefix("encoder.layer.") {
            return rest.split('.').next()?.parse().ok().map(Self::Layer);
        }
        [("embeddings.", Self::Embeddings), ("pooler.", Self::Pooler), ("heads.", Self::Heads)]
            .into_iter()
            .find_map(|(prefix, depth)| name.starts_with(prefix).then_some(depth))
    }

    /// Steps between this depth and the heads, in an encoder of `layers` layers.
    ///
    /// `layers` is given, not counted: the reference's debug run counts twelve though its encoder has three.
    fn steps_below_heads(self, layers: usize) -> i32 {
        let depth = match self {
            Self::Embeddings => 0,
            Self::Layer(number) => number + 1,
            Self::Pooler => layers + 1,
            Self::Heads => layers + 2,
        };
        (layers + 2) as i32 - depth as i32
    }

    /// The factor of the learning rate: `decay` to the power of the steps below the heads. A `decay` of 0 or less turns it off.
    pub fn multiplier(self, layers: usize, decay: f64) -> f64 {
        if decay > 0.0 { decay.powi(self.steps_below_heads(layers)) } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipliers_of_base_and_large_are_those_of_the_reference() {
        let table = [
            (Depth::Heads, 12, 1.0),
            (Depth::Pooler, 12, 0.9),
            (Depth::Layer(11), 12, 0.81),
            (Depth::Layer(0), 12, 0.254187),
            (Depth::Embeddings, 12, 0.228768),
            (Depth::Heads, 24, 1.0),
            (Depth::Pooler, 24, 0.9),
            (Depth::Layer(23), 24, 0.81),
            (Depth::Layer(0), 24, 0.071790),
            (Depth::Embeddings, 24, 0.064611),
        ];
        for (depth, layers, expected) in table {
            let got = depth.multiplier(layers, 0.9);
            assert!((got - expected).abs() < 5e-7, "{depth:?} of {layers}: {got} instead of {expected}");
        }
    }

    #[test]
    fn three_layers_under_a_name_that_says_twelve_get_the_slowest_rates() {
        assert_eq!(Depth::Layer(2).multiplier(12, 0.9), 0.9f64.powi(11));
        assert_eq!(Depth::Pooler.multiplier(12, 0.9), 0.9);
    }

    #[test]
    fn a_decay_of_zero_or_less_gives_one_rate_to_all() {
        assert_eq!(Depth::Embeddings.multiplier(12, 0.0), 1.0);
        assert_eq!(Depth::Layer(0).multiplier(12, -1.0), 1.0);
    }

    #[test]
    fn names_say_their_depth() {
        assert_eq!(Depth::of("embeddings.LayerNorm.bias"), Some(Depth::Embeddings));
        assert_eq!(Depth::of("encoder.layer.11.output.dense.weight"), Some(Depth::Layer(11)));
        assert_eq!(Depth::of("pooler.dense.bias"), Some(Depth::Pooler));
        assert_eq!(Depth::of("heads.rte.weight"), Some(Depth::Heads));
        assert_eq!(Depth::of("cls.predictions.bias"), None);
    }
}
