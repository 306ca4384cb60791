//! Clients of another language on the same cluster: what one has made smaller, the other makes large again.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use gantry_net::client::{Compression, Message, Producer};
use tokio::task::spawn_blocking;

use crate::cluster::{Cluster, send};
use crate::{Fault, Outcome, ensure};

const KINDS: [(&str, Compression); 3] =
    [("LZ4", Compression::Lz4), ("ZSTD", Compression::Zstd), ("ZLIB", Compression::Zlib)];

/// The body that both sides know.
fn body() -> Vec<u8> {
    (0..50_000_u32).map(|n| b'a' + ((n + n / 1000) % 23) as u8).collect()
}

/// Runs the other client's program `compressed` to its end; it says itself what is wrong.
async fn other(cluster: &Cluster, topic: &str, mode: &str) -> Result<(), Fault> {
    let mut words = cluster.peer.iter().cloned().chain(["compressed".into()]);
    let mut command = std::process::Command::new(words.next().unwrap_or_default());
    command.args(words).args(["--namesrv", &cluster.namesrv, "--topic", topic, "--mode", mode]);
    let done = spawn_blocking(move || command.stdin(Stdio::null()).output()).await??;
    let said = String::from_utf8_lossy(&done.stdout);
    ensure!(done.status.success(), "the other client's {mode} of {topic}: {}: {said}", done.status);
    Ok(())
}

pub(crate) async fn bodies_compressed_elsewhere_are_read_and_the_reverse(cluster: Arc<Cluster>) -> Outcome {
    let theirs = cluster.name("compressed-theirs");
    other(&cluster, &theirs, "send").await?;
    let puller = cluster.puller(&cluster.name("readers")).await?;
    let mut found = BTreeMap::new();
    for queue in puller.queues(&theirs).await? {
        let pulled = puller.pull(&queue, 0, "*", Duration::ZERO).await?;
        let kind = |message: &gantry_net::client::Received| message.property("kind").unwrap_or("").to_owned();
        found.extend(pulled.messages.into_iter().map(|message| (kind(&message), message.body)));
    }
    puller.stop().await;
    for (name, _) in KINDS {
        let body = body();
        let came = found.get(name).map(|found| (found.len(), *found == body));
        ensure!(came == Some((body.len(), true)), "{name}: bytes, and whether they are the same: {came:?}");
    }
    let ours = cluster.name("compressed-ours");
    for (name, kind) in KINDS {
        let builder = Producer::builder().group(cluster.name("producers")).name_servers(&cluster.namesrv);
        let producer = builder.compression(kind, 4096).build().await?;
        send(&producer, Message::new(&ours, body()).with_property("kind", name)).await?;
        producer.stop().await;
    }
    other(&cluster, &ours, "read").await
}
