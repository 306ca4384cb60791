//! The requests of the load: SEND_MESSAGE_V2 with a JSON header as the Java client writes it, all of one length.

use memchr::memmem;

/// Body of each message, in bytes.
pub(crate) const BODY_BYTES: usize = 128;

/// Queues that are written to.
pub(crate) const QUEUES: usize = 4;

const OPAQUE: &[u8] = b"1000000000";
const UNIQUE: &[u8] = b"0A0000010B5C00000000000000000000";
const QUEUE: &[u8] = br#""e":"0""#;

/// A request whose opaque, unique key and queue are filled in place.
#[derive(Clone)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    opaque_at: usize,
    unique_at: usize,
    queue_at: usize,
}

impl Template {
    pub(crate) fn new(topic: &str) -> Template {
        Template::with(topic, "")
    }

    /// The same of a producer that wants each message stored once; `again` as if it were sent for the second time.
    pub(crate) fn once(topic: &str, again: bool) -> Template {
        let again = if again { ",\"gantryAgain\":\"true\"" } else { "" };
        Template::with(topic, &format!(",\"gantryOnce\":\"0123456789abcdef\"{again}"))
    }

    fn with(topic: &str, fields: &str) -> Template {
        let header = format!(
            "{{\"code\":310,\"extFields\":{{\"a\":\"speed-producer\",\"b\":\"{topic}\",\"c\":\"TBW102\",\"d\":\"4\",\
             \"e\":\"0\",\"f\":\"0\",\"g\":\"1700000000000\",\"h\":\"0\",\"i\":\"UNIQ_KEY\\u0001{unique}\\u0002WAIT\\u0001true\
             \\u0002TAGS\\u0001TagA\",\"j\":\"0\",\"k\":\"false\",\"m\":\"false\",\"n\":\"broker-a\"{fields}}},\"flag\":0,\
             \"language\":\"JAVA\",\"opaque\":{opaque},\"serializeTypeCurrentRPC\":\"JSON\",\"version\":513}}",
            unique = String::from_utf8_lossy(UNIQUE),
            opaque = String::from_utf8_lossy(OPAQUE),
        );
        let header = header.into_bytes();
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&word(4 + header.len() + BODY_BYTES));
        // The high byte of the header's length is the serialise type: 0 is JSON.
        bytes.extend_from_slice(&word(header.len()));
        bytes.extend_from_slice(&header);
        bytes.extend(std::iter::repeat_n(b'x', BODY_BYTES));
        let find = |what: &[u8]| memmem::find(&bytes, what).expect("it is in the template");
        let (opaque_at, unique_at, queue_at) = (find(OPAQUE), find(UNIQUE), find(QUEUE) + QUEUE.len() - 2);
        Template { bytes, opaque_at, unique_at, queue_at }
    }

    /// Length of every request, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the `n`-th request.
    pub(crate) fn push(&mut self, n: u64, out: &mut Vec<u8>) {
        digits(&mut self.bytes[self.opaque_at + 1..self.opaque_at + OPAQUE.len()], n);
        digits(&mut self.bytes[self.unique_at + 16..self.unique_at + UNIQUE.len()], n);
        self.bytes[self.queue_at] = b'0' + (n % QUEUES as u64) as u8;
        out.extend_from_slice(&self.bytes);
    }
}

fn digits(place: &mut [u8], mut n: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

fn word(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("a frame is small").to_be_bytes()
}

/// The replies in `bytes` from its begin on: how many, how many of them do not report success, and how long they are
/// together.
pub(crate) fn count_replies(bytes: &[u8]) -> (usize, usize, usize) {
    let (mut replies, mut failures, mut at) = (0, 0, 0);
    while let Some(len) = bytes[at..].first_chunk::<4>() {
        let end = at + 4 + u32::from_be_bytes(*len) as usize;
        let Some(frame) = bytes.get(at..end) else { break };
        replies += 1;
        failures += usize::from(memmem::find(frame, b"\"code\":0,").is_none());
        at = end;
    }
    (replies, failures, at)
}
