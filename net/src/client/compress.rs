//! Bodies made smaller on the way out and large again on the way in. What a body is compressed with is said by its message's
//! flags ([`sys_flag`]), as RocketMQ's clients say it.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use gantry_core::client::{Message, Received};
use gantry_core::wire::message::sys_flag;

/// How bodies are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// What every RocketMQ client reads.
    #[default]
    Zlib,
    /// Faster; clients since 5.0 read it.
    Lz4,
    /// Smaller; clients since 5.0 read it.
    Zstd,
}

/// The level that RocketMQ uses (`msgCompressLevel`).
const ZLIB_LEVEL: u32 = 5;
/// The bits of [`sys_flag`] that name the algorithm; none of them: zlib, of clients before 5.0.
const KIND: i32 = 7 << 8;
const KIND_LZ4: i32 = 1 << 8;
const KIND_ZSTD: i32 = 2 << 8;
const KIND_ZLIB: i32 = 3 << 8;
/// What a body may grow to: one that was made to burst is not followed further.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Compresses the body of a message that has `over` bytes or more, if that makes it smaller.
pub(super) fn compress(message: &mut Message, kind: Compression, over: usize) {
    if message.body.len() < over || message.sys_flag & sys_flag::COMPRESSED != 0 {
        return;
    }
    let (flag, made) = match kind {
        Compression::Zlib => (KIND_ZLIB, zlib(&message.body)),
        Compression::Lz4 => (KIND_LZ4, lz4(&message.body)),
        Compression::Zstd => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            (KIND_ZSTD, Ok(ruzstd::encoding::compress_to_vec(&message.body[..], level)))
        }
    };
    // Writing to memory does not fail; a body that could not be made smaller leaves as it is.
    if let Ok(made) = made
        && made.len() < message.body.len()
    {
        message.body = Bytes::from(made);
        message.sys_flag |= sys_flag::COMPRESSED | flag;
    }
}

fn zlib(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(ZLIB_LEVEL));
    encoder.write_all(body)?;
    encoder.finish()
}

fn lz4(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(body)?;
    encoder.finish().map_err(io::Error::other)
}

/// [`decompress`] for a message that others have too.
pub(super) fn decompress_shared(message: &mut Arc<Received>) {
    if message.sys_flag & sys_flag::COMPRESSED != 0 {
        decompress(Arc::make_mut(message));
    }
}

/// Makes a received body what its sender gave; one that cannot be is left as it is, with its flag.
pub(super) fn decompress(message: &mut Received) {
    if message.sys_flag & sys_flag::COMPRESSED == 0 {
        return;
    }
    let body = &message.body[..];
    let made = match message.sys_flag & KIND {
        0 | KIND_ZLIB => read_all(flate2::read::ZlibDecoder::new(body)),
        KIND_LZ4 => read_all(lz4_flex::frame::FrameDecoder::new(body)),
        KIND_ZSTD => {
            ruzstd::decoding::StreamingDecoder::new(body).map_err(io::Error::other).and_then(read_all)
        }
        _ => Err(io::Error::other("its flags name no algorithm")),
    };
    match made {
        Ok(made) => {
            message.body = Bytes::from(made);
            message.sys_flag &= !(sys_flag::COMPRESSED | KIND);
        }
        Err(error) => tracing::warn!(id = message.id(), %error, "a body cannot be decompressed"),
    }
}

fn read_all(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut made = Vec::new();
    reader.take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut made)?;
    if made.len() > BODY_BYTES_MAX {
        return Err(io::Error::other(format!("it grows beyond {BODY_BYTES_MAX} bytes")));
    }
    Ok(made)
}
