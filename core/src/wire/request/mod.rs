//! Typed headers of requests and responses, by family.
//!
//! A struct is called as RocketMQ's header class without `Header`. What a body holds is in [`super::body`].

mod broker;
mod group;
mod header;
mod kv;
mod offset;
mod pop;
mod pull;
mod query;
mod register;
mod route;
mod send;
mod session;
mod topic;
mod transaction;

pub use broker::*;
pub use group::*;
pub use header::{Header, HeaderError, HeaderField};
pub use kv::*;
pub use offset::*;
pub use pop::*;
pub use pull::*;
pub use query::*;
pub use register::*;
pub use route::*;
pub use send::*;
pub use session::*;
pub use topic::*;
pub use transaction::*;
