//! What the operating system is asked for, with Linux's better ways where there are any.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::UNIX_EPOCH;

use gantry_core::io::{DirEntry, DiskError, FileKind, Space};
use gantry_core::time::WallMs;
use rustix::io::Errno;

/// What an error of the system means to a machine.
pub(super) fn disk_error(error: &io::Error) -> DiskError {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => DiskError::Full,
        Some(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR) => DiskError::NotFound,
        Some(Errno::EXIST) => DiskError::Exists,
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => DiskError::Denied,
        Some(Errno::MFILE | Errno::NFILE) => DiskError::NoDescriptors,
        Some(_) | None => DiskError::Io,
    }
}

/// Whether it says that no descriptor is left.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::MFILE | Errno::NFILE))
}

/// Turns an error of the system into one of the disk.
pub(super) trait OrDiskError<T> {
    /// See [`disk_error`].
    fn or_disk_error(self) -> Result<T, DiskError>;
}

impl<T, E: Into<io::Error>> OrDiskError<T> for Result<T, E> {
    fn or_disk_error(self) -> Result<T, DiskError> {
        self.map_err(|error| disk_error(&error.into()))
    }
}

/// Opens a file for reading and writing.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Creates a file, which must not exist, with `len` zero bytes. A file for which there is no room is removed.
pub(super) fn create_file(path: &Path, len: u64, kind: FileKind) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    if let Err(error) = extend(&file, 0, len, kind) {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(file)
}

/// Extends a file to `end` with zeros. Those of a log have their room on the disk at once. Tables are sparse: tens of thousands
/// of them are mostly empty, and they are written by `pwrite`, so that a disk without room for a page is an error.
pub(super) fn extend(file: &File, from: u64, end: u64, kind: FileKind) -> io::Result<()> {
    match kind {
        FileKind::Log => allocate(file, from, end),
        FileKind::Table | FileKind::Journal => file.set_len(end),
    }
}

fn allocate(file: &File, from: u64, end: u64) -> io::Result<()> {
    if from >= end {
        return Ok(());
    }
    #[cfg(target_os = "linux")]
    loop {
        match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), from, end - from) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => break,
            Err(error) => return Err(error.into()),
        }
    }
    write_zeros(file, from, end)
}

/// Room on a file system that cannot allocate: written out.
fn write_zeros(file: &File, from: u64, end: u64) -> io::Result<()> {
    const ZEROS_BYTES: u64 = 1 << 20;
    let zeros = vec![0; ZEROS_BYTES.min(end - from) as usize];
    let mut at = from;
    while at < end {
        let count = ZEROS_BYTES.min(end - at);
        file.write_all_at(&zeros[..count as usize], at)?;
        at += count;
    }
    Ok(())
}

/// How a read without waiting ended.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux can tell"))]
pub(super) enum Warm {
    /// All bytes were in memory.
    Read,
    /// Some were not.
    Cold,
    /// The file system cannot tell.
    Unknown,
}

/// Fills `buffer` from `offset` with what is in memory, and waits for nothing. The kernel begins to read ahead where
/// something is missing, which is wanted: whoever reads on from there soon finds it.
#[cfg(target_os = "linux")]
pub(super) fn read_warm(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<Warm> {
    use rustix::io::ReadWriteFlags;
    let len = buffer.len();
    loop {
        match rustix::io::preadv2(file, &mut [io::IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
            Ok(count) if count == len => return Ok(Warm::Read),
            // The caller checked that the range lies in the file: what is missing is not in memory.
            Ok(_) | Err(Errno::AGAIN) => return Ok(Warm::Cold),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Warm::Unknown),
            Err(error) => return Err(error.into()),
        }
    }
}

/// No other system can be asked.
#[cfg(not(target_os = "linux"))]
pub(super) fn read_warm(_file: &File, _buffer: &mut [u8], _offset: u64) -> io::Result<Warm> {
    Ok(Warm::Unknown)
}

/// Fills `buffer` from `offset`, waiting for the device.
pub(super) fn read_cold(file: &File, buffer: &mut [u8], offset: u64) -> Result<(), DiskError> {
    match file.read_exact_at(buffer, offset) {
        // Somebody cut the file.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(DiskError::OutOfRange),
        result => result.or_disk_error(),
    }
}

/// Makes the entries of a directory durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    File::from(rustix::fs::open(path, flags, Mode::empty())?).sync_all()
}

/// Size and room of the file system that holds `path`.
pub(super) fn space(path: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(path)?;
    // What is set aside for root or by a quota is neither used nor free, as in `df` and in RocketMQ.
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    Ok(Space { total: (used + stat.f_bavail) * stat.f_frsize, free: stat.f_bavail * stat.f_frsize })
}

/// What is at `path`; symbolic links are followed, so that parts of a store may lie elsewhere.
pub(super) fn entry(path: &Path, name: String) -> io::Result<Option<DirEntry>> {
    match fs::metadata(path) {
        Ok(meta) => {
            let modified = WallMs(modified_ms(&meta));
            let len = if meta.is_dir() { 0 } else { meta.len() };
            Ok(Some(DirEntry { name, is_dir: meta.is_dir(), len, modified }))
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn modified_ms(meta: &fs::Metadata) -> i64 {
    let Ok(modified) = meta.modified() else { return 0 };
    match modified.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// What tells a file from every other one that exists.
pub(super) fn identity(file: &File) -> io::Result<(u64, u64)> {
    let meta = file.metadata()?;
    Ok((meta.dev(), meta.ino()))
}

/// How many descriptors this process may have open.
pub(super) fn descriptor_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}
