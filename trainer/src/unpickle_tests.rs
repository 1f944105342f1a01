//! Files that CPython and NumPy wrote, files that this program wrote, and files that nobody should have written.

use super::*;
use crate::pickle;
use crate::task::find;
use proptest::prelude::*;
use std::path::Path;

/// A committed file of `tests/parity/pickles.py`.
fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pickles");
    std::fs::read(folder.join(name)).unwrap()
}

const WRITERS: [&str; 4] =
    ["python2.7_numpy1.16", "python3.7_numpy1.16", "python3.12_numpy1.26", "python3.11_numpy2.4"];
const EIDS: [u32; 3] = [0, 300, 70_000];
const LOGITS: [f32; 9] = [1.5, -2.0, 0.25, 3.0, -0.5, 8.0, 1e-8, 1e30, -7.0];
const SCORES: [f32; 3] = [0.75, -0.125, 3e-5];

/// Rows in the order of their ids: a dict of Python 2 has none.
fn sorted((eids, outputs): (Vec<u32>, Vec<f32>), width: usize) -> (Vec<u32>, Vec<f32>) {
    let mut rows: Vec<_> = eids.into_iter().zip(outputs.chunks(width)).collect();
    rows.sort_by_key(|(eid, _)| *eid);
    rows.into_iter().map(|(eid, row)| (eid, row.to_vec())).fold((vec![], vec![]), |(mut eids, mut all), (eid, row)| {
        eids.push(eid);
        all.extend(row);
        (eids, all)
    })
}

#[test]
fn logits_and_scores_of_every_python_and_numpy_are_read_to_the_bit() {
    for writer in WRITERS {
        let logits = predictions(&golden(&format!("{writer}_logits.pkl")), 3);
        assert_eq!(sorted(logits.unwrap(), 3), (EIDS.to_vec(), LOGITS.to_vec()), "{writer}");
        let scores = predictions(&golden(&format!("{writer}_scores.pkl")), 1);
        assert_eq!(sorted(scores.unwrap(), 1), (EIDS.to_vec(), SCORES.to_vec()), "{writer}");
    }
}

#[test]
fn a_row_that_is_not_as_wide_as_the_task_is_named() {
    for writer in WRITERS {
        let said = predictions(&golden(&format!("{writer}_logits.pkl")), 2).unwrap_err();
        assert!(said.starts_with("the example id ") && said.ends_with(" has 3 outputs, and the task has 2"), "{said}");
        let said = predictions(&golden(&format!("{writer}_scores.pkl")), 2).unwrap_err();
        assert!(said.ends_with(" has one output, and the task has 2"), "{said}");
    }
}

#[test]
fn a_torn_file_is_an_error_wherever_it_ends() {
    for writer in WRITERS {
        let whole = golden(&format!("{writer}_logits.pkl"));
        for length in 0..whole.len() {
            assert!(predictions(&whole[..length], 3).is_err(), "{writer}: {length} bytes");
        }
    }
}

#[test]
fn what_no_file_of_predictions_has_is_refused_with_its_place() {
    let cases: &[(&[u8], &str)] = &[
        (b"cos\nsystem\n(S'true'\ntR.", "byte 11: it refers to os.system, which belongs in no file of predictions"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "byte 19: it refers to builtins.eval, which belongs"),
        (b"\x80\x04\x8c\x0bnumpy.core.\x8c\x04load\x93.", "numpy.core..load"),
        (b"\x80\x09.", "byte 2: pickle protocol 9 is not known; known are 2 to 5"),
        (b"\x80\x04\x8c\x02hiQ.", "byte 7: the instruction 0x51 stands in no file of predictions"),
        (b"PK\x03\x04", "byte 1: the instruction 0x50"),
        (b"", "byte 0: the file ends too early"),
        (b".", "byte 1: the stack is empty"),
        (b"N.", "it holds no dict"),
        (b"}}.", "there is more than one dict"),
        (b"}(K\x01u.", "a key has no value"),
        (b"}(K\x01NNu.", "a key has no value"),
        (b"}NNs.", "a key of the dict is no example id"),
        (b"NK\x01Ns.", "entries belong to no dict"),
        (b"}K\x01Ns.", "the example id 1 has something else than outputs"),
        (b"}J\xff\xff\xff\xffNs.", "-1 is no example id"),
        (b"}\x8a\x09\x01\x00\x00\x00\x00\x00\x00\x00\x01Ns.", "a number has more than 64 bits"),
        (
            b"}(K\x01G\x3f\xf0\x00\x00\x00\x00\x00\x00K\x01G\x3f\xf0\x00\x00\x00\x00\x00\x00u.",
            "example id 1 stands twice",
        ),
        (b"N(0.", "a mark is in the way"),
        (b"NN(\x86.", "a mark is in the way"),
        (b"h\x00.", "there is nothing in memo 0"),
        (b"Nr\xff\xff\xff\xff.", "memo 4294967295 comes too early"),
        (b"B\xff\xff\xff\xffx", "the file ends too early"),
        (b"\x96\xff\xff\xff\xff\xff\xff\xff\xffx", "the file ends too early"),
        (b"cnumpy\ndtype\nU\x02O8\x85R.", "numbers of the type O8 are not read"),
        (b"cnumpy\ndtype\nU\x02f4\x85R(K\x03U\x01>NNNtb.", "numbers of the type > are not read"),
        (b"cnumpy\nndarray\n)R.", "it calls something with arguments that stand in no file of predictions"),
    ];
    for (bytes, expected) in cases {
        let said = predictions(bytes, 1).unwrap_err();
        assert!(said.contains(expected), "{}: {said}", bytes.escape_ascii());
    }
}

#[test]
fn numbers_of_other_kinds_and_shapes_are_read_where_they_mean_outputs() {
    let float = |wide: &[u8]| [b"}K\x05G", wide, b"s."].concat();
    assert_eq!(predictions(&float(&0.5f64.to_be_bytes()), 1).unwrap(), (vec![5], vec![0.5]));
    // numpy.array([1.0, 2.0]) and numpy.array(2.0), both float64, as NumPy 1 writes them in protocol 2.
    let array = |shape: &[u8], numbers: &[f64]| {
        let data: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let make = b"}K\x05cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01";
        let dtype = b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNK\x00tb\x89U";
        [&make[..], shape, dtype, &[data.len() as u8], &data, b"tbs."].concat()
    };
    assert_eq!(predictions(&array(b"K\x02\x85", &[1.0, 2.0]), 2).unwrap(), (vec![5], vec![1.0, 2.0]));
    assert_eq!(predictions(&array(b")", &[2.0]), 1).unwrap(), (vec![5], vec![2.0]));
    let said = predictions(&array(b"K\x01K\x02\x86", &[1.0, 2.0]), 2).unwrap_err();
    assert!(said.ends_with("an array has more than one dimension"), "{said}");
    let said = predictions(&array(b"K\x03\x85", &[1.0, 2.0]), 3).unwrap_err();
    assert!(said.ends_with("an array of 3 numbers has 16 bytes"), "{said}");
}

#[test]
fn a_small_file_cannot_fill_the_memory() {
    let many = |byte: u8| vec![byte; 2 * MOST_ON_STACK];
    assert!(predictions(&many(b'N'), 1).unwrap_err().contains("too many values lie on the stack"));
    assert!(predictions(&many(b'('), 1).unwrap_err().contains("too many marks lie on the stack"));
    // Tuples of a tuple twice, each time: doubling would be without end where they were copied.
    let doubled: Vec<u8> = b"N\x94".iter().copied().chain(b"h\x000\x94h\x00h\x00\x860".repeat(100_000)).collect();
    assert!(predictions(&doubled, 1).is_err());
    // Ten thousand rows that are one and the same wide array.
    let array = b"}cnumpy.core.numeric\n_frombuffer\n(\x8e\x80\x3e\x00\x00\x00\x00\x00\x00";
    let dtype = b"cnumpy\ndtype\nU\x02f4\x85RM\xa0\x0f\x85U\x01CtR\x940(";
    let rows = (0..10_000u16).flat_map(|row| [&b"M"[..], &row.to_le_bytes(), b"h\x00"].concat());
    let shared: Vec<u8> =
        array.iter().copied().chain(vec![0; 16_000]).chain(dtype.iter().copied()).chain(rows).collect();
    let said = predictions(&[&shared[..], b"u."].concat(), 4000).unwrap_err();
    assert_eq!(said, "rows share their outputs");
}

proptest! {
    #[test]
    fn what_this_program_pickled_is_read_to_the_bit(
        rows in prop::collection::btree_map(any::<u32>(), prop::array::uniform3(any::<f32>()), 0..50),
    ) {
        let eids: Vec<u32> = rows.keys().copied().collect();
        let same = |got: &[f32], expected: &[f32]| {
            got.iter().map(|x| x.to_bits()).eq(expected.iter().map(|x| x.to_bits()))
        };
        let logits: Vec<f32> = rows.values().flatten().copied().collect();
        let (ids, read) = predictions(&pickle::predictions(find("mnli").unwrap(), &eids, &logits), 3).unwrap();
        prop_assert!(ids == eids && same(&read, &logits));
        // A single number goes through 64 bits, which make a signalling NaN quiet.
        let scores: Vec<f32> = rows.values().map(|row| row[0]).filter(|score| !score.is_nan()).collect();
        let (ids, read) = predictions(&pickle::predictions(find("sts").unwrap(), &eids[..scores.len()], &scores), 1).unwrap();
        prop_assert!(ids == eids[..scores.len()] && same(&read, &scores));
    }

    #[test]
    fn any_bytes_are_predictions_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400), width in 1usize..4) {
        let _ = predictions(&bytes, width);
    }

    #[test]
    fn any_instructions_are_predictions_or_an_error(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                &b"("[..], b"N", b"}", b"s", b"u", b"0", b"t", b")", b"\x85", b"\x86", b"\x87", b"R", b"b", b"K\x01", b"\x94",
                b"h\x00", b"h\x01", b"q\x02", b"U\x01<", b"U\x02f4", b"C\x04abcd", b"cnumpy\ndtype\n", b"cnumpy\nndarray\n",
                b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\nscalar\n",
                b"cnumpy.core.numeric\n_frombuffer\n",
            ]),
            0..200,
        ),
    ) {
        let _ = predictions(&parts.concat(), 1);
    }

    #[test]
    fn a_damaged_file_is_predictions_or_an_error(
        writer in prop::sample::select(WRITERS.to_vec()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = golden(&format!("{writer}_logits.pkl"));
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = predictions(&bytes, 3);
    }
}
