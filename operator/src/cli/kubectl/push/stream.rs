//! What is said to a receiver, and what it answers ([`bam_crds::transfer`]).

use std::io::{self, ErrorKind, Read};
use std::path::Path;

use bam_crds::Digest;
use bam_crds::transfer::{Answer, Offer};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use super::trained::Needed;

/// Bytes that are read from a file at once.
const PIECE: usize = 256 << 10;

/// Why a transfer ended early.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A file that is to be sent.
    #[error("cannot read {0}: {1}; what was sent of its run does not count")]
    File(String, io::Error),
    /// The receiver went away, or said something that means nothing. Its pod may know why.
    #[error("the receiver broke off: {0}")]
    Stream(#[from] io::Error),
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is sent.
    Pushed,
    /// It was whole in the store before.
    Was,
    /// These of its files are not what its manifest says.
    Damaged(Vec<String>),
}

/// Sends those runs of `bam_dir` that the receiver wants. `told` hears how many bytes that is in all, once that is known, and how
/// many are sent.
pub async fn send(
    runs: &[&Needed],
    bam_dir: &Path,
    mut to: impl AsyncWrite + Unpin,
    mut from: impl AsyncBufRead + Unpin,
    mut told: impl FnMut(u64, u64, &str),
) -> Result<Vec<(Digest, Fate)>, Broken> {
    let offer = Offer { runs: runs.iter().filter_map(|run| run.manifest.clone()).collect() };
    let line = serde_json::to_string(&offer).map_err(io::Error::from)? + "\n";
    to.write_all(line.as_bytes()).await?;
    to.flush().await?;
    let Answer::Wants(wanted) = answer(&mut from).await? else { return Err(strange().into()) };
    let of = |hash: &Digest| runs.iter().find(|run| run.hash == *hash).copied().ok_or_else(strange);
    let mut fates: Vec<_> =
        runs.iter().filter(|run| !wanted.contains(&run.hash)).map(|run| (run.hash.clone(), Fate::Was)).collect();
    let total = wanted.iter().map(|hash| of(hash).map(Needed::bytes)).sum::<io::Result<u64>>()?;
    let mut sent = 0;
    for hash in wanted {
        let run = of(&hash)?;
        for (name, artifact) in run.manifest.iter().flat_map(|manifest| &manifest.files) {
            let path = run.folder(bam_dir).join(name);
            let unread = |error| Broken::File(path.display().to_string(), error);
            // From a local disk: nothing else is to be done here meanwhile.
            let mut file = std::fs::File::open(&path).map_err(unread)?.take(artifact.bytes);
            let (mut piece, mut left) = (vec![0; PIECE], artifact.bytes);
            while left > 0 {
                let read = file.read(&mut piece).map_err(unread)?;
                if read == 0 {
                    return Err(unread(ErrorKind::UnexpectedEof.into()));
                }
                to.write_all(&piece[..read]).await?;
                (left, sent) = (left - read as u64, sent + read as u64);
                told(sent, total, &run.title);
            }
        }
        to.flush().await?;
        let fate = match answer(&mut from).await? {
            Answer::Placed(placed) if placed == hash => Fate::Pushed,
            Answer::Damaged { run, files } if run == hash => Fate::Damaged(files),
            _ => return Err(strange().into()),
        };
        fates.push((hash, fate));
    }
    Ok(fates)
}

fn strange() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "its answer means nothing here: use a client of the trainer's version")
}

async fn answer(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Answer> {
    let mut line = String::new();
    if from.read_line(&mut line).await? == 0 {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "it ended"));
    }
    serde_json::from_str(&line).map_err(|_| strange())
}
