//! What the parameters of an encoder are called in files, and by what name this program knows them: Hugging Face's present
//! ones without `bert.`.

/// The present name of a tensor in a file of Hugging Face's: without `bert.`, and `weight`, `bias` for the names that layer
/// norms had in early files.
pub(super) fn of_hugging_face(stored: &str) -> String {
    let name = stored.strip_prefix("bert.").unwrap_or(stored);
    name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
}

/// The present name of a variable in a checkpoint of Google's, and whether its axes are the other way round there: the
/// kernel of a dense layer is [in, out]. What is no encoder parameter (optimizer slots, pre-training heads) gets a name that
/// none has.
pub(super) fn of_tensorflow(stored: &str) -> (String, bool) {
    let path = stored.strip_prefix("bert/").unwrap_or(stored);
    let (place, last) = path.rsplit_once('/').unwrap_or(("", path));
    let parts = place.split('/').map(|part| match part.strip_prefix("layer_") {
        Some(number) => format!("layer.{number}"),
        None => part.to_owned(),
    });
    let own = match last {
        "kernel" | "gamma" => "weight".to_owned(),
        "beta" => "bias".to_owned(),
        table if table.ends_with("_embeddings") => format!("{table}.weight"),
        other => other.to_owned(),
    };
    (parts.chain([own]).collect::<Vec<_>>().join("."), last == "kernel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn googles_names_become_hugging_faces() {
        for (stored, name, transposed) in [
            ("bert/embeddings/word_embeddings", "embeddings.word_embeddings.weight", false),
            ("bert/embeddings/token_type_embeddings", "embeddings.token_type_embeddings.weight", false),
            ("bert/embeddings/LayerNorm/gamma", "embeddings.LayerNorm.weight", false),
            ("bert/encoder/layer_11/attention/self/query/kernel", "encoder.layer.11.attention.self.query.weight", true),
            ("bert/encoder/layer_0/output/LayerNorm/beta", "encoder.layer.0.output.LayerNorm.bias", false),
            ("bert/pooler/dense/bias", "pooler.dense.bias", false),
            ("pooler/dense/kernel", "pooler.dense.weight", true),
            // An optimizer's slot must not be taken for its parameter.
            ("bert/pooler/dense/kernel/adam_m", "pooler.dense.kernel.adam_m", false),
        ] {
            assert_eq!(of_tensorflow(stored), (name.to_owned(), transposed), "{stored}");
        }
    }

    #[test]
    fn hugging_faces_old_names_become_the_present_ones() {
        for (stored, name) in [
            ("bert.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight"),
            ("encoder.layer.0.output.LayerNorm.beta", "encoder.layer.0.output.LayerNorm.bias"),
            ("pooler.dense.weight", "pooler.dense.weight"),
        ] {
            assert_eq!(of_hugging_face(stored), name);
        }
    }
}
