//! Named points that simulations must reach: a fault that never meets the line it was made for proves nothing.
//!
//! A probe is a row of the table below and one call of [`Probe::reached`]. With the feature `probes`, which only the
//! simulator switches on, each is counted; without it the call is nothing. Counts are of the whole program, over all worlds
//! that run in it, and no machine ever reads them.

/// Declares an enumeration of probes with their words, and counts them.
#[macro_export]
macro_rules! probes {
    ($(#[$doc:meta])* $kind:ident { $($name:ident: $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $kind {
            $(#[doc = $text] $name,)+
        }

        impl $kind {
            /// All of them.
            pub const ALL: &[$kind] = &[$($kind::$name),+];

            /// What happens at this point.
            pub const fn text(self) -> &'static str {
                match self {
                    $($kind::$name => $text,)+
                }
            }

            /// Counts that the point was reached.
            #[cfg(feature = "probes")]
            pub fn reached(self) {
                $kind::counters()[self as usize].fetch_add(1, ::core::sync::atomic::Ordering::Relaxed);
            }

            /// Counts nothing: the feature is off.
            #[cfg(not(feature = "probes"))]
            #[inline(always)]
            pub const fn reached(self) {}

            /// How often it was reached since the program began.
            #[cfg(feature = "probes")]
            pub fn count(self) -> u64 {
                $kind::counters()[self as usize].load(::core::sync::atomic::Ordering::Relaxed)
            }

            #[cfg(feature = "probes")]
            #[expect(clippy::disallowed_types, reason = "counted for people; no machine reads it")]
            fn counters() -> &'static [::core::sync::atomic::AtomicU64] {
                static COUNTERS: [::core::sync::atomic::AtomicU64; $kind::ALL.len()] =
                    [const { ::core::sync::atomic::AtomicU64::new(0) }; $kind::ALL.len()];
                &COUNTERS
            }
        }
    };
}

probes! {
    /// The machines' probes.
    Probe {
        ScanAfterPause: "a scan that comes late waits for one more before it expires anybody",
        BrokerExpired: "the name server drops a broker it has not heard of",
        BrokerConnectionClosed: "the name server drops a broker whose connection closed",
        NameServerSilent: "a name server does not answer a registration",
        NameServerLost: "the connection to a name server is lost",
        MasterUnknown: "a name server knows no master and a slave asks it again soon",
        SegmentRolled: "a record does not fit and the log goes on in the next segment",
        SegmentNotReady: "an append needs a segment whose directory entry is not durable yet",
        SyncUnderWay: "a sync is wanted while one is under way: group commit",
        SyncOfTwoSegments: "one sync covers two segments",
        TailSpilled: "the tail of a queue is written to its file in the midst of a run",
        RecoveredUnclean: "a store recovers that was not closed",
        RecoveredClean: "a store opens that was closed",
        RecoveryInSlices: "a recovery takes more than one turn",
        RecoveryCold: "a recovery waits for the disk",
        TornTail: "a recovery meets a record that is not whole",
        DamagePassedOver: "a reader is led past a record that is not what was stored",
        LogBelowCheckpoint: "the commit log ends before the checkpoint",
        OffsetClamped: "a committed offset lies beyond the end of its queue",
        DelayProgressTakenBack: "a power loss took the copies of delayed messages, and their level goes back",
        JournalTorn: "the journal of offsets ends in the middle of a record",
        TopicMadeAgain: "a topic of the store is missing in the file of topics",
        PullWoken: "a held pull is woken by a message",
        PullTimedOut: "a held pull is answered because its time is up",
        PullForgotten: "the connection of a held pull closes",
        PullCold: "a pull waits for the disk",
        AnsweredWithShortfall: "a send is answered with less safety than its mode promises",
        AnsweredLate: "a send is answered because it waited too long",
        LockRefused: "a queue lock is refused: another client holds it",
        LockPassedOn: "an expired queue lock passes on",
        ConsumerExpired: "a consumer is not heard of for too long",
        ProducerExpired: "a producer is not heard of for too long",
        SentBack: "a message is sent back to be consumed again",
        Dead: "a message goes to the dead-letter queue",
        Delayed: "a delayed message is delivered",
        DelayedCold: "the delivery of a delayed message waits for the disk",
        EpochBegins: "a writer begins an epoch",
        LogsPart: "a slave finds out that its log and its master's part",
        LogCut: "a slave cuts its log where its master's goes another way",
        TailKept: "a slave keeps what may have been acknowledged and follows nobody",
        HistoryUnknown: "a slave compares the end of its log with its master's bytes",
        HistoryDiffers: "the end of a slave's log is not in its master's",
        SlaveJoined: "a slave joins",
        SlaveRefused: "a master refuses a slave whose log does not continue in its own",
        SlaveSilent: "a master gives up a slave that keeps silent",
        MasterLost: "a slave does not hear its master",
        SlaveCounts: "a slave has caught up and counts for synchronous replication",
        SentToSlave: "a consumer that lags is sent to a slave",
        SlaveReads: "a slave answers a pull with messages",
        SlaveFallsBehind: "a slave falls so far behind that it counts no more",
        SlaveLacks: "a slave follows that lacks the beginning of its master's log",
        ReserveGivenUp: "the room kept in reserve is used, for the disk is full",
        SlaveShortOfRoom: "a slave takes nothing from its master, for want of room",
        TailTaken: "a master that crashed takes home what a slave has kept",
        TailNotHeard: "a master that crashed starts without having heard all its slaves",
        Promoted: "a slave is made the master",
        TablesCarried: "a master puts the changes of its tables into the log",
        TablesCarriedWhole: "a master puts its whole tables into the log",
        TablesTaken: "a slave takes the changes of its master's tables from the log",
        TablesTakenAtStart: "a broker takes at its start what the log carries of its tables",
        QueueBeginsBehind: "a slave begins a queue behind messages that are gone",
        TablesCold: "what the log carries of the tables must be fetched",
        HalfRecord: "half a record is forgotten before a slave writes",
        NotTheMaster: "a slave asks another slave for the epochs, which it takes for the master",
        ListStale: "the members of a group change while a client asks for them",
        HeldWhenLeaving: "an ordered queue goes while the application holds messages of it",
        HeldWhenBack: "messages of an ordered queue wait for what was handed out of it before",
        LockedAnew: "a queue lock comes back to a client that had lost it",
        BackNotTaken: "a message cannot be sent back and waits at its client",
        PulledOutside: "a client pulls from outside of what a queue holds",
        SettledLate: "an application settles what no longer counts",
        SentAgain: "a send that failed is tried again by its client",
        RouteKept: "no name server answers and a client keeps its routes",
        OnceFound: "a send is answered with the place where an earlier attempt stored it",
        OncePart: "a part of a batch is stored already, and the rest is stored behind",
        OnceBehind: "a send waits for another attempt at the same message that is looked for",
        OnceFirstComesLater: "the first attempt to send a message comes after a later one",
        OnceCold: "a search for a message that may be stored waits for the disk",
        MasterUnready: "a slave drops its stream because its own disk is behind, and goes on when it is not",
    }
}

#[cfg(all(test, feature = "probes"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_is_counted() {
        let before = Probe::LockRefused.count();
        Probe::LockRefused.reached();
        assert!(Probe::LockRefused.count() > before);
        assert!(Probe::LockRefused.text().starts_with("a queue lock"));
    }
}
