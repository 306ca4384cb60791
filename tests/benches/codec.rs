//! What the codec costs a message: `cargo bench -p gantry-tests --bench codec`.
//!
//! One SEND_MESSAGE_V2 with a body of 128 bytes, as the Java client writes it, through `Link::decode`, its typed header, and
//! the encoding of its answer. Figures of one run compare with each other only.

use std::hint::black_box;
use std::time::Instant;

use gantry_core::io::Protocol;
use gantry_core::wire::request::{SendMessageRequest, SendMessageResponse};
use gantry_core::wire::{Command, Ext, Link, Packet, SerializeType};

const ROUNDS: u32 = 1_000;
const REPEATS: u32 = 400;

const HEADER: &str = r#"{"code":310,"extFields":{"a":"please_rename_unique_group_name","b":"BenchmarkTest","c":"TBW102","d":"4","e":"3","f":"0","g":"1700000000000","h":"0","i":"KEYS\u0001order-4711\u0002UNIQ_KEY\u00017F0000010B5C18B4AAC29A2C3D4E0001\u0002WAIT\u0001true\u0002TAGS\u0001TagA\u0002","j":"0","k":"false","m":"false","n":"broker-a"},"flag":0,"language":"JAVA","opaque":123456,"serializeTypeCurrentRPC":"JSON","version":513}"#;

fn json_frame() -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&(4 + HEADER.len() as u32 + 128).to_be_bytes());
    frame.extend_from_slice(&(HEADER.len() as u32).to_be_bytes());
    frame.extend_from_slice(HEADER.as_bytes());
    frame.extend_from_slice(&[b'x'; 128]);
    frame
}

fn command(link: &mut Link) -> Command {
    match link.decode() {
        Ok(Some(Packet::Command(command))) => command,
        other => panic!("{other:?}"),
    }
}

/// Best of many short repeats, in ns a round: a repeat that fits a time slice is not disturbed by other work.
fn time(name: &str, mut round: impl FnMut()) {
    let best = (0..REPEATS).map(|_| {
        let begin = Instant::now();
        for _ in 0..ROUNDS {
            round();
        }
        begin.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
    });
    println!("{name:<40} {:>8.0} ns", best.fold(f64::INFINITY, f64::min));
}

fn run(name: &str, frame: &[u8]) {
    let mut link = Link::new(Protocol::Remoting);
    time(&format!("{name}: decode frame"), || {
        link.incoming().extend_from_slice(black_box(frame));
        black_box(command(&mut link));
    });
    link.incoming().extend_from_slice(frame);
    let received = command(&mut link);
    time(&format!("{name}: decode typed header"), || {
        black_box(black_box(&received).header::<SendMessageRequest>().expect("a send"));
    });
    let reply = |request: &Command| {
        Command::response(
            request,
            0,
            Ext::SendReply(SendMessageResponse {
                store_host: ([127, 0, 0, 1], 10911).into(),
                offset: 123_456_789,
                more_offsets: Vec::new(),
                queue_id: 3,
                queue_offset: 1_234_567,
                transaction_id: received.body.slice(..32),
            }),
        )
    };
    let mut out = Vec::new();
    let answer = Packet::Command(reply(&received));
    time(&format!("{name}: encode answer"), || {
        out.clear();
        Link::encode(black_box(&answer), &mut out);
        black_box(&out);
    });
    time(&format!("{name}: all of it"), || {
        link.incoming().extend_from_slice(black_box(frame));
        let request = command(&mut link);
        black_box(request.header::<SendMessageRequest>().expect("a send"));
        out.clear();
        Link::encode(&Packet::Command(reply(&request)), &mut out);
        black_box(&out);
    });
}

fn main() {
    let json = json_frame();
    run("JSON", &json);
    let mut link = Link::new(Protocol::Remoting);
    link.incoming().extend_from_slice(&json);
    let mut binary = Vec::new();
    let request = Command { serialize: SerializeType::RocketMq, ..command(&mut link) };
    Link::encode(&Packet::Command(request), &mut binary);
    run("binary", &binary);
}
