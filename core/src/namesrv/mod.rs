//! The name server: routes of topics to brokers, as five tables that expire.
