//! A file on its way into a store: small ones in one request, large ones in parts.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bam_crds::store::Artifact;
use object_store::path::Path as Key;
use object_store::{Error as ObjectError, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};

use crate::digest::Hashing;

/// Size of a part, in bytes: stores take ten thousand of them.
const PART: usize = 32 << 20;
/// Parts that are on their way at the same time: enough to fill a line, few enough for memory.
const AT_ONCE: usize = 4;

/// Why a file did not arrive.
#[derive(Debug)]
pub(super) enum Error {
    /// It could not be read.
    File(io::Error),
    /// The store said no, or nothing.
    Store(ObjectError),
}

/// Sends a file, and returns what was sent, with the ETag that the store gave it. The object is there whole or as it was.
pub(super) async fn send(store: &dyn ObjectStore, key: &Key, file: &Path) -> Result<(Artifact, Option<String>), Error> {
    let mut file = File::open(file).map_err(Error::File)?;
    let mut hashing = Hashing::new(io::sink());
    let first = part(&mut file, &mut hashing).map_err(Error::File)?;
    let put = if first.len() < PART {
        store.put(key, PutPayload::from(first)).await.map_err(Error::Store)?
    } else {
        let upload = store.put_multipart(key).await.map_err(Error::Store)?;
        let mut parts = WriteMultipart::new_with_chunk_size(upload, PART);
        if let Err(error) = send_parts(&mut parts, first, &mut file, &mut hashing).await {
            // What was sent of it is of no use; that it cannot be removed is not worth more words.
            let _ = parts.abort().await;
            return Err(error);
        }
        parts.finish().await.map_err(Error::Store)?
    };
    Ok((hashing.finish(), put.e_tag))
}

async fn send_parts(
    parts: &mut WriteMultipart,
    first: Vec<u8>,
    file: &mut File,
    hashing: &mut Hashing<io::Sink>,
) -> Result<(), Error> {
    let mut next = first;
    while !next.is_empty() {
        parts.wait_for_capacity(AT_ONCE).await.map_err(Error::Store)?;
        parts.put(next.into());
        next = part(file, hashing).map_err(Error::File)?;
    }
    Ok(())
}

/// The next part of a file; the last one is shorter, or empty.
fn part(file: &mut File, hashing: &mut Hashing<io::Sink>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(PART as u64).read_to_end(&mut bytes)?;
    io::copy(&mut bytes.as_slice(), hashing)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    /// The stores' library has one in memory, which takes parts as well.
    #[test]
    fn a_file_of_several_parts_arrives_as_it_left() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for size in [0, 5, PART, PART + 7] {
            let file = folder.path().join("file");
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            std::fs::write(&file, &content).unwrap();
            let (store, key) = (InMemory::new(), Key::from("file"));
            let (sent, e_tag) = runtime.block_on(send(&store, &key, &file)).unwrap();
            assert_eq!(sent, crate::digest::of_file(&file).unwrap());
            assert!(e_tag.is_some());
            let found = runtime.block_on(async { store.get(&key).await.unwrap().bytes().await.unwrap() });
            assert!(found == content, "{size} bytes");
        }
    }
}
