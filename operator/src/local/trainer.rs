//! Where the trainer program is.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Error;

const NAME: &str = "bam-trainer";

/// The program: as `given` (`--trainer`, `BAM_TRAINER`), else beside this one, else on the `PATH`.
pub fn find(given: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(given) = given {
        let found = std::path::absolute(given).unwrap_or_else(|_| given.to_owned());
        return if is_program(&found) {
            Ok(found)
        } else {
            Err(Error::NoTrainer { looked: format!("at {}", given.display()) })
        };
    }
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(NAME)));
    let path = std::env::var_os("PATH");
    find_in(beside.as_deref(), path.as_deref())
}

fn find_in(beside: Option<&Path>, path: Option<&OsStr>) -> Result<PathBuf, Error> {
    let on_path = path.iter().flat_map(std::env::split_paths).map(|folder| folder.join(NAME));
    let found = beside.map(Path::to_owned).into_iter().chain(on_path).find(|program| is_program(program));
    found.ok_or_else(|| Error::NoTrainer { looked: "beside this program or on the PATH".to_owned() })
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
