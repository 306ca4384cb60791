//! Gantry net.
