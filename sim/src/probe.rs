//! Named points of the faults: what they must have met to be worth drawing. See [`gantry_core::probe`].

gantry_core::probes! {
    /// The faults' probes.
    FaultProbe {
        DiedInTurn: "a process dies in the midst of a turn's disk operations",
        DiedBetweenTurns: "a process dies between two turns",
        PowerLostUnsynced: "the power fails while something waits for its sync",
        PowerLostIdle: "the power fails while nothing waits for a sync",
        DiedMidMoment: "a host dies in the turn of a protocol's moment, and what left in it is lost",
        DiedAfterMoment: "a host dies right after the turn of a protocol's moment",
        PausedShort: "a process stands still for less than the 120 s after which others give it up",
        PausedLong: "a process stands still for longer than that",
    }
}
