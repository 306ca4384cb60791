//! What a broker registers, as JSON or compressed.
//!
//! Compressed (RocketMQ's `compressedRegister`), a zlib stream of:
//!
//! ```text
//! length 4, data version JSON
//! count 4, then per topic: length 4, "name readQueues writeQueues perm filterType attributesJSON"
//! length 4, filter server list JSON
//! count 4, then per static topic: length 4, mapping JSON     (since 5.0)
//! ```
//! This form carries neither `order` nor `topicSysFlag`.
//!
//! A 5.x broker with `compressedRegister` compresses its body and says in the header that it did not (`BrokerOuterAPI`), so
//! that RocketMQ's own name server refuses it. A zlib stream is told from JSON by its first byte.
//!
//! Gantry peers compress the JSON itself, which loses nothing. It is told from the form above by its first byte too: a data
//! version is never 2 GB long.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;

use super::{
    BodyError, DataVersion, TopicConfig, TopicConfigSerializeWrapper, TopicFilterType, bodies, decode, encode,
};

/// What a compressed registration may inflate to. 60,000 topics are 4 MB.
pub(crate) const INFLATED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Deflate with a window of 32 KiB, as every zlib writes; no JSON text begins so.
const ZLIB_FIRST_BYTE: u8 = 0x78;

/// Topics are alike: what the best compression saves beyond this is a tenth, for several times the CPU.
const DEFLATE_LEVEL: u8 = 1;

bodies! {
    /// The body of REGISTER_BROKER.
    #[derive(Eq)]
    RegisterBrokerBody {
        filter_server_list: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        gantry_change: Option<RegistrationChange>,
        topic_config_serialize_wrapper: TopicConfigSerializeWrapper,
    }
    /// Between Gantry peers: the table holds only what has changed since `base`.
    #[derive(Eq)]
    RegistrationChange {
        base: DataVersion,
        gone: Vec<String>,
    }
}

impl RegisterBrokerBody {
    /// Reads either form; `compressed` as the header says.
    ///
    /// # Errors
    /// Malformed, or more than 64 MiB when inflated.
    pub fn decode(bytes: &[u8], compressed: bool) -> Result<RegisterBrokerBody, BodyError> {
        if !compressed && bytes.first() != Some(&ZLIB_FIRST_BYTE) {
            return decode(bytes);
        }
        let inflated = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(bytes, INFLATED_BYTES_MAX)
            .map_err(|error| BodyError::new(format!("registration does not inflate: {error}")))?;
        if inflated.first() == Some(&b'{') { decode(&inflated) } else { decode_inflated(&inflated) }
    }

    /// Whether RocketMQ's compressed form says all that a name server keeps.
    pub fn fits_compressed(&self) -> bool {
        let topics = &self.topic_config_serialize_wrapper.topic_config_table;
        topics.values().all(|topic| topic.topic_sys_flag == 0 && !topic.topic_name.contains(' '))
    }

    /// Writes JSON, compressed: for Gantry peers.
    pub fn encode_compressed_json(&self) -> Vec<u8> {
        miniz_oxide::deflate::compress_to_vec_zlib(&encode(self), DEFLATE_LEVEL)
    }

    /// Writes RocketMQ's compressed form. [`super::encode`] writes the plain one.
    pub fn encode_compressed(&self) -> Vec<u8> {
        let wrapper = &self.topic_config_serialize_wrapper;
        let mut out = Vec::new();
        write_sized(&encode(&wrapper.data_version), &mut out);
        write_count(wrapper.topic_config_table.len(), &mut out);
        for topic in wrapper.topic_config_table.values() {
            let text = format!(
                "{} {} {} {} {} ",
                topic.topic_name,
                topic.read_queue_nums,
                topic.write_queue_nums,
                topic.perm,
                topic.topic_filter_type.name(),
            );
            let mut text = text.into_bytes();
            super::write(&topic.attributes, &mut text);
            write_sized(&text, &mut out);
        }
        write_sized(&encode(&self.filter_server_list), &mut out);
        let mappings = wrapper.topic_queue_mapping_info_map.iter().flat_map(BTreeMap::values);
        write_count(mappings.clone().count(), &mut out);
        for mapping in mappings {
            write_sized(&encode(mapping), &mut out);
        }
        miniz_oxide::deflate::compress_to_vec_zlib(&out, DEFLATE_LEVEL)
    }
}

fn write_count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

fn write_sized(bytes: &[u8], out: &mut Vec<u8>) {
    write_count(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn decode_inflated(bytes: &[u8]) -> Result<RegisterBrokerBody, BodyError> {
    let mut rest = bytes;
    let data_version: DataVersion = decode(sized(&mut rest)?)?;
    let mut topic_config_table = BTreeMap::new();
    for _ in 0..count(&mut rest)? {
        let topic = topic(sized(&mut rest)?)?;
        topic_config_table.insert(topic.topic_name.clone(), topic);
    }
    // As in RocketMQ, a list that cannot be read is none: nobody runs filter servers any more.
    let filter_server_list = decode(sized(&mut rest)?).unwrap_or_default();
    let mut mappings = BTreeMap::new();
    if !rest.is_empty() {
        for _ in 0..count(&mut rest)? {
            let mapping: Value = decode(sized(&mut rest)?)?;
            let topic = mapping.get("topic").and_then(Value::as_str).unwrap_or_default();
            mappings.insert(String::from(topic), mapping);
        }
    }
    Ok(RegisterBrokerBody {
        filter_server_list,
        gantry_change: None,
        topic_config_serialize_wrapper: TopicConfigSerializeWrapper {
            data_version,
            topic_config_table,
            topic_queue_mapping_info_map: Some(mappings),
            ..TopicConfigSerializeWrapper::default()
        },
    })
}

fn early() -> BodyError {
    BodyError::new("registration ends early")
}

fn count(rest: &mut &[u8]) -> Result<u32, BodyError> {
    let (count, behind) = rest.split_first_chunk::<4>().ok_or_else(early)?;
    *rest = behind;
    Ok(u32::from_be_bytes(*count))
}

fn sized<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BodyError> {
    let len = count(rest)? as usize;
    let (bytes, behind) = rest.split_at_checked(len).ok_or_else(early)?;
    *rest = behind;
    Ok(bytes)
}

fn topic(text: &[u8]) -> Result<TopicConfig, BodyError> {
    let wrong =
        || BodyError::new("a topic of the registration is not `name read write perm filter attributes`");
    let text = core::str::from_utf8(text).map_err(|_| wrong())?;
    let mut words = text.splitn(6, ' ');
    let mut word = || words.next().ok_or_else(wrong);
    let name = word()?;
    let mut number = || word()?.parse::<i32>().map_err(|_| wrong());
    let (read_queue_nums, write_queue_nums, perm) = (number()?, number()?, number()?);
    let topic_filter_type = TopicFilterType::from_name(word()?).ok_or_else(wrong)?;
    // Attributes that cannot be read are none, as in RocketMQ.
    let attributes = words.next().and_then(|json| decode(json.as_bytes()).ok()).unwrap_or_default();
    Ok(TopicConfig {
        attributes,
        perm,
        read_queue_nums,
        topic_filter_type,
        topic_name: String::from(name),
        write_queue_nums,
        ..TopicConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> RegisterBrokerBody {
        let topics =
            [("T", 4, 6), ("%RETRY%G", 1, 6), ("TBW102", 8, 7)].map(|(name, queues, perm)| TopicConfig {
                attributes: BTreeMap::from([("message.type".into(), "NORMAL".into())]),
                perm,
                read_queue_nums: queues,
                topic_name: name.into(),
                write_queue_nums: queues,
                ..TopicConfig::default()
            });
        RegisterBrokerBody {
            filter_server_list: Vec::from(["f:1".into()]),
            gantry_change: None,
            topic_config_serialize_wrapper: TopicConfigSerializeWrapper {
                data_version: DataVersion { counter: 3, state_version: 1, timestamp: 9 },
                topic_config_table: topics
                    .into_iter()
                    .map(|topic| (topic.topic_name.clone(), topic))
                    .collect(),
                topic_queue_mapping_info_map: Some(BTreeMap::from([(
                    "T".into(),
                    serde_json::json!({"topic": "T", "totalQueues": 8, "currIdMap": {"0": 1}}),
                )])),
                ..TopicConfigSerializeWrapper::default()
            },
        }
    }

    #[test]
    fn both_forms_are_read() {
        assert_eq!(RegisterBrokerBody::decode(&encode(&sample()), false), Ok(sample()));
        assert_eq!(RegisterBrokerBody::decode(&sample().encode_compressed(), true), Ok(sample()));
        assert_eq!(
            RegisterBrokerBody::decode(&sample().encode_compressed(), false),
            Ok(sample()),
            "as 5.x says"
        );
        let mut ours = sample();
        ours.gantry_change = Some(RegistrationChange::default());
        let topics = &mut ours.topic_config_serialize_wrapper.topic_config_table;
        topics.entry("T".into()).or_default().topic_sys_flag = 1;
        assert_eq!(RegisterBrokerBody::decode(&ours.encode_compressed_json(), true), Ok(ours.clone()));
        assert!(sample().fits_compressed() && !ours.fits_compressed());
    }

    #[test]
    fn the_form_of_4_9_has_no_mappings() {
        let mut out = Vec::new();
        write_sized(br#"{"counter":1,"timestamp":2}"#, &mut out);
        write_count(1, &mut out);
        write_sized(b"T 4 4 6 SINGLE_TAG", &mut out);
        write_sized(b"[]", &mut out);
        let body = RegisterBrokerBody::decode(&miniz_oxide::deflate::compress_to_vec_zlib(&out, 1), true);
        let wrapper = body.expect("well-formed").topic_config_serialize_wrapper;
        assert_eq!(wrapper.data_version, DataVersion { counter: 1, state_version: 0, timestamp: 2 });
        assert_eq!(wrapper.topic_config_table.get("T").map(|topic| topic.read_queue_nums), Some(4));
    }

    #[test]
    fn a_registration_may_not_inflate_without_end() {
        let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&alloc::vec![0; INFLATED_BYTES_MAX + 1], 1);
        assert!(bomb.len() < 1 << 20);
        assert!(RegisterBrokerBody::decode(&bomb, true).is_err());
    }

    #[test]
    fn broken_ones_are_refused() {
        let whole = {
            let mut out = Vec::new();
            write_sized(br#"{"counter":1}"#, &mut out);
            write_count(1, &mut out);
            write_sized(b"T 4 4 6 SINGLE_TAG {}", &mut out);
            write_sized(b"[]", &mut out);
            write_count(0, &mut out);
            out
        };
        assert!(decode_inflated(&whole).is_ok());
        for len in 0..whole.len() - 4 {
            assert!(decode_inflated(&whole[..len]).is_err(), "{len}");
        }
        for text in ["T 4 4 6", "T 4 4 6 NO_TAG", "T x 4 6 SINGLE_TAG", ""] {
            assert!(topic(text.as_bytes()).is_err(), "{text}");
        }
        assert!(RegisterBrokerBody::decode(b"not zlib", true).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode_inflated(&bytes);
            let _ = RegisterBrokerBody::decode(&bytes, true);
            let _ = RegisterBrokerBody::decode(&bytes, false);
        }
    }
}
