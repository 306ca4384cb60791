//! The client machine against the real broker and name server machines, with real bytes between them.

mod ask;
mod asked;
mod consumer;
mod lite;
mod once;
mod producer;
mod reply;
mod trace;
mod transaction;
mod world;
