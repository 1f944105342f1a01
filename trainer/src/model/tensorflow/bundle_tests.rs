//! On a checkpoint that TensorFlow wrote (`tests/parity/checkpoint.py`); that the values are TensorFlow's is tested in
//! `tests/parity.rs`.

use super::*;
use proptest::prelude::*;
use std::fs;

const INDEX: &str = "bert_model.ckpt.index";
const DATA: &str = "bert_model.ckpt.data-00000-of-00001";

fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new("tests/golden/checkpoint").join(name)).unwrap()
}

/// A checkpoint of these files.
struct Files(tempfile::TempDir);

impl Files {
    fn new(index: &[u8], data: &[u8]) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        fs::write(files.path(INDEX), index).unwrap();
        fs::write(files.path(DATA), data).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self) -> Result<TensorBundle, TensorFileError> {
        TensorBundle::open(&self.path(INDEX), &self.path(DATA))
    }

    /// Reads everything that is numbers.
    fn read(&self) -> Result<Vec<Tensor>, TensorFileError> {
        let mut bundle = self.open()?;
        bundle.names().iter().map(|name| bundle.read(name)).collect()
    }

    #[track_caller]
    fn refused(&self, parts: &[&str]) {
        let error = self.read().unwrap_err();
        assert!(matches!(error, TensorFileError::Malformed { .. }), "{error}");
        for part in parts.iter().chain(&["TensorFlow checkpoint"]) {
            assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
        }
    }
}

/// Where the blocks of a table begin and where their checksums stand, in the order of the file.
fn blocks(index: &[u8]) -> Vec<(usize, usize)> {
    let mut begin = 0;
    let mut blocks = Vec::new();
    // Blocks lie end to end, and each has a checksum that fits: so they are found without reading any of them.
    while begin < index.len() - 48 {
        let sealed = |end: &usize| masked_crc(&index[begin..*end]).to_le_bytes() == index[*end..*end + 4];
        let end = (begin + 1..index.len() - 48 - 3).find(sealed).unwrap();
        blocks.push((begin, end));
        begin = end + 4;
    }
    blocks
}

/// Makes the checksums of changed blocks fit again, so that what comes after them is tried.
fn seal(index: &mut [u8], blocks: &[(usize, usize)]) {
    for &(begin, end) in blocks {
        let crc = masked_crc(&index[begin..end]);
        index[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

#[test]
fn a_flipped_bit_of_a_value_is_noticed_and_the_variable_named() {
    let mut data = golden(DATA);
    for at in (0..data.len()).step_by(41) {
        data[at] ^= 0x10;
        Files::new(&golden(INDEX), &data).refused(&[DATA, "the checksum of "]);
        data[at] ^= 0x10;
    }
}

#[test]
fn a_file_that_ends_too_early_is_noticed_when_it_is_opened() {
    let (index, data) = (golden(INDEX), golden(DATA));
    let short = Files::new(&index, &data[..data.len() - 1]);
    let error = short.open().unwrap_err().to_string();
    let promised = format!("promises {} bytes, it has {}", data.len(), data.len() - 1);
    assert!(error.contains(&promised) && error.contains(DATA), "{error}");
    for length in 0..index.len() {
        assert!(entries(&index[..length]).is_err(), "{length}");
    }
    Files::new(&index[..index.len() / 2], &data).refused(&[INDEX]);
}

#[test]
fn a_flipped_bit_of_the_index_is_noticed_wherever_it_matters() {
    let index = golden(INDEX);
    let whole = entries(&index).unwrap();
    // Nobody reads the block before the last, which has further information, and the footer has room and no checksum.
    let blocks = blocks(&index);
    let (begin, end) = blocks[blocks.len() - 2];
    let unread = |at: usize| (begin..end + 4).contains(&at) || at >= index.len() - 48;
    for at in 0..index.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = index.clone();
            changed[at] ^= flip;
            if let Ok(read) = entries(&changed) {
                assert!(unread(at) && read == whole, "byte {at}");
            }
        }
    }
}

#[test]
fn files_of_another_kind_are_refused_by_name() {
    for content in [&b""[..], b"no", &[0; 48], &[0xff; 4096], b"{\"model_checkpoint_path\": 1}"] {
        Files::new(content, &golden(DATA)).refused(&[INDEX]);
    }
}

#[test]
fn an_index_that_was_packed_with_snappy_is_read_alike() {
    let index = golden(INDEX);
    // TensorFlow reads packed blocks but writes none, so the pieces of its file are put together anew.
    let (mut packed, mut handles) = (Vec::new(), Vec::new());
    let blocks = blocks(&index);
    for &(begin, end) in &blocks {
        let mut content = index[begin..end - 1].to_vec();
        if handles.len() + 1 == blocks.len() {
            // The last block lists the others: their places have changed.
            content = list(&handles);
        }
        let mut block = snap::raw::Encoder::new().compress_vec(&content).unwrap();
        block.push(1);
        handles.push((packed.len(), block.len() - 1));
        let crc = masked_crc(&block).to_le_bytes();
        packed.extend(block);
        packed.extend(crc);
    }
    let mut footer = Vec::new();
    for &(offset, size) in &handles[handles.len() - 2..] {
        varint(&mut footer, offset);
        varint(&mut footer, size);
    }
    footer.resize(40, 0);
    packed.extend(footer);
    packed.extend(&index[index.len() - 8..]);
    assert_eq!(entries(&packed), entries(&index));
}

#[test]
fn a_small_file_cannot_ask_for_much_memory() {
    let snappy_of_4_gb = [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0; 16]].concat();
    // Each entry has an empty key and an empty value.
    let of_entries = snap::raw::Encoder::new().compress_vec(&[0; 3 * 3_000_000]).unwrap();
    for mut index in [snappy_of_4_gb, of_entries] {
        let size = index.len();
        index.push(1);
        index.extend(masked_crc(&index).to_le_bytes());
        let mut footer = Vec::new();
        for number in [0, 0, 0, size] {
            varint(&mut footer, number);
        }
        footer.resize(40, 0);
        index.extend(footer);
        index.extend(0xdb47_7524_8b80_fb57_u64.to_le_bytes());
        let error = entries(&index).unwrap_err();
        assert!(error.ends_with("it unpacks to more than 64 MB"), "{error}");
    }
}

/// A block that lists the data blocks, all but the last of `handles`, which is the one of further information.
fn list(handles: &[(usize, usize)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (number, &(offset, size)) in handles[..handles.len() - 1].iter().enumerate() {
        let mut value = Vec::new();
        varint(&mut value, offset);
        varint(&mut value, size);
        block.extend([0, 1, value.len() as u8, number as u8]);
        block.extend(value);
    }
    block.extend([0, 0, 0, 0, 1, 0, 0, 0]);
    block
}

fn varint(to: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn an_index_of_any_content_under_right_checksums_is_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut index = golden(INDEX);
        let blocks = blocks(&index);
        for (at, byte) in changes {
            index[at.index(blocks.last().unwrap().1)] = byte;
        }
        seal(&mut index, &blocks);
        // What is read must be usable: shapes and sizes that fit, and no more than the data file has.
        if entries(&index).is_ok() {
            let _ = Files::new(&index, &golden(DATA)).read();
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let mut index = bytes;
        index.extend(0xdb47_7524_8b80_fb57_u64.to_le_bytes());
        prop_assert!(entries(&index).is_err());
    }
}
