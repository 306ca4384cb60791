//! Request and response codes, by their names in RocketMQ.
