//! Stored messages: the commit-log record, properties, batches and ids.
