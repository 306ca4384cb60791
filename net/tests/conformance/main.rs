//! One suite for every broker: what an application may expect of the client library, case by case.
//!
//! ```sh
//! cargo test -p gantry-net --test conformance                                # against Gantry, started for it
//! cargo test -p gantry-net --test conformance -- --namesrv 127.0.0.1:9876    # against the cluster of that name server
//! cargo test -p gantry-net --test conformance -- --list                      # the cases
//! ```
//!
//! Each case names the capability that it needs. What a broker refuses as not served is listed as not supported, which is no
//! pass; with `--all` it is a failure. Of Gantry itself, started for the suite, just what is listed here may be not supported. Words
//! without dashes choose cases by their names. The cluster must make topics by itself.
//!
//! `--peer WORD` (one for each word of a command) names the programs of another language's client, those of `tests/interop`; it adds
//! the cases that need one.

#![allow(clippy::unwrap_used)] // a case that panics has failed, as it should

mod admin;
mod cluster;
mod consuming;
mod groups;
mod lite;
mod peers;
mod replies;
mod sending;
mod servers;
mod tracing;
mod transactions;

use std::fmt;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::{Cluster, Standalone};
use gantry_net::client::SendError;
use tokio::sync::Semaphore;

/// Cases at a time: most of them wait most of their time.
const CASES_AT_ONCE: usize = 6;
/// A case that takes longer hangs.
const CASE_LIMIT: Duration = Duration::from_secs(150);

/// Why a case did not pass.
#[derive(Debug)]
enum Fault {
    /// The broker does not serve what it needs.
    Lacks(String),
    /// What it expects does not hold.
    Failed(String),
}

impl<E: fmt::Display> From<E> for Fault {
    fn from(error: E) -> Fault {
        Fault::Failed(error.to_string())
    }
}

type Outcome = Result<(), Fault>;
type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Fails the case with these words unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::Fault::Failed(format!($($words)+)));
        }
    };
}
pub(crate) use ensure;

/// What brokers say, code and words, that do not serve a capability. Any other refusal is a failure: it would hide a regression.
const UNSERVED: &[&str] = &[
    "13 MESSAGE_ILLEGAL: messages with the property TIMER_DELIVER_MS are not served by this broker",
    "13 MESSAGE_ILLEGAL: messages with the property TRAN_MSG are not served by this broker",
    "1 SYSTEM_ERROR: The broker does not support consumer to filter message by SQL92",
];

/// What Gantry does not serve yet.
const GANTRY_LACKS: &[&str] = &["transactions", "timer messages", "SQL92 filters"];

/// A broker's refusal: a capability that it lacks, or an ordinary failure.
fn refused(reason: &str) -> Fault {
    if UNSERVED.iter().any(|words| reason.starts_with(words)) {
        Fault::Lacks(reason.to_owned())
    } else {
        Fault::Failed(format!("refused: {reason}"))
    }
}

/// The same of a send.
fn not_sent(error: SendError) -> Fault {
    match error {
        SendError::Refused { reason, .. } => refused(&reason),
        SendError::Message(_)
        | SendError::NoNameServer(_)
        | SendError::UnknownTopic(_)
        | SendError::NoQueue(_)
        | SendError::Failed { .. }
        | SendError::Stopped => Fault::Failed(error.to_string()),
    }
}

struct Case {
    name: &'static str,
    capability: &'static str,
    run: fn(Arc<Cluster>) -> Running,
}

macro_rules! cases {
    ($($capability:literal: $module:ident::$name:ident)*) => {
        &[$(Case {
            name: stringify!($name),
            capability: $capability,
            run: |cluster| Box::pin($module::$name(cluster)),
        }),*]
    };
}

/// The longest first.
const CASES: &[Case] = cases! {
    "transactions": transactions::an_open_transaction_is_asked_about_until_its_end_is_known
    "transactions": transactions::another_process_of_the_group_ends_what_one_left_open
    "retries": consuming::a_dropped_message_comes_again_and_ends_in_the_dead_letter_queue
    "consumer groups": groups::two_members_share_and_a_stop_gives_back_at_once
    "ordered consumption": groups::an_ordered_group_keeps_order_while_members_come_and_go
    "consumer groups": groups::two_members_of_one_id_are_named
    "broadcasting": groups::a_broadcast_reaches_all_and_goes_on_after_a_restart
    "name servers": servers::running_clients_outlive_the_name_server
    "resets": admin::an_administrator_puts_a_group_elsewhere
    "delay levels": consuming::a_delay_level_delays
    "timer messages": consuming::a_message_is_delivered_at_its_time
    "SQL92 filters": consuming::an_expression_chooses
    "message trace": tracing::what_is_sent_and_consumed_is_traced
    "tag filters": consuming::tags_choose
    "sends": sending::a_message_is_stored_as_it_was_sent
    "sends": sending::many_sends_at_once_have_a_place_each
    "oneway sends": sending::oneway_sends_arrive
    "sends": sending::an_idempotent_producer_stores_each_message
    "batches": sending::a_batch_lies_in_one_queue
    "sends": sending::bodies_up_to_the_limit_pass
    "compression": sending::compressed_bodies_come_back_whole
    "ordered sends": sending::a_key_keeps_to_its_queue
    "offsets": consuming::a_restarted_member_goes_on
    "offsets": consuming::groups_begin_where_they_are_told
    "offsets": consuming::a_shared_group_begins_at_its_time
    "offsets": consuming::a_member_goes_back_to_a_time
    "pulls": consuming::queues_are_pulled_and_offsets_committed_by_hand
    "pulls": consuming::chosen_queues_are_read_from_chosen_places
    "retries": lite::a_rejected_message_is_in_the_dead_letter_queue_at_once
    "lite pulls": lite::what_is_committed_is_the_applications_to_say
    "lite pulls": lite::queues_pause_and_places_are_chosen
    "ordered sends": lite::a_send_has_options_of_its_own
    "running information": admin::a_consumer_answers_for_itself
    "requests and replies": replies::a_request_is_answered
    "transactions": transactions::a_committed_message_comes_and_one_rolled_back_does_not
    "unknown topics": servers::an_unknown_topic_is_named
};

/// Those that need another language's client.
const PEER_CASES: &[Case] = cases! {
    "compression": peers::bodies_compressed_elsewhere_are_read_and_the_reverse
};

struct Arguments {
    namesrv: Option<String>,
    peer: Vec<String>,
    all: bool,
    list: bool,
    words: Vec<String>,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments =
        Arguments { namesrv: None, peer: Vec::new(), all: false, list: false, words: Vec::new() };
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        match word.as_str() {
            "--namesrv" => arguments.namesrv = Some(given.next().ok_or("--namesrv wants host:port")?),
            "--peer" => arguments.peer.push(given.next().ok_or("--peer wants a word")?),
            "--all" => arguments.all = true,
            "--list" => arguments.list = true,
            // What `cargo test` passes on to any test program.
            "-q" | "--quiet" | "--nocapture" | "--exact" => {}
            flag if flag.starts_with("--test-threads") || flag.starts_with("--format") => {}
            flag if flag.starts_with('-') => return Err(format!("what is {flag}?")),
            name => arguments.words.push(name.to_owned()),
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("conformance: {error}");
            return ExitCode::from(2);
        }
    };
    let is_chosen = |case: &&Case| {
        arguments.words.is_empty() || arguments.words.iter().any(|word| case.name.contains(word.as_str()))
    };
    let with_peer = if arguments.peer.is_empty() { &[] } else { PEER_CASES };
    let chosen: Vec<&Case> = with_peer.iter().chain(CASES).filter(is_chosen).collect();
    if arguments.list {
        chosen.iter().for_each(|case| println!("{}: {}", case.name, case.capability));
        return ExitCode::SUCCESS;
    }
    let own = arguments.namesrv.is_none().then(Standalone::start);
    let is_own = own.is_some();
    let namesrv = own.as_ref().map(|own| own.namesrv.clone()).or(arguments.namesrv).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut results = runtime.block_on(run_all(&chosen, Cluster::new(&namesrv, arguments.peer)));
    if is_own {
        results.iter_mut().for_each(|(case, outcome, _)| judge_gantry(case, outcome));
    }
    report(&results, arguments.all)
}

type Results<'a> = Vec<(&'a Case, Outcome, Duration)>;

async fn run_all<'a>(cases: &[&'a Case], cluster: Cluster) -> Results<'a> {
    let cluster = Arc::new(cluster);
    cluster.is_ready().await;
    let turns = Arc::new(Semaphore::new(CASES_AT_ONCE));
    let running: Vec<_> = cases
        .iter()
        .map(|case| {
            let (turns, cluster, run) = (Arc::clone(&turns), Arc::clone(&cluster), case.run);
            tokio::spawn(async move {
                let _turn = turns.acquire_owned().await;
                let begin = Instant::now();
                let outcome = tokio::time::timeout(CASE_LIMIT, run(cluster)).await;
                let hangs = |_| Err(Fault::Failed(format!("takes longer than {CASE_LIMIT:?}")));
                (outcome.unwrap_or_else(hangs), begin.elapsed())
            })
        })
        .collect();
    let mut results = Vec::new();
    for (case, running) in cases.iter().zip(running) {
        let (outcome, time) = running
            .await
            .unwrap_or_else(|error| (Err(Fault::Failed(format!("panicked: {error}"))), Duration::ZERO));
        results.push((*case, outcome, time));
    }
    results
}

/// Gantry lacks what is known to be lacking, no less and no more: the list tells the truth about both.
fn judge_gantry(case: &Case, outcome: &mut Outcome) {
    let is_expected = GANTRY_LACKS.contains(&case.capability);
    match outcome {
        Ok(()) if is_expected => {
            *outcome =
                Err(Fault::Failed("it passes: take its capability off the list of what Gantry lacks".into()));
        }
        Err(Fault::Lacks(words)) if !is_expected => {
            *outcome = Err(Fault::Failed(format!("Gantry served it before: {words}")));
        }
        Ok(()) | Err(Fault::Lacks(_) | Fault::Failed(_)) => {}
    }
}

fn report(results: &Results<'_>, all: bool) -> ExitCode {
    let (mut passed, mut lacking, mut failed) = (0, 0, 0);
    for (case, outcome, time) in results {
        let Case { name, capability, .. } = case;
        match outcome {
            Ok(()) => {
                passed += 1;
                println!("ok {name} ({capability}) in {:.1} s", time.as_secs_f64());
            }
            Err(Fault::Lacks(words)) => {
                lacking += 1;
                println!("not supported {name} ({capability}): {words}");
            }
            Err(Fault::Failed(words)) => {
                failed += 1;
                println!("FAILED {name} ({capability}) after {:.1} s: {words}", time.as_secs_f64());
            }
        }
    }
    println!("{passed} passed, {failed} failed, {lacking} not supported");
    if failed > 0 || (all && lacking > 0) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
