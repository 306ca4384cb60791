//! Where log lines go: to standard error, or to files that are rotated.

use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Mutex;

use file_rotate::compression::Compression;
use file_rotate::suffix::AppendCount;
use file_rotate::{ContentLimit, FileRotate};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// A log file that is larger than this is put aside, in bytes.
const FILE_BYTES: usize = 64 << 20;

/// Log files put aside at a time; the oldest goes when there is one more.
const FILES_MAX: usize = 10;

/// Begins the log, in `directory` if there is one.
pub(crate) fn begin(directory: Option<&Path>) -> Result<(), String> {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let format = tracing_subscriber::fmt().with_thread_names(true).with_env_filter(filter);
    match directory {
        None => format.with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).init(),
        Some(directory) => {
            format.with_writer(Mutex::new(open(directory, FILE_BYTES)?)).with_ansi(false).init()
        }
    }
    Ok(())
}

fn open(directory: &Path, file_bytes: usize) -> Result<FileRotate<AppendCount>, String> {
    let path = directory.join("gantry.log");
    // What opens the file below does not say why it cannot.
    fs::create_dir_all(directory)
        .and_then(|()| fs::OpenOptions::new().create(true).append(true).open(&path))
        .map_err(|error| format!("--log-dir: {}: {error}", path.display()))?;
    let limit = ContentLimit::BytesSurpassed(file_bytes);
    Ok(FileRotate::new(path, AppendCount::new(FILES_MAX), limit, Compression::None, None))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

    use std::io::Write;

    use super::*;

    #[test]
    fn log_files_are_bounded_in_size_and_number() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("a/b");
        let mut file = open(&below, 100).unwrap();
        for _ in 0..300 {
            file.write_all(&[b'x'; 50]).unwrap();
        }
        let sizes: Vec<u64> =
            fs::read_dir(&below).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), FILES_MAX + 1);
        assert!(sizes.iter().all(|size| *size <= 150), "{sizes:?}");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = open(file.path(), 100).err().unwrap();
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }
}
