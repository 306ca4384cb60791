//! The examples as their readers start them: each in a process of its own, against `gantry standalone`, to its end.
//!
//! The processes are this program again, which has the examples in it: so what runs is what is there, whatever Cargo was asked to
//! build.

#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

mod program;

#[path = "../examples/consume.rs"]
mod consume;
#[cfg(feature = "sqlite")]
#[path = "../examples/exactly_once.rs"]
mod exactly_once;
#[path = "../examples/lite_pull.rs"]
mod lite_pull;
#[path = "../examples/ordered.rs"]
mod ordered;
#[path = "../examples/produce.rs"]
mod produce;
#[path = "../examples/pull.rs"]
mod pull;
#[path = "../examples/request_reply.rs"]
mod request_reply;
#[path = "../examples/transaction.rs"]
mod transaction;

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use gantry_net::client::{Message, Producer};
use program::{Gantry, start_standalone};
use rustix::process::Signal;

const NAME: &str = "examples_run_to_their_end";
/// Says to this program which example it is.
const EXAMPLE: &str = "GANTRY_EXAMPLE";
const LIMIT: Duration = Duration::from_secs(90);

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::var(EXAMPLE).as_deref() {
        Ok("produce") => return produce::main(),
        Ok("consume") => return consume::main(),
        Ok("ordered") => return ordered::main(),
        Ok("pull") => return pull::main(),
        Ok("lite_pull") => return lite_pull::main(),
        Ok("request_reply") => return request_reply::main(),
        Ok("transaction") => return transaction::main(),
        #[cfg(feature = "sqlite")]
        Ok("exactly_once") => return exactly_once::main(),
        Ok(other) => return Err(format!("there is no example {other}").into()),
        Err(_) => {}
    }
    let (flags, words): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .filter(|word| word.parse::<u32>().is_err())
        .partition(|word| word.starts_with('-'));
    if flags.iter().any(|flag| flag == "--list") {
        println!("{NAME}: test");
    } else if words.is_empty() || words.iter().any(|word| NAME.contains(word.as_str())) {
        examples_run_to_their_end();
        println!("ok {NAME}");
    }
    Ok(())
}

/// Runs an example until it ends, or interrupts it after so many lines; its lines.
fn run(name: &str, arguments: &[&str], lines: Option<usize>) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments).env(EXAMPLE, name).env_remove("NAMESRV_ADDR");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut example = Gantry { child: command.spawn().unwrap(), lines: Vec::new() };
    let out = example.child.stdout.take().unwrap();
    let (put, lines_of) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody takes them when the test has failed.
        BufReader::new(out).lines().map_while(Result::ok).for_each(|line| drop(put.send(line)));
    });
    let end = Instant::now() + LIMIT;
    let mut found = Vec::new();
    loop {
        match lines_of.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => found.push(line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("{name} does not end; it wrote {found:?}"),
        }
        if lines == Some(found.len()) {
            example.signal(Signal::INT);
        }
    }
    let (status, log) = example.wait();
    assert!(status.success(), "{name} fails: {log}");
    assert_eq!(log, "", "{name} has nothing to complain of");
    found
}

/// The first send may come before the broker is in the routes.
fn wait_until_served(namesrv: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let producer = Producer::builder().group("first").name_servers(namesrv).build().await.unwrap();
        let begin = Instant::now();
        while let Err(error) = producer.send(Message::new("First", "first")).await {
            assert!(begin.elapsed() < LIMIT, "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        producer.stop().await;
    });
}

/// The last words of the lines, sorted.
fn ends(mut lines: Vec<String>) -> Vec<String> {
    lines.iter_mut().for_each(|line| *line = line.rsplit(' ').next().unwrap_or_default().to_owned());
    lines.sort();
    lines
}

fn examples_run_to_their_end() {
    let cluster = start_standalone();
    let address = cluster.namesrv.as_str();
    wait_until_served(address);
    let sent = run("produce", &[address], None);
    assert_eq!(sent.len(), 5, "{sent:?}");
    assert!(sent[0].starts_with("stored in queue ") && sent[1] == "stored 2 drinks", "{sent:?}");
    assert_eq!(ends(run("consume", &[address], Some(3))), ["juice", "pizza", "water"]);
    // What was acknowledged does not come again: another member of the group gets the next order alone.
    run("produce", &[address], None);
    assert_eq!(ends(run("consume", &[address], Some(3))), ["juice", "pizza", "water"]);
    let steps = ["ordered", "paid", "delivered"].map(|step| format!("order-7: {step}"));
    assert_eq!(run("ordered", &[address], Some(6)), [steps.clone(), steps].concat());
    assert_eq!(run("pull", &[address], None).len(), 6);
    assert_eq!(run("lite_pull", &[address], None).len(), 6);
    assert_eq!(run("lite_pull", &[address], None), [""; 0], "it goes on where it was");
    assert_eq!(run("request_reply", &[address], None), ["a pizza costs 9"]);
    let refused = run("transaction", &[address], None);
    assert!(refused.len() == 1 && refused[0].contains(" does not serve transactions: "), "{refused:?}");
    assert_eq!(run("pull", &[address], None).len(), 6, "nothing of the transaction is there");
    #[cfg(feature = "sqlite")]
    effects_happen_once(address);
}

#[cfg(feature = "sqlite")]
fn effects_happen_once(address: &str) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("effects.db");
    let booked = run("exactly_once", &[address, path.to_str().unwrap()], Some(6));
    assert!(booked.iter().all(|line| line.ends_with(" is booked")), "{booked:?}");
    let database = rusqlite::Connection::open(&path).unwrap();
    let rows: i64 = database.query_row("SELECT count(*) FROM sold", (), |row| row.get(0)).unwrap();
    assert_eq!(rows, 6);
}
