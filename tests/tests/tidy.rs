//! What the compiler does not say: the rules of the house, as tests.
//!
//! Each rule names the file that breaks it. Not covered: whether a comment is true.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `gantry-core` may stand on, itself included. A new line needs its reason in the root `Cargo.toml`.
const CORE_DEPENDENCIES: &[&str] = &[
    "adler2",
    "bytes",
    "cfg-if",
    "crc32fast",
    "equivalent",
    "foldhash",
    "gantry-core",
    "hashbrown",
    "itoa",
    "md5",
    "memchr",
    "miniz_oxide",
    "once_cell",
    "pin-project-lite",
    "ppv-lite86",
    "proc-macro2",
    "quote",
    "rand_chacha",
    "rand_core",
    "serde",
    "serde_core",
    "serde_derive",
    "serde_json",
    "syn",
    "tracing",
    "tracing-attributes",
    "tracing-core",
    "unicode-ident",
    "zerocopy",
    "zmij",
];

/// The top of the repository, and nothing else.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "core",
    "disk",
    "net",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "scenarios",
    "sim",
    "tests",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_path_buf()
}

/// Every Rust file of the product crates, by its path below the root.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for package in ["core", "disk", "net", "sim", "tests"] {
        for below in ["src", "tests", "benches"] {
            collect(&root().join(package).join(below), &mut files);
        }
    }
    assert!(files.len() > 20, "the sources are found");
    files
}

fn collect(dir: &Path, files: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).expect("below the root").display().to_string();
            files.push((name, fs::read_to_string(&path).expect("sources are text")));
        }
    }
}

/// Fails with every file that breaks a rule.
fn check(rule: &str, breaks: impl Fn(&str, &str) -> Option<String>) {
    let broken: Vec<String> = sources()
        .iter()
        .filter_map(|(name, text)| breaks(name, text).map(|what| format!("  {name}: {what}")))
        .collect();
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

/// The text without its tests, which come last in a file.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

#[test]
fn core_stands_on_what_is_listed() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "-p", "gantry-core", "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo prints text");
    let found: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    let allowed: BTreeSet<&str> = CORE_DEPENDENCIES.iter().copied().collect();
    let extra: Vec<_> = found.difference(&allowed).collect();
    assert!(extra.is_empty(), "gantry-core has come to depend on {extra:?}; see CORE_DEPENDENCIES");
}

#[test]
fn the_top_level_holds_what_the_design_names() {
    let output = Command::new("git").args(["ls-files"]).current_dir(root()).output();
    let Ok(output) = output else { return };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let tops: BTreeSet<&str> = text.lines().filter_map(|line| line.split('/').next()).collect();
    for top in tops {
        assert!(top.starts_with('.') || TOP_LEVEL.contains(&top), "{top} does not belong at the top");
    }
}

#[test]
fn every_file_says_what_it_is() {
    check("a file begins with //! lines", |name, text| {
        let first = text.lines().find(|line| !line.starts_with("#!"))?;
        (!first.starts_with("//!") && name != "core/src/lib.rs").then(|| "no //! head".into())
    });
}

#[test]
fn files_stay_small() {
    check("a file has at most 800 lines without its tests", |name, text| {
        let lines = without_tests(text).lines().count();
        (lines > 800 && !name.contains("/tests/")).then(|| format!("{lines} lines"))
    });
}

#[test]
fn nothing_is_left_for_later() {
    let markers = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("#[ig", "nore"),
    ];
    check("no marker of unfinished work", |_, text| {
        markers.iter().find(|marker| text.contains(**marker)).map(|marker| format!("holds {marker}"))
    });
}

#[test]
fn unsafe_lives_in_one_file() {
    check("unsafe code is in disk/src/map.rs only", |name, text| {
        let uses = text.lines().any(|line| {
            let code = line.trim_start();
            !code.starts_with("//")
                && (code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl"))
        });
        (uses && name != "disk/src/map.rs" && name != "tests/tests/tidy.rs").then(|| "unsafe".into())
    });
}

#[test]
fn the_machines_are_pure() {
    let banned = [
        "std::time",
        "std::thread",
        "std::fs",
        "std::net",
        "std::env",
        "tokio",
        "async fn",
        ".await",
        "SystemTime",
    ];
    check("core knows no world", |name, text| {
        if !name.starts_with("core/src") {
            return None;
        }
        let code = without_tests(text);
        let line = code.lines().find(|line| {
            !line.trim_start().starts_with("//") && banned.iter().any(|banned| line.contains(banned))
        })?;
        Some(line.trim().into())
    });
}
