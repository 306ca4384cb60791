//! The names of RocketMQ's settings, and its files of them.
//!
//! `settings/known.txt` lists every property that RocketMQ 5.5.0's servers read, a name a line and behind it where it
//! belongs: `b` BrokerConfig, `s` MessageStoreConfig, `n` NettyServerConfig, `c` NettyClientConfig, `r` NamesrvConfig,
//! `a` AuthConfig, `k` ControllerConfig, `g` Gantry's own, `o` only in older releases or their documentation. A name that is not there is
//! most likely mistyped, and [`nearest`] says for which.

use alloc::string::String;
use alloc::vec::Vec;

static KNOWN: &str = include_str!("settings/known.txt");

/// A distance beyond this is no typing mistake.
const DISTANCE_MAX: usize = 4;

/// Names longer than this are compared no further, so that a peer's name costs little.
const NAME_BYTES_MAX: usize = 64;

/// Every name that RocketMQ's servers know, in order.
pub fn known() -> impl Iterator<Item = &'static str> {
    KNOWN.lines().filter_map(|line| line.split(' ').next())
}

/// Whether RocketMQ's servers know `name`.
pub fn is_known(name: &str) -> bool {
    known().any(|known| known == name)
}

/// The known name that `name` was most likely meant to be.
pub fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let by_distance = known().map(|known| (distance(&lower, &known.to_ascii_lowercase()), known));
    let (distance, known) = by_distance.min()?;
    (distance <= DISTANCE_MAX.min(name.len() / 2)).then_some(known)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i);
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = core::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// One setting of a file of Java properties.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Property {
    /// Where it begins; the first line is 1.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// Its value, without the spaces around it.
    pub value: String,
}

/// Reads Java properties: a name, then `=`, `:` or a space, then a value; `#` and `!` begin comments, a backslash escapes
/// one character, and at the end of a line it takes the next line along. Never fails: what is not understood is a name
/// without a value.
pub fn parse_properties(text: &str) -> Vec<Property> {
    let mut all = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = String::from(line);
        while is_continued(&whole)
            && let Some((_, next)) = lines.next()
        {
            whole.pop();
            whole.push_str(next.trim_start());
        }
        let (name, value) = split(&whole);
        all.push(Property {
            line: at + 1,
            name: unescape(name),
            value: String::from(unescape(value).trim()),
        });
    }
    all
}

/// Whether an odd number of backslashes ends the line.
fn is_continued(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn split(line: &str) -> (&str, &str) {
    let mut is_escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let ends = !is_escaped && (matches!(c, '=' | ':') || c.is_ascii_whitespace());
        is_escaped = !is_escaped && *c == '\\';
        ends
    });
    let Some((end, _)) = end else { return (line, "") };
    let rest = line[end..].trim_start();
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], rest.trim_start())
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('u') => {
                let digits = chars.as_str().get(..4);
                if let Some(c) =
                    digits.and_then(|text| u32::from_str_radix(text, 16).ok()).and_then(char::from_u32)
                {
                    out.push(c);
                    chars.nth(3);
                }
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_finds_its_neighbour() {
        for (name, expect) in [
            ("brokerNmae", Some("brokerName")),
            ("flushDiskTyp", Some("flushDiskType")),
            ("brokerrole", Some("brokerRole")),
            ("BROKERROLE", Some("brokerRole")),
            ("storePathRootdirectory", None),
            ("x", None),
            ("nothingOfTheKind", None),
            ("namesrvAdd", Some("namesrvAddr")),
            ("naïve", None),
        ] {
            assert_eq!(nearest(name), expect, "{name}");
        }
        assert_eq!(nearest(&"y".repeat(10_000)), None);
    }

    #[test]
    fn names_are_known_and_sorted() {
        for name in
            ["brokerName", "brokerRole", "kvConfigPath", "listenPort", "mapedFileSizeCommitLog", "deleteWhen"]
        {
            assert!(is_known(name), "{name}");
        }
        assert!(!is_known("brokername") && !is_known(""));
        assert!(known().is_sorted());
    }

    #[test]
    fn properties_are_read_as_java_reads_them() {
        let check = |text: &str, expect: &[(usize, &str, &str)]| {
            let read = parse_properties(text);
            let read: Vec<_> =
                read.iter().map(|all| (all.line, all.name.as_str(), all.value.as_str())).collect();
            assert_eq!(read, expect, "{text:?}");
        };
        check("", &[]);
        check("# c\n\n a = 1\r\n!x\nb:2\nc", &[(3, "a", "1"), (5, "b", "2"), (6, "c", "")]);
        check("a 1 2", &[(1, "a", "1 2")]);
        check("a=x=y:z ", &[(1, "a", "x=y:z")]);
        check("a\\=b=c", &[(1, "a=b", "c")]);
        check("a=1s \\\n  5s\nb=2", &[(1, "a", "1s 5s"), (3, "b", "2")]);
        check("a=c\\:\\\\d", &[(1, "a", "c:\\d")]);
        check("a=\\u00e9\\uzz", &[(1, "a", "ézz")]);
        check("a=b\\", &[(1, "a", "b")]);
        check("=", &[(1, "", "")]);
    }
}
