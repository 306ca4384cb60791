//! Gantry sim.
