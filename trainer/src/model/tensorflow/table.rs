//! LevelDB's sorted table, which TensorFlow's index file is.
//!
//! Data blocks, then a block that says where they are, then a footer that says where that one is. In a block each key is
//! written as what it shares with the one before it and the rest. Every block ends with how it is packed and a checksum.

use std::borrow::Cow;

use super::wire::{Wire, masked_crc};

/// Two handles, filled up with zeros, and the magic number.
const FOOTER: usize = 48;
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
/// How a block is packed (1 byte) and its checksum (4 bytes).
const TRAILER: usize = 5;
/// What a table may come to when unpacked. That of BERT-large with an optimizer's slots has 0.1 MB.
pub(super) const LARGEST: usize = 64 << 20;

/// A key and its value.
pub(super) type Entry = (Vec<u8>, Vec<u8>);

/// All entries of a table, in the order of their keys. An error says in a sentence what is wrong with the file.
pub(super) fn entries(file: &[u8]) -> Result<Vec<Entry>, String> {
    let mut reader = Reader { file, budget: LARGEST };
    let mut entries: Vec<Entry> = Vec::new();
    let mut end = 0;
    for (_, place) in reader.pairs(index_handle(file)?)? {
        let handle = Handle::read(&mut Wire(&place)).ok_or("its list of blocks cannot be read")?;
        if handle.offset < end {
            return Err(format!("its block at byte {} begins within the one before it", handle.offset));
        }
        end = handle.offset.saturating_add(handle.size);
        entries.append(&mut reader.pairs(handle)?);
    }
    match entries.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        true => Ok(entries),
        false => Err("its names are not in order".to_owned()),
    }
}

/// Where a block is.
struct Handle {
    offset: usize,
    /// Without the trailer.
    size: usize,
}

impl Handle {
    fn read(from: &mut Wire<'_>) -> Option<Self> {
        Some(Self { offset: from.length()?, size: from.length()? })
    }
}

/// Where the block is that lists the data blocks.
fn index_handle(file: &[u8]) -> Result<Handle, String> {
    let footer = file.len().checked_sub(FOOTER).map(|begin| &file[begin..]);
    let footer = footer.ok_or_else(|| format!("it has {} bytes", file.len()))?;
    let (handles, magic) = footer.split_at(FOOTER - size_of::<u64>());
    if magic != MAGIC.to_le_bytes() {
        return Err("it does not end as an index ends".to_owned());
    }
    let mut handles = Wire(handles);
    // The first one is of a block of further information, which is empty.
    Handle::read(&mut handles).and_then(|_| Handle::read(&mut handles)).ok_or("its footer cannot be read".to_owned())
}

struct Reader<'a> {
    file: &'a [u8],
    /// Bytes that may still be unpacked.
    budget: usize,
}

impl<'a> Reader<'a> {
    fn pairs(&mut self, handle: Handle) -> Result<Vec<Entry>, String> {
        let at = handle.offset;
        let block = self.block(handle)?;
        let mut pairs = Pairs::new(&block).ok_or_else(|| format!("its block at byte {at} cannot be read"))?;
        let mut entries = Vec::new();
        while !pairs.rest.is_empty() {
            let (key, value) = pairs.next().ok_or_else(|| format!("its block at byte {at} cannot be read"))?;
            self.spend(size_of::<Entry>() + key.len() + value.len())?;
            entries.push((key.to_vec(), value.to_vec()));
        }
        Ok(entries)
    }

    /// The content of a block.
    fn block(&mut self, Handle { offset, size }: Handle) -> Result<Cow<'a, [u8]>, String> {
        let end = offset.checked_add(size).and_then(|end| end.checked_add(TRAILER));
        let all = end.and_then(|end| self.file.get(offset..end));
        let all = all.ok_or_else(|| format!("it ends before its block at byte {offset} does"))?;
        let (checked, crc) = all.split_at(all.len() - size_of::<u32>());
        if masked_crc(checked).to_le_bytes() != crc {
            return Err(format!("the checksum of its block at byte {offset} is not that of its content"));
        }
        let (packing, content) = checked.split_last().expect("the trailer is in it");
        match packing {
            0 => Ok(Cow::Borrowed(content)),
            1 => self.unpack(content).map(Cow::Owned).map_err(|why| format!("its block at byte {offset}: {why}")),
            other => Err(format!("its block at byte {offset} is packed in a way (number {other}) that is not known")),
        }
    }

    fn unpack(&mut self, packed: &[u8]) -> Result<Vec<u8>, String> {
        self.spend(snap::raw::decompress_len(packed).map_err(|error| error.to_string())?)?;
        snap::raw::Decoder::new().decompress_vec(packed).map_err(|error| error.to_string())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), String> {
        let left = self.budget.checked_sub(bytes);
        self.budget = left.ok_or_else(|| format!("it unpacks to more than {} MB", LARGEST >> 20))?;
        Ok(())
    }
}

/// The entries of a block, one by one.
struct Pairs<'a> {
    key: Vec<u8>,
    rest: Wire<'a>,
}

impl<'a> Pairs<'a> {
    /// A block ends with positions at which keys stand in full, for binary search, and their number.
    fn new(block: &'a [u8]) -> Option<Self> {
        let (rest, count) = block.split_last_chunk::<4>()?;
        let restarts = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(size_of::<u32>())?;
        let (entries, _) = rest.split_at_checked(rest.len().checked_sub(restarts)?)?;
        Some(Self { key: Vec::new(), rest: Wire(entries) })
    }

    fn next(&mut self) -> Option<(&[u8], &'a [u8])> {
        let (shared, own, value) = (self.rest.length()?, self.rest.length()?, self.rest.length()?);
        if shared > self.key.len() {
            return None;
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(self.rest.take(own)?);
        Some((&self.key, self.rest.take(value)?))
    }
}
