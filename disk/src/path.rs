//! Paths of a disk: relative, `/`-separated, without `.` or `..`.
//!
//! Both disks accept the same paths and refuse the same ones, so that no machine can leave its root and none passes in
//! the simulator with a name that a file system would not take.

use gantry_core::io::DiskError;

/// Bytes of one component at most: what Linux file systems take (255), less what [`temporary`] adds.
pub(crate) const COMPONENT_BYTES_MAX: usize = 240;

/// The file in the root by which a store is locked. It is the disk's own: whoever opened and closed it would end the lock.
pub(crate) const LOCK_NAME: &str = "lock";

/// Ends the name under which a replacement is prepared beside its target.
const TEMPORARY_SUFFIX: &str = ".replacing";

/// Accepts the path of a file, or of a directory below the root.
pub(crate) fn check(path: &str) -> Result<(), DiskError> {
    let fits = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.len() <= COMPONENT_BYTES_MAX
            && !part.contains('\0')
            && !is_temporary(part)
    };
    if path != LOCK_NAME && path.split('/').all(fits) { Ok(()) } else { Err(DiskError::Denied) }
}

/// Accepts the path of a directory; the root is `""`.
pub(crate) fn check_dir(path: &str) -> Result<(), DiskError> {
    if path.is_empty() { Ok(()) } else { check(path) }
}

/// Directory (`""` for the root) and name.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The path of `name` in `dir`.
pub(crate) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// The directory itself and all directories above it, the root last.
pub(crate) fn ancestors(dir: &str) -> impl Iterator<Item = &str> {
    let mut next = Some(dir);
    std::iter::from_fn(move || {
        let this = next?;
        next = if this.is_empty() { None } else { Some(split(this).0) };
        Some(this)
    })
}

/// Whether `path` is the directory `dir` or lies below it.
pub(crate) fn is_in(path: &str, dir: &str) -> bool {
    ancestors(path).any(|above| above == dir)
}

/// The name under which a replacement of `name` is prepared.
pub(crate) fn temporary(name: &str) -> String {
    format!(".{name}{TEMPORARY_SUFFIX}")
}

/// Whether a name belongs to a replacement under way (or one that a crash cut off). Such names are the disk's own: it
/// neither lists nor opens them.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(TEMPORARY_SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_root_are_taken() {
        for good in
            ["a", "commitlog/00000000000000000000", "config/topics.json.bak", ".hidden", "a/b/c/d", "a/lock"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let long = "x".repeat(COMPONENT_BYTES_MAX + 1);
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "./a",
            "a\0b",
            ".a.replacing",
            "lock",
            long.as_str(),
        ] {
            assert_eq!(check(bad), Err(DiskError::Denied), "{bad}");
        }
        assert_eq!(check_dir(""), Ok(()));
        assert_eq!(check(&temporary("a")), Err(DiskError::Denied));
    }

    #[test]
    fn ancestors_end_at_the_root() {
        assert_eq!(ancestors("a/b/c").collect::<Vec<_>>(), ["a/b/c", "a/b", "a", ""]);
        assert_eq!(ancestors("").collect::<Vec<_>>(), [""]);
    }
}
