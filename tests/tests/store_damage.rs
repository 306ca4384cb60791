//! Damaged stores: a missing segment and files that are not the store's are named, and nothing is removed.

mod kit;

use gantry_core::broker::store::Store;
use gantry_core::io::{Disk, Effect, Env};
use gantry_core::rng::Rng;
use kit::{Bench, small};

/// A store that was killed before its second checkpoint, with a message of 600 bytes every 700 or so.
fn killed(messages: u8) -> (Bench, Vec<u64>) {
    let mut bench = Bench::new(small(), 1);
    let starts = (0..messages).map(|at| bench.append("T", 0, 0, b"", &[at; 600]).physical_offset).collect();
    bench.turns(3);
    bench.disk.kill();
    bench.disk.revive();
    (bench, starts)
}

/// What a start says that cannot go on.
fn refusal(bench: &mut Bench) -> Option<String> {
    bench.store = Store::new(bench.config.clone());
    let (mut out, mut rng) = (Vec::new(), Rng::from_seed(1));
    bench.store.start(bench.now, &mut Env::<_, ()> { disk: &mut bench.disk, out: &mut out, rng: &mut rng });
    out.into_iter().find_map(|effect| match effect {
        Effect::Fail { reason, restart: false } => Some(reason),
        _ => None,
    })
}

#[test]
fn a_missing_segment_is_named_and_nothing_is_removed() {
    let (mut bench, _) = killed(30);
    bench.disk.delete("commitlog/00000000000000008192").expect("it is there");
    let names = |bench: &mut Bench| bench.disk.list("commitlog").expect("a directory");
    let before = names(&mut bench);
    let reason = refusal(&mut bench).expect("it does not start");
    assert!(reason.contains("commitlog/00000000000000012288") && reason.contains("8192"), "{reason}");
    assert_eq!(names(&mut bench), before);
}

#[test]
fn what_is_no_file_of_the_store_is_named() {
    for path in ["commitlog/notes.txt", "consumequeue/T/0/notes.txt", "consumequeue/T/x/00000000000000000000"]
    {
        let (mut bench, _) = killed(5);
        let file = bench.disk.create(path, 10, gantry_core::io::FileKind::Table).expect("room");
        bench.disk.close(file);
        let reason = refusal(&mut bench).expect("it does not start");
        assert!(reason.contains(path.trim_end_matches("/00000000000000000000")), "{reason}");
    }
}
