//! The thread of a client: its machine, and who waits for which answer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use gantry_core::client::{
    AskError, Client, ClientCommand, ClientConfig, ClientEvent, ConsumerConfig, DEFAULT_INSTANCE, Found,
    Half, ProducerConfig, Question, Receipt, Received, RequestError, RequestId, SendError, TRACE_TOPIC,
    TraceConfig, client_id, process_instance,
};
use gantry_core::rng::Rng;
use gantry_core::wire::body::{MessageModel, MessageQueue};
use gantry_disk::MemoryDisk;
use tokio::sync::{mpsc, oneshot};

use super::BuildError;
use super::consumer::Intake;
use super::offsets::OffsetStore;
use crate::bell::Mailbox;
use crate::config::Limits;
use crate::counters::Counters;
use crate::driver::{Flow, Notice, Service, run};
use crate::system::entropy_seed;

/// What every client is told by its builder.
#[derive(Clone, Debug, Default)]
pub(super) struct Common {
    pub(super) group: String,
    pub(super) name_servers: Vec<String>,
    pub(super) instance: Option<String>,
    pub(super) unit: Option<String>,
}

/// Who waits for what.
enum Waiting {
    Sent(oneshot::Sender<Result<Vec<Receipt>, SendError>>),
    Queues(oneshot::Sender<Result<Vec<MessageQueue>, SendError>>),
    Reply(oneshot::Sender<Result<Received, RequestError>>),
    Answer(oneshot::Sender<Result<Found, AskError>>),
}

/// What a client is to be.
#[derive(Default)]
pub(super) struct Roles {
    pub(super) producer: Option<ProducerConfig>,
    pub(super) consumer: Option<(ConsumerConfig, Intake)>,
    pub(super) checks: Option<Checks>,
}

/// Where questions about transactions go. One that finds it full is dropped: its broker asks again.
pub(super) type Checks = mpsc::Sender<(Half, Received)>;

/// Where events go that nobody waits for by their id.
struct Outlets {
    intake: Option<Intake>,
    checks: Option<Checks>,
}

type Waiters = Arc<Mutex<HashMap<RequestId, Waiting>>>;

/// A client that runs on its thread, until this is dropped.
pub(super) struct Host {
    mailbox: Mailbox<ClientCommand>,
    waiters: Waiters,
    next: AtomicU64,
    client_id: String,
    ended: tokio::sync::watch::Receiver<bool>,
}

impl Host {
    pub(super) async fn start(common: &Common, roles: Roles) -> Result<Host, BuildError> {
        let Roles { mut producer, consumer, checks } = roles;
        let (mut consumer, mut intake) = consumer.unzip();
        let name_servers = common.addresses()?;
        common.check_group()?;
        let address = local_address(&name_servers, |servers| {
            servers.iter().find_map(|server| towards(server.as_str()))
        })
        .await;
        let of_producer = producer.as_mut().and_then(|producer| producer.trace.as_mut());
        let of_consumer = consumer.as_mut().and_then(|consumer| consumer.trace.as_mut());
        for trace in of_producer.into_iter().chain(of_consumer) {
            trace.origin = origin(address);
        }
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let is_broadcast = |consumer: &ConsumerConfig| consumer.model == MessageModel::Broadcasting;
        let is_lasting = consumer.as_ref().is_some_and(is_broadcast);
        let instance = instance_name(common.instance.as_deref(), is_lasting, || {
            process_instance(std::process::id(), nanos)
        });
        let id = client_id(&address.to_string(), &instance, common.unit.as_deref());
        if let (Some(consumer), Some(intake)) = (&mut consumer, &mut intake)
            && is_broadcast(consumer)
        {
            let store = OffsetStore::of(intake.offset_dir.take(), &id, &common.group)?;
            consumer.offsets = store.load()?;
            intake.store = Some(store);
        }
        let config = ClientConfig {
            client_id: id.clone(),
            name_servers: name_servers.iter().map(|address| Arc::from(address.as_str())).collect(),
            origin: origin(address),
            producer,
            consumer,
        };
        let (mailbox, waiters) = (Mailbox::new(), Waiters::default());
        let (end, ended) = tokio::sync::watch::channel(false);
        let (posted, known) = (mailbox.clone(), Arc::clone(&waiters));
        std::thread::Builder::new()
            .name("gantry-client".into())
            .spawn(move || {
                live(&config, &posted, &known, Outlets { intake, checks });
                // Whoever still waits is told by the end of its channel.
                lock(&known).clear();
                end.send_replace(true);
            })
            .map_err(BuildError::Thread)?;
        Ok(Host { mailbox, waiters, next: AtomicU64::new(1), client_id: id, ended })
    }

    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(super) async fn sent(
        &self,
        command: impl FnOnce(RequestId) -> ClientCommand,
    ) -> Result<Vec<Receipt>, SendError> {
        let (tell, told) = oneshot::channel();
        self.ask(Waiting::Sent(tell), command);
        told.await.unwrap_or(Err(SendError::Stopped))
    }

    pub(super) async fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>, SendError> {
        let (tell, told) = oneshot::channel();
        let topic = topic.to_owned();
        self.ask(Waiting::Queues(tell), |id| ClientCommand::WritableQueues { id, topic });
        told.await.unwrap_or(Err(SendError::Stopped))
    }

    pub(super) async fn replied(
        &self,
        command: impl FnOnce(RequestId) -> ClientCommand,
    ) -> Result<Received, RequestError> {
        let (tell, told) = oneshot::channel();
        self.ask(Waiting::Reply(tell), command);
        told.await.unwrap_or(Err(RequestError::Stopped))
    }

    pub(super) async fn find(&self, question: Question) -> Result<Found, AskError> {
        let (tell, told) = oneshot::channel();
        self.ask(Waiting::Answer(tell), |id| ClientCommand::Ask { id, question });
        told.await.unwrap_or(Err(AskError::Stopped))
    }

    pub(super) fn mailbox(&self) -> &Mailbox<ClientCommand> {
        &self.mailbox
    }

    fn ask(&self, waiting: Waiting, command: impl FnOnce(RequestId) -> ClientCommand) {
        let id = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        // The end is looked at under the lock: the thread clears the table under it before it says that it ended.
        let mut waiters = lock(&self.waiters);
        if !*self.ended.borrow() {
            waiters.insert(id, waiting);
            drop(waiters);
            self.mailbox.post(command(id));
        }
    }

    /// Ends what is under way and returns when the brokers have been told.
    pub(super) async fn stop(&self) {
        self.mailbox.stop(ClientCommand::Stop);
        let mut ended = self.ended.clone();
        // An error says that the thread is gone, which is what was to be waited for.
        let _ = ended.wait_for(|ended| *ended).await;
        lock(&self.waiters).clear();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.mailbox.stop(ClientCommand::Stop);
    }
}

impl Common {
    /// The name servers, given or from the environment.
    fn addresses(&self) -> Result<Vec<String>, BuildError> {
        let from_environment = || std::env::var("NAMESRV_ADDR").unwrap_or_default();
        let text =
            if self.name_servers.is_empty() { from_environment() } else { self.name_servers.join(";") };
        let addresses: Vec<String> = text
            .split([';', ','])
            .map(|part| part.trim().to_owned())
            .filter(|part| !part.is_empty())
            .collect();
        if addresses.is_empty() {
            return Err(BuildError::NoNameServers);
        }
        let is_address = |text: &String| {
            text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        match addresses.iter().find(|address| !is_address(address)) {
            Some(wrong) => Err(BuildError::NameServer(wrong.clone())),
            None => Ok(addresses),
        }
    }

    fn check_group(&self) -> Result<(), BuildError> {
        const GROUP_BYTES_MAX: usize = 120;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'_' | b'-');
        let is_right =
            (1..=GROUP_BYTES_MAX).contains(&self.group.len()) && self.group.bytes().all(is_allowed);
        if is_right { Ok(()) } else { Err(BuildError::Group(self.group.clone())) }
    }
}

fn lock(waiters: &Waiters) -> std::sync::MutexGuard<'_, HashMap<RequestId, Waiting>> {
    waiters.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the machine until it has stopped.
fn live(config: &ClientConfig, mailbox: &Mailbox<ClientCommand>, waiters: &Waiters, outlets: Outlets) {
    let service =
        Service { name: config.client_id.clone(), listeners: Vec::new(), limits: Limits::default() };
    let make = |_waker| {
        let mut disk = MemoryDisk::new(Rng::from_seed(0));
        disk.set_automatic(true);
        Ok((Client::new(config.clone()), disk))
    };
    let (waiters, posted) = (Arc::clone(waiters), mailbox.clone());
    let notice = move |notice: Notice<'_, ClientEvent>| match notice {
        Notice::Ready(_) => Flow::Continue,
        Notice::Event(event) => hand_over(&waiters, &outlets, &posted, event),
    };
    if let Err(error) = run(&service, mailbox, &Arc::new(Counters::default()), make, notice) {
        tracing::error!(client = config.client_id, %error, "the client ended");
    }
}

/// Gives an event to who waits for it. Who has gone meanwhile does not want it any more.
fn hand_over(
    waiters: &Waiters,
    outlets: &Outlets,
    mailbox: &Mailbox<ClientCommand>,
    event: ClientEvent,
) -> Flow {
    let id = match &event {
        ClientEvent::Sent { id, .. }
        | ClientEvent::Queues { id, .. }
        | ClientEvent::Replied { id, .. }
        | ClientEvent::Answered { id, .. } => *id,
        ClientEvent::Problem(problem) => {
            tracing::warn!(problem);
            return Flow::Continue;
        }
        ClientEvent::Checking { .. } => {
            let ClientEvent::Checking { half, message } = event else { return Flow::Continue };
            let is_taken =
                outlets.checks.as_ref().is_some_and(|checks| checks.try_send((half, message)).is_ok());
            if !is_taken {
                tracing::warn!(
                    "a broker's question about a transaction is not answered: nobody takes it now"
                );
            }
            return Flow::Continue;
        }
        ClientEvent::Delivered(_)
        | ClientEvent::Assigned { .. }
        | ClientEvent::Progress(_)
        | ClientEvent::Failing(_) => {
            if let Some(intake) = &outlets.intake {
                intake.take(event, mailbox);
            }
            return Flow::Continue;
        }
        ClientEvent::Stopped => return Flow::Stop,
    };
    match (lock(waiters).remove(&id), event) {
        (Some(Waiting::Answer(tell)), ClientEvent::Answered { result, .. }) => drop(tell.send(result)),
        (Some(Waiting::Reply(tell)), ClientEvent::Replied { result, .. }) => drop(tell.send(result)),
        (Some(Waiting::Sent(tell)), ClientEvent::Sent { result, .. }) => drop(tell.send(result)),
        (Some(Waiting::Queues(tell)), ClientEvent::Queues { queues, .. }) => drop(tell.send(queues)),
        (waiting, event) => {
            debug_assert!(waiting.is_none(), "an answer of the wrong kind: {event:?}");
        }
    }
    Flow::Continue
}

/// The instance name of a client. `DEFAULT`, chosen or not, stands for none, and each process then has its own; but what is stored under
/// a broadcasting consumer's id must be found again by the next process.
fn instance_name(chosen: Option<&str>, is_lasting: bool, own: impl FnOnce() -> String) -> String {
    match chosen.unwrap_or(DEFAULT_INSTANCE) {
        DEFAULT_INSTANCE if !is_lasting => own(),
        name => name.to_owned(),
    }
}

/// The address by which this machine reaches its name servers; nothing is sent to them to find out. Names are looked up on a thread of
/// its own, for that may take long and the caller's executor has other things to do.
async fn local_address(
    name_servers: &[String],
    look_up: impl FnOnce(&[String]) -> Option<IpAddr> + Send + 'static,
) -> IpAddr {
    let known = name_servers.iter().map_while(|server| server.parse::<SocketAddr>().ok()).find_map(towards);
    if let Some(known) = known {
        return known;
    }
    let (tell, told) = oneshot::channel();
    let servers = name_servers.to_vec();
    let looks_up = std::thread::Builder::new().name("gantry-resolve".into()).spawn(move || {
        // Whoever asked may have been cancelled.
        let _ = tell.send(look_up(&servers));
    });
    let found = if looks_up.is_ok() { told.await.ok().flatten() } else { None };
    found.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn towards(server: impl ToSocketAddrs) -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(server).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// A trace to `topic`; its origin is set when the client starts.
pub(super) fn trace(topic: Option<&str>) -> TraceConfig {
    TraceConfig { topic: topic.unwrap_or(TRACE_TOPIC).to_owned(), origin: [0; 10] }
}

fn origin(address: IpAddr) -> [u8; 10] {
    let ip = match address {
        IpAddr::V4(ip) => ip.octets(),
        // Its last bytes tell hosts of one network apart.
        IpAddr::V6(ip) => {
            let [.., a, b, c, d] = ip.octets();
            [a, b, c, d]
        }
    };
    let [.., p, q] = std::process::id().to_be_bytes();
    let [a, b, c, d, ..] = entropy_seed().to_be_bytes();
    [ip[0], ip[1], ip[2], ip[3], p, q, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_stands_for_a_name_of_the_process_but_for_broadcasts() {
        let name = |chosen, is_lasting| instance_name(chosen, is_lasting, || "7#9".into());
        assert_eq!(name(None, false), "7#9");
        assert_eq!(name(Some("DEFAULT"), false), "7#9");
        assert_eq!(name(Some("DEFAULT"), true), "DEFAULT");
        assert_eq!(name(None, true), "DEFAULT");
        assert_eq!(name(Some("one"), false), "one");
        assert_eq!(name(Some("one"), true), "one");
    }

    #[test]
    fn names_of_servers_are_looked_up_elsewhere() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let there = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
        let servers = ["a.name:9876".to_owned()];
        let (allow, allowed) = std::sync::mpsc::channel::<()>();
        let slow = move |servers: &[String]| {
            assert_eq!(servers, ["a.name:9876"]);
            allowed.recv().ok().map(|()| there)
        };
        let mut lookup = std::pin::pin!(local_address(&servers, slow));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(lookup.as_mut().poll(&mut context).is_pending(), "the caller is not held up");
        allow.send(()).expect("it waits");
        assert_eq!(runtime.block_on(lookup), there);
        // An address needs no lookup.
        let never = |_: &[String]| -> Option<IpAddr> { panic!("nothing to look up") };
        let found = runtime.block_on(local_address(&["127.0.0.1:9".to_owned()], never));
        assert_eq!(found, IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
}
