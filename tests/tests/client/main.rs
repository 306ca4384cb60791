//! The client machine against the real broker and name server machines, with real bytes between them.

mod producer;
mod world;
