//! Makes strict JSON of what RocketMQ's own writer emits.
//!
//! Its deviations: integer keys without quotes (`{0:12}`), objects as keys (`{{"topic":"T",…}:12}`), raw control
//! characters in strings. Such a key becomes a string holding its text, for [`super::MqMap`] to read. Members that are null
//! are dropped: to RocketMQ they are the same as absent ones.
//!
//! Bounds: nesting by [`DEPTH_MAX`]; an object key may not hold another one, because each level would double its escapes.

use alloc::vec::Vec;

use crate::wire::json::{self, DEPTH_MAX, Malformed, Scanner};

/// The same value as strict JSON.
///
/// # Errors
/// What is wrong with it, and at which byte.
pub(crate) fn to_strict(text: &[u8]) -> Result<Vec<u8>, (Malformed, usize)> {
    let source = core::str::from_utf8(text).map_err(|error| ("not UTF-8", error.valid_up_to()))?;
    let mut rewriter =
        Rewriter { source, scanner: Scanner::new(text), out: Vec::with_capacity(text.len()), in_key: false };
    let result = rewriter.value(DEPTH_MAX).and_then(|()| rewriter.scanner.finish());
    match result {
        Ok(()) => Ok(rewriter.out),
        Err(what) => Err((what, rewriter.scanner.position())),
    }
}

struct Rewriter<'a> {
    source: &'a str,
    scanner: Scanner<'a>,
    out: Vec<u8>,
    in_key: bool,
}

impl Rewriter<'_> {
    fn value(&mut self, depth: usize) -> Result<(), Malformed> {
        self.scanner.space();
        match self.scanner.peek() {
            Some(b'"') => self.string(),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            _ => self.scalar(),
        }
    }

    fn string(&mut self) -> Result<(), Malformed> {
        let literal = self.scanner.string()?;
        json::write_string(&json::text(self.source, &literal), &mut self.out);
        Ok(())
    }

    fn scalar(&mut self) -> Result<(), Malformed> {
        let range = self.scanner.skip(0)?;
        self.out.extend_from_slice(self.source.get(range).unwrap_or_default().as_bytes());
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), Malformed> {
        let depth = depth.checked_sub(1).ok_or("nested too deeply")?;
        self.scanner.expect(b'[', "an array must stand here")?;
        self.out.push(b'[');
        if !self.scanner.take(b']') {
            loop {
                self.value(depth)?;
                if self.scanner.take(b']') {
                    break;
                }
                self.scanner.expect(b',', "elements need a comma between them")?;
                self.out.push(b',');
            }
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), Malformed> {
        let depth = depth.checked_sub(1).ok_or("nested too deeply")?;
        self.scanner.expect(b'{', "an object must stand here")?;
        self.out.push(b'{');
        let begin = self.out.len();
        if !self.scanner.take(b'}') {
            loop {
                self.member(begin, depth)?;
                if self.scanner.take(b'}') {
                    break;
                }
                self.scanner.expect(b',', "members need a comma between them")?;
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    fn member(&mut self, begin: usize, depth: usize) -> Result<(), Malformed> {
        let mark = self.out.len();
        if mark > begin {
            self.out.push(b',');
        }
        self.key(depth)?;
        self.scanner.expect(b':', "a key needs a colon")?;
        self.out.push(b':');
        let value = self.out.len();
        self.value(depth)?;
        if self.out.get(value..) == Some(b"null") {
            self.out.truncate(mark);
        }
        Ok(())
    }

    fn key(&mut self, depth: usize) -> Result<(), Malformed> {
        self.scanner.space();
        match self.scanner.peek() {
            Some(b'"') => self.string(),
            Some(b'{') if self.in_key => Err("an object key inside an object key"),
            Some(b'{') => {
                let start = self.out.len();
                self.in_key = true;
                self.object(depth)?;
                self.in_key = false;
                let key = self.out.split_off(start);
                let key = core::str::from_utf8(&key).map_err(|_| "not UTF-8")?;
                json::write_string(key, &mut self.out);
                Ok(())
            }
            _ => {
                self.out.push(b'"');
                self.scalar()?;
                self.out.push(b'"');
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use proptest::prelude::*;

    use super::*;

    fn strict(text: &str) -> Result<String, Malformed> {
        to_strict(text.as_bytes()).map_err(|(what, _)| what).map(|out| String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn oddities_are_made_strict() {
        for (text, expect) in [
            (r#"{0:"ip:port",-1 : 2}"#, r#"{"0":"ip:port","-1":2}"#),
            (
                r#"{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"T"}:{"maxOffset":1},{"queueId":1}:2}}"#,
                r#"{"offsetTable":{"{\"brokerName\":\"b\",\"queueId\":0,\"topic\":\"T\"}":{"maxOffset":1},"{\"queueId\":1}":2}}"#,
            ),
            (r#"{"a":null,"b":[null],"c":null,"d":1}"#, r#"{"b":[null],"d":1}"#),
            ("{\"a\":\"\u{1}\"}", r#"{"a":"\u0001"}"#),
            (" [ 1 , { } , [ ] ] ", "[1,{},[]]"),
        ] {
            assert_eq!(strict(text).as_deref(), Ok(expect), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "{", "{a:1}", "{0:1,}", "{{{1:2}:3}:4}", "{\"a\":{{0:1}:2}", "{[1]:2}", "{\"a\":1}x"]
        {
            assert!(strict(text).is_err(), "{text}");
        }
        assert!(strict(&"[".repeat(100_000)).is_err());
        assert!(strict(&"{{".repeat(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[\\[\\]{}\",:\\\\u0-9 nul-]{0,64}") {
            if let Ok(out) = to_strict(text.as_bytes()) {
                // Escapes may double inside a key, once.
                prop_assert!(out.len() <= 8 * text.len());
            }
        }
    }
}
