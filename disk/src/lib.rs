//! Gantry disk.
