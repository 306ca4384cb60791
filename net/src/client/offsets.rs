//! Where a broadcasting client had come, in the file that RocketMQ's clients keep:
//! `~/.rocketmq_offsets/CLIENT_ID/GROUP/offsets.json`, and the one before it with `.bak`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use gantry_core::wire::body::{self, LocalOffsets, MessageQueue, MqMap};

use super::BuildError;

/// The directory below the user's home.
const DIRECTORY: &str = ".rocketmq_offsets";

pub(super) struct OffsetStore {
    path: PathBuf,
}

impl OffsetStore {
    /// The store of a client, in `dir` or in the user's home.
    pub(super) fn of(dir: Option<PathBuf>, client_id: &str, group: &str) -> Result<OffsetStore, BuildError> {
        let dir = dir.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(DIRECTORY)));
        let why = || "HOME is not set: say where the files are to be with offset_dir".to_owned();
        let dir = dir.ok_or_else(|| BuildError::Offsets(DIRECTORY.into(), why()))?;
        Ok(OffsetStore { path: dir.join(client_id).join(group).join("offsets.json") })
    }

    /// What was stored, or what was stored before that if it was lost; nothing if nothing was.
    pub(super) fn load(&self) -> Result<BTreeMap<MessageQueue, i64>, BuildError> {
        let backup = self.backup();
        for path in [&self.path, &backup] {
            match read(path) {
                Ok(Some(offsets)) => return Ok(offsets),
                Ok(None) => {}
                Err(error) if *path == backup => {
                    return Err(BuildError::Offsets(path.clone(), error.to_string()));
                }
                Err(error) => tracing::warn!(path = %path.display(), %error, "offsets cannot be read"),
            }
        }
        Ok(BTreeMap::new())
    }

    /// Stores; a failure is for the log, and the next time tries again.
    pub(super) fn save(&self, offsets: &BTreeMap<MessageQueue, i64>) {
        let text = LocalOffsets { offset_table: MqMap(offsets.clone()) }.encode();
        if let Err(error) = self.write(&text) {
            tracing::warn!(path = %self.path.display(), %error, "where the broadcast has come cannot be stored");
        }
    }

    fn write(&self, text: &[u8]) -> io::Result<()> {
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir)?;
        }
        let new = self.path.with_extension("json.tmp");
        fs::write(&new, text)?;
        if self.path.exists() {
            fs::rename(&self.path, self.backup())?;
        }
        fs::rename(&new, &self.path)
    }

    fn backup(&self) -> PathBuf {
        self.path.with_extension("json.bak")
    }
}

fn read(path: &Path) -> io::Result<Option<BTreeMap<MessageQueue, i64>>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if text.is_empty() {
        return Ok(None);
    }
    let offsets =
        body::decode::<LocalOffsets>(&text).map_err(|error| io::Error::other(format!("{error:?}")))?;
    Ok(Some(offsets.offset_table.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_found_again_also_from_the_file_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = OffsetStore::of(Some(dir.path().into()), "127.0.0.1@DEFAULT", "G").expect("a directory");
        let at = |offset| BTreeMap::from([(MessageQueue::new("T", "b", 0), offset)]);
        assert_eq!(store.load().expect("nothing is there"), BTreeMap::new());
        store.save(&at(1));
        store.save(&at(2));
        assert_eq!(store.load().expect("it was saved"), at(2));
        let path = dir.path().join("127.0.0.1@DEFAULT/G/offsets.json");
        let text = fs::read_to_string(&path).expect("RocketMQ's place");
        assert_eq!(text, r#"{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"T"}:2}}"#);
        fs::write(&path, "{\"offsetTa").expect("torn");
        assert_eq!(store.load().expect("the one before"), at(1));
        fs::write(path.with_extension("json.bak"), "torn too").expect("torn");
        assert!(matches!(store.load(), Err(BuildError::Offsets(..))), "nothing is guessed");
    }

    #[test]
    fn what_rocketmq_writes_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("offsets.json");
        // As 5.5.0 writes it.
        let text = "{\n\t\"offsetTable\":{\n\t\t{\n\t\t\t\"brokerName\":\"b\",\n\t\t\t\"queueId\":3,\n\t\t\t\"topic\":\"T\"\n\t\t}:7\n\t}\n}";
        fs::write(&path, text).expect("a file");
        let expect = BTreeMap::from([(MessageQueue::new("T", "b", 3), 7)]);
        assert_eq!(read(&path).expect("it is there"), Some(expect));
    }
}
