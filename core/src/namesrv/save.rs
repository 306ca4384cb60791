//! Answers that wait until what they confirm is on the disk.
//!
//! What a turn changes is written once, at its end, by replacing the whole file. A replacement that fails is told to those
//! who wait for it; what they set stays in effect, and the next change writes it again.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use tracing::warn;

use crate::io::{ConnId, DiskError, Effect, SyncId};
use crate::wire::code::response_code;
use crate::wire::{Command, Ext};

/// The files of a name server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum File {
    /// The key-value configuration.
    Kv,
    /// Settings changed by UPDATE_NAMESRV_CONFIG.
    Properties,
}

impl File {
    /// All of them.
    pub(crate) const ALL: [File; 2] = [File::Kv, File::Properties];

    /// Relative to the name server's directory.
    pub(crate) fn path(self) -> &'static str {
        match self {
            File::Kv => "kvConfig.json",
            File::Properties => "namesrv.properties",
        }
    }
}

/// An answer and where it goes.
type Waiting = (ConnId, Command);

#[derive(Debug, Default)]
pub(crate) struct Saves {
    last: u64,
    /// Changed this turn: who waits for the next replacement.
    changed: BTreeMap<File, Vec<Waiting>>,
    /// Under way.
    in_flight: BTreeMap<SyncId, (File, Vec<Waiting>)>,
}

impl Saves {
    /// `file` has changed for `request`, whose answer leaves when that is durable.
    pub(crate) fn change(&mut self, file: File, conn: ConnId, request: &Command) {
        let waiting = self.changed.entry(file).or_default();
        if !request.is_oneway() {
            waiting.push((conn, Command::response(request, response_code::SUCCESS, Ext::None)));
        }
    }

    /// Whether `file` is to be replaced at the end of this turn.
    pub(crate) fn is_changed(&self, file: File) -> bool {
        self.changed.contains_key(&file)
    }

    /// Asks for the replacement of a changed file.
    pub(crate) fn begin<E>(&mut self, file: File, content: Vec<u8>, out: &mut Vec<Effect<E>>) {
        let Some(waiting) = self.changed.remove(&file) else { return };
        self.last += 1;
        let id = SyncId(self.last);
        self.in_flight.insert(id, (file, waiting));
        out.push(Effect::Replace { id, path: String::from(file.path()), bytes: Bytes::from(content) });
    }

    /// A replacement ended: the answers that may leave now.
    pub(crate) fn end(&mut self, id: SyncId, result: Result<(), DiskError>) -> Vec<Waiting> {
        let Some((file, waiting)) = self.in_flight.remove(&id) else { return Vec::new() };
        let Err(error) = result else { return waiting };
        warn!(file = file.path(), %error, "not saved");
        let remark = format!("in effect, but {} could not be saved: {error}", file.path());
        let failed = waiting.into_iter().map(|(conn, answer)| {
            let code = response_code::SYSTEM_ERROR;
            (conn, Command { code, remark: Some(remark.clone()), ext: Ext::None, ..answer })
        });
        failed.collect()
    }

    /// Whether nothing is under way and nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.changed.is_empty() && self.in_flight.is_empty()
    }
}
