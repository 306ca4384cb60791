//! JSON by hand: the scanner of headers and the writer of strings and numbers.
//!
//! A header arrives with every message, so it is not handed to a general parser: one pass finds the members a command
//! needs and proves the rest well-formed, and `extFields` stays a slice of the frame until a typed header reads it.
//!
//! Invariants: nothing here allocates in proportion to anything but bytes that were given; nesting is bounded by
//! [`DEPTH_MAX`]; no input panics.
//!
//! Taken although JSON forbids it, because RocketMQ's own parser does: raw control characters inside strings.
//! Refused although RocketMQ's own parser takes it: single quotes, unquoted keys, trailing commas. No client writes
//! those in a header.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// Arrays and objects inside each other, at most.
pub(crate) const DEPTH_MAX: usize = 32;

/// What is wrong with a text.
pub(crate) type Malformed = &'static str;

const ENDLESS: Malformed = "a string does not end";

/// A position in a JSON text.
pub(crate) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

/// A string literal: where its content lies between the quotes, and whether it holds escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Literal {
    pub(crate) range: Range<usize>,
    pub(crate) escaped: bool,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Scanner<'a> {
        Scanner { text, at: 0 }
    }

    /// How far it got, in bytes.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The next byte, not taken.
    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Passes white space.
    pub(crate) fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Takes `byte` if it is next, white space apart.
    #[inline]
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        // The compact form, which every client writes, has no white space: look before passing any.
        if self.peek() == Some(byte) {
            self.at += 1;
            return true;
        }
        self.space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    #[inline]
    pub(crate) fn expect(&mut self, byte: u8, what: Malformed) -> Result<(), Malformed> {
        if self.take(byte) { Ok(()) } else { Err(what) }
    }

    /// Only white space is left.
    pub(crate) fn finish(&mut self) -> Result<(), Malformed> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err("text after the end of the value") }
    }

    /// A string literal, its escapes checked.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Literal, Malformed> {
        self.expect(b'"', "a string must stand here")?;
        let start = self.at;
        let hit = find_quote_or_escape(self.text, start).ok_or(ENDLESS)?;
        if self.text.get(hit) == Some(&b'"') {
            self.at = hit + 1;
            return Ok(Literal { range: start..hit, escaped: false });
        }
        let end = escaped_string_end(self.text, hit)?;
        self.at = end + 1;
        Ok(Literal { range: start..end, escaped: true })
    }

    /// Passes a value of any kind; `depth` more levels of nesting are allowed.
    pub(crate) fn skip(&mut self, depth: usize) -> Result<Range<usize>, Malformed> {
        self.space();
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                self.string()?;
            }
            Some(b'{') => self.skip_object(depth)?,
            Some(b'[') => self.skip_array(depth)?,
            Some(_) => self.scalar()?,
            None => return Err("a value is missing"),
        }
        Ok(start..self.at)
    }

    fn skip_object(&mut self, depth: usize) -> Result<(), Malformed> {
        let depth = depth.checked_sub(1).ok_or("nested too deeply")?;
        self.at += 1;
        if let Some(end) = flat_object_end(self.text, self.at) {
            self.at = end;
            return Ok(());
        }
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.string()?;
            self.expect(b':', "a key needs a colon")?;
            self.skip(depth)?;
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',', "members need a comma between them")?;
        }
    }

    fn skip_array(&mut self, depth: usize) -> Result<(), Malformed> {
        let depth = depth.checked_sub(1).ok_or("nested too deeply")?;
        self.at += 1;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.skip(depth)?;
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',', "elements need a comma between them")?;
        }
    }

    /// Passes a number, `true`, `false` or `null`.
    fn scalar(&mut self) -> Result<(), Malformed> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let len =
            rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
        let word = rest.get(..len).unwrap_or_default();
        let fine = match word {
            b"true" | b"false" | b"null" => true,
            [b'-', digit, ..] | [digit, ..] => {
                digit.is_ascii_digit() && word.iter().all(|byte| b"0123456789+-.eE".contains(byte))
            }
            [] => false,
        };
        self.at += len;
        if fine { Ok(()) } else { Err("not a value") }
    }

    /// An integer, as a number or as a number in quotes; `null` is 0, as Java leaves such a field.
    pub(crate) fn int(&mut self) -> Result<i32, Malformed> {
        self.space();
        let range = match self.peek() {
            Some(b'"') => self.string()?.range,
            _ => {
                let start = self.at;
                self.scalar()?;
                start..self.at
            }
        };
        match self.text.get(range).unwrap_or_default() {
            b"null" => Ok(0),
            digits => parse_i32(digits).ok_or("not a 32-bit integer"),
        }
    }
}

fn parse_i32(digits: &[u8]) -> Option<i32> {
    let (negative, digits) = match digits {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, digits),
    };
    if digits.is_empty() || digits.len() > 10 {
        return None;
    }
    let mut value: i64 = 0;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    i32::try_from(if negative { -value } else { value }).ok()
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// A mask whose lowest set bit lies in the first zero byte of `word`; bits above it mean nothing.
const fn zero_byte(word: u64) -> u64 {
    word.wrapping_sub(LOW) & !word & HIGH
}

/// The first `"` or `\` at or after `at`. Eight bytes a step: most strings of a header are shorter than what a call to a
/// vectorised search costs.
#[inline]
fn find_quote_or_escape(text: &[u8], mut at: usize) -> Option<usize> {
    while let Some(chunk) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let hit = zero_byte(word ^ (LOW * b'"' as u64)) | zero_byte(word ^ (LOW * b'\\' as u64));
        if hit != 0 {
            return Some(at + (hit.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let rest = text.get(at..)?;
    rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).map(|found| at + found)
}

/// Where the closing quote of a string is whose first backslash, if it has any, is at `hit`.
fn escaped_string_end(text: &[u8], mut hit: usize) -> Result<usize, Malformed> {
    while text.get(hit) == Some(&b'\\') {
        let next = hit + 1 + escape_len(text.get(hit + 1..).unwrap_or_default())?;
        hit = find_quote_or_escape(text, next).ok_or(ENDLESS)?;
    }
    Ok(hit)
}

/// Where an object ends whose first member begins at `at`, if it holds nothing but strings and no white space: the form
/// that `extFields` has from almost every client. Anything else gives `None` and is left to the general way.
fn flat_object_end(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let key =
            text.get(at).filter(|byte| **byte == b'"').and_then(|_| find_quote_or_escape(text, at + 1))?;
        if text.get(key..key + 3) != Some(b"\":\"") {
            return None;
        }
        let value = escaped_string_end(text, find_quote_or_escape(text, key + 3)?).ok()?;
        match text.get(value + 1)? {
            b',' => at = value + 2,
            b'}' => return Some(value + 2),
            _ => return None,
        }
    }
}

/// Bytes of the escape after its backslash.
fn escape_len(rest: &[u8]) -> Result<usize, Malformed> {
    match rest {
        [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Ok(1),
        [b'u', hex @ ..] if hex.len() >= 4 && hex.iter().take(4).all(u8::is_ascii_hexdigit) => Ok(5),
        _ => Err("an escape that JSON does not know"),
    }
}

/// The text of a literal whose escapes [`Scanner::string`] has checked.
#[inline]
pub(crate) fn text<'a>(source: &'a str, literal: &Literal) -> Cow<'a, str> {
    let content = source.get(literal.range.clone()).unwrap_or_default();
    if literal.escaped { Cow::Owned(unescape(content)) } else { Cow::Borrowed(content) }
}

fn unescape(content: &str) -> String {
    let bytes = content.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    // No quote stands unescaped between the quotes, so each hit is a backslash.
    while let Some(hit) = find_quote_or_escape(bytes, at) {
        out.extend_from_slice(&bytes[at..hit]);
        at = hit + 2;
        match bytes.get(hit + 1) {
            Some(b'u') => at = unescape_unicode(bytes, at, &mut out),
            Some(b'b') => out.push(8),
            Some(b'f') => out.push(12),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b't') => out.push(b'\t'),
            Some(other) => out.push(*other),
            None => break,
        }
    }
    out.extend_from_slice(bytes.get(at..).unwrap_or_default());
    String::from_utf8(out).unwrap_or_default()
}

/// Appends what the digits at `at` mean, with the second half of a surrogate pair if it follows, and says where they end. A
/// half alone becomes the replacement character: it has no UTF-8 form.
fn unescape_unicode(bytes: &[u8], at: usize, out: &mut Vec<u8>) -> usize {
    let Some(first) = hex4(bytes, at) else { return at };
    if let Ok(ascii @ 0..0x80) = u8::try_from(first) {
        out.push(ascii);
        return at + 4;
    }
    let mut end = at + 4;
    let mut code = first;
    if (0xD800..0xDC00).contains(&first)
        && bytes.get(end..end + 2) == Some(b"\\u")
        && let Some(second) = hex4(bytes, end + 2)
        && (0xDC00..0xE000).contains(&second)
    {
        code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        end += 6;
    }
    let decoded = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
    end
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..)?.first_chunk::<4>()?;
    let mut value = 0;
    for digit in digits {
        value = value << 4 | char::from(*digit).to_digit(16)?;
    }
    Some(value)
}

/// Appends `value` as a string literal.
pub(crate) fn write_string(value: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = value.as_bytes();
    let mut written = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= b' ' && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        write_escape(*byte, out);
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        control => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(control >> 4)]);
            out.push(HEX[usize::from(control & 15)]);
        }
    }
}

/// Appends `value` in decimal.
pub(crate) fn write_int(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    fn read(source: &str) -> Result<String, Malformed> {
        let mut scanner = Scanner::new(source.as_bytes());
        let literal = scanner.string()?;
        scanner.finish()?;
        Ok(text(source, &literal).into_owned())
    }

    #[test]
    fn strings_are_unescaped() {
        for (source, expect) in [
            (r#""""#, ""),
            (r#""plain""#, "plain"),
            (r#""a\u0001b\u0002""#, "a\u{1}b\u{2}"),
            (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r#""\u00e9\uD83D\uDE00!""#, "é😀!"),
            (r#""\ud83d-\ude00""#, "\u{fffd}-\u{fffd}"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            ("\"raw \u{1} control\"", "raw \u{1} control"),
            (r#""12345678\\""#, "12345678\\"),
        ] {
            assert_eq!(read(source).as_deref(), Ok(expect), "{source}");
        }
    }

    #[test]
    fn broken_strings_are_refused() {
        for source in
            [r#"""#, r#""a"#, r#""\""#, r#""\x41""#, r#""\u12""#, r#""\u+123""#, r#""\"#, r#"'a'"#, r#""a"b"#]
        {
            assert!(read(source).is_err(), "{source}");
        }
    }

    #[test]
    fn values_are_passed_whole_or_refused() {
        for (source, fine) in [
            ("0", true),
            ("-12.5e+3", true),
            ("true", true),
            ("[1, 2,{\"a\" : [] }]", true),
            ("{}", true),
            ("-", false),
            ("tru", false),
            ("0x10", false),
            ("[1,]", false),
            ("{1:2}", false),
            ("{\"a\":1,}", false),
            ("{\"a\" 1}", false),
            ("[", false),
            ("", false),
        ] {
            let mut scanner = Scanner::new(source.as_bytes());
            let passed = scanner.skip(DEPTH_MAX).and_then(|_| scanner.finish());
            assert_eq!(passed.is_ok(), fine, "{source}: {passed:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Scanner::new(nested(DEPTH_MAX).as_bytes()).skip(DEPTH_MAX).is_ok());
        assert!(Scanner::new(nested(DEPTH_MAX + 1).as_bytes()).skip(DEPTH_MAX).is_err());
        assert!(Scanner::new("[".repeat(1 << 20).as_bytes()).skip(DEPTH_MAX).is_err());
    }

    #[test]
    fn integers_are_read_in_either_form() {
        for (source, expect) in [
            ("0", Ok(0)),
            ("-2147483648", Ok(i32::MIN)),
            ("\"17\"", Ok(17)),
            ("null", Ok(0)),
            ("2147483648", Err("not a 32-bit integer")),
            ("1.5", Err("not a 32-bit integer")),
            ("\"\"", Err("not a 32-bit integer")),
        ] {
            assert_eq!(Scanner::new(source.as_bytes()).int(), expect, "{source}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in any::<String>()) {
            let mut out = Vec::new();
            write_string(&value, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).ok(), Some(value.clone()));
            prop_assert_eq!(read(core::str::from_utf8(&out).expect("UTF-8")), Ok(value));
        }

        #[test]
        fn numbers_are_written_as_std_does(value in any::<i64>()) {
            let mut out = Vec::new();
            write_int(value, &mut out);
            prop_assert_eq!(out, value.to_string().into_bytes());
        }

        #[test]
        fn any_text_is_survived(source in "[\\[\\]{}\",:\\\\u0-9a-f trn-]{0,64}") {
            let mut scanner = Scanner::new(source.as_bytes());
            if scanner.skip(DEPTH_MAX).and_then(|_| scanner.finish()).is_ok()
                && !source.contains(|c: char| c.is_control())
            {
                // Whatever is taken here and is not a number or a word is JSON for a strict reader too.
                prop_assert!(
                    source.contains(|c: char| c.is_ascii_digit() || c == '\\')
                        || serde_json::from_str::<serde_json::Value>(&source).is_ok(),
                );
            }
        }
    }
}
