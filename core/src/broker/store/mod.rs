//! The message store: the only user of the disk.
