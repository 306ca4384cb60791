//! Files of settings in RocketMQ's form, and what a command line lays over them.
//!
//! Of two settings of one name the later one counts, and the command line counts most. A wrong value ends the start, with its
//! file and line; a name that nobody knows is a warning that names the nearest known one (RocketMQ passes over it in silence);
//! names that RocketMQ knows and Gantry has no use for are listed once.

use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use gantry_core::settings::{Property, nearest, parse_properties};

/// What RocketMQ's `mqnamesrv` and `mqbroker` take.
#[derive(clap::Args)]
pub(crate) struct Given {
    /// Name servers, `;` between several [env: NAMESRV_ADDR]
    #[arg(short = 'n', long = "namesrvAddr", visible_alias = "namesrv-addr", value_name = "HOST:PORT;…")]
    pub(crate) namesrv: Option<String>,
    /// File of settings, as RocketMQ's
    #[arg(short = 'c', long = "configFile", visible_alias = "config-file", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Print the settings in effect and end
    #[arg(short = 'p', long = "printConfigItem", visible_alias = "print-config")]
    pub(crate) print: bool,
}

/// Where a setting was found.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// In a file, on this line.
    File(PathBuf, usize),
    /// On the command line or in the environment, under this name.
    Word(&'static str),
}

impl Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::File(path, line) => write!(f, "{}:{line}", path.display()),
            Source::Word(word) => f.write_str(word),
        }
    }
}

/// A setting and where it was found.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) source: Source,
    pub(crate) name: String,
    pub(crate) value: String,
}

impl Setting {
    /// That its value is wrong.
    pub(crate) fn error(&self, why: impl Display) -> String {
        format!("{}: {why}", self.source)
    }

    /// That its value is not one of those expected.
    pub(crate) fn expected(&self, expected: &str) -> String {
        self.error(format_args!("{}={}: expected {expected}", self.name, self.value))
    }

    /// Its value as a number of some type.
    pub(crate) fn parse<T: std::str::FromStr>(&self, expected: &str) -> Result<T, String> {
        self.value.parse().map_err(|_| self.expected(expected))
    }
}

impl Given {
    /// Everything given, what counts most last.
    pub(crate) fn settings(&self) -> Result<Vec<Setting>, String> {
        let mut all = Vec::new();
        let mut word = |word, name: &str, value: &str| {
            all.push(Setting { source: Source::Word(word), name: name.into(), value: value.into() });
        };
        if let Some(addresses) = std::env::var("NAMESRV_ADDR").ok().filter(|text| !text.trim().is_empty()) {
            word("NAMESRV_ADDR", "namesrvAddr", &addresses);
        }
        if let Some(home) = std::env::var("ROCKETMQ_HOME").ok().filter(|text| !text.is_empty()) {
            word("ROCKETMQ_HOME", "rocketmqHome", &home);
        }
        if let Some(path) = &self.file {
            for Property { line, name, value } in read(path)? {
                all.push(Setting { source: Source::File(path.clone(), line), name, value });
            }
        }
        if let Some(addresses) = &self.namesrv {
            all.push(Setting {
                source: Source::Word("-n"),
                name: "namesrvAddr".into(),
                value: addresses.clone(),
            });
        }
        Ok(all)
    }
}

fn read(path: &Path) -> Result<Vec<Property>, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        // Java reads these files as ISO-8859-1.
        Err(error) => error.into_bytes().into_iter().map(char::from).collect(),
    };
    Ok(parse_properties(&text))
}

/// Names that were given without effect, told once.
#[derive(Debug, Default)]
pub(crate) struct Unused {
    ignored: Vec<String>,
    unknown: Vec<Setting>,
}

impl Unused {
    pub(crate) fn ignore(&mut self, name: &str) {
        if !self.ignored.iter().any(|known| known == name) {
            self.ignored.push(name.to_owned());
        }
    }

    pub(crate) fn unknown(&mut self, setting: &Setting) {
        self.unknown.push(setting.clone());
    }

    pub(crate) fn tell(&self) {
        for setting in &self.unknown {
            let Setting { source, name, value: _ } = setting;
            match nearest(name) {
                Some(nearest) => {
                    tracing::warn!("{source}: there is no setting {name}: did you mean {nearest}?")
                }
                None => tracing::warn!("{source}: there is no setting {name}"),
            }
        }
        if !self.ignored.is_empty() {
            tracing::info!(
                settings = self.ignored.join(" "),
                "settings of RocketMQ that have no effect here"
            );
        }
    }
}

/// Writes changed settings into the file that they came from: lines of theirs are replaced, others stay, new ones follow.
/// The file is the old one or the new one, whatever happens.
pub(crate) fn save(path: &Path, changes: &[(String, String)]) -> std::io::Result<()> {
    let path = &fs::canonicalize(path)?;
    let old = String::from_utf8_lossy(&fs::read(path)?).into_owned();
    let mut draft = path.clone().into_os_string();
    draft.push(".tmp");
    let mut file = fs::File::create(&draft)?;
    file.set_permissions(fs::metadata(path)?.permissions())?;
    file.write_all(changed(&old, changes).as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    if let Some(directory) = path.parent() {
        fs::File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn changed(old: &str, changes: &[(String, String)]) -> String {
    let lines: Vec<&str> = old.lines().collect();
    let properties = parse_properties(old);
    let mut out = String::with_capacity(old.len());
    let mut written = vec![false; changes.len()];
    let mut at = 0;
    for (n, property) in properties.iter().enumerate() {
        for line in &lines[at..property.line - 1] {
            out.push_str(line);
            out.push('\n');
        }
        // A setting of several lines ends where a comment, an empty line or the next setting begins.
        let next = properties.get(n + 1).map_or(lines.len(), |next| next.line - 1);
        let mut end = property.line;
        while end < next && lines[end - 1].ends_with('\\') {
            end += 1;
        }
        match changes.iter().rposition(|(name, _)| *name == property.name) {
            Some(change) => {
                if !std::mem::replace(&mut written[change], true) {
                    push_property(&mut out, &changes[change]);
                }
            }
            None => {
                for line in &lines[property.line - 1..end] {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        at = end;
    }
    for line in &lines[at..] {
        out.push_str(line);
        out.push('\n');
    }
    for (n, change) in changes.iter().enumerate() {
        let is_last = changes.iter().rposition(|(name, _)| *name == change.0) == Some(n);
        if !written[n] && is_last {
            push_property(&mut out, change);
        }
    }
    out
}

fn push_property(out: &mut String, (name, value): &(String, String)) {
    let value = value.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    out.push_str(&format!("{name}={value}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_all_but_what_was_changed() {
        let check = |old: &str, changes: &[(&str, &str)], expect: &str| {
            let changes: Vec<_> =
                changes.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect();
            assert_eq!(changed(old, &changes), expect);
        };
        check("", &[("a", "1")], "a=1\n");
        check("# c\na = 1\n\nb=2", &[("a", "3")], "# c\na=3\n\nb=2\n");
        check("a=1\nb=2\na=3\n", &[("a", "4")], "a=4\nb=2\n");
        check("d=1s \\\n  5s\n# c\nb=2\n", &[("d", "2s")], "d=2s\n# c\nb=2\n");
        check("d=1s \\\n  5s\nb=2\n", &[("b", "3"), ("c", "x\\y")], "d=1s \\\n  5s\nb=3\nc=x\\\\y\n");
        check("a=1\n", &[("b", "2"), ("b", "3")], "a=1\nb=3\n");
    }
}
