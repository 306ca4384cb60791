//! Gantry tests.
