//! The broker machine, driven through [`Node::turn`] over the memory disk: what a client sees of each request, and what survives.

mod admin;
mod carry;
mod deletion;
mod figures;
mod harness;

mod messages;
mod names;
mod nonsense;
mod offsets;
mod once;
mod registration;
mod replicas;
mod retries;
mod sessions;
mod slaves;
