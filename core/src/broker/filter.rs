//! Which messages of a queue a subscription takes, as far as the queue entry alone tells: by the hash of the tag.
//!
//! Two tags may share a hash, so clients compare the text again.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::wire::body::SubscriptionData;
use crate::wire::message::java_hash;

/// RocketMQ's `SUB_ALL`.
pub(super) const ALL: &str = "*";
/// RocketMQ's name of tag expressions.
pub(super) const TAG: &str = "TAG";

/// A filter by tag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Filter {
    /// Everything.
    All,
    /// Messages whose tag has one of these hashes, sorted.
    Tags(Arc<[i32]>),
}

impl Filter {
    /// Of an expression `a || b`; everything when it names no tag.
    pub(super) fn of_expression(expression: &str) -> Filter {
        if expression.trim() == ALL {
            return Filter::All;
        }
        let tags = expression.split("||").map(str::trim).filter(|tag| !tag.is_empty());
        Filter::of_codes(tags.map(java_hash).collect())
    }

    /// Of what a heartbeat says. The C++ client leaves out sets that are empty, older ones the codes.
    pub(super) fn of_subscription(data: &SubscriptionData) -> Filter {
        if data.sub_string.trim() == ALL {
            Filter::All
        } else if !data.code_set.is_empty() {
            Filter::of_codes(data.code_set.iter().copied().collect())
        } else if !data.tags_set.is_empty() {
            Filter::of_codes(data.tags_set.iter().map(|tag| java_hash(tag)).collect())
        } else {
            Filter::of_expression(&data.sub_string)
        }
    }

    fn of_codes(mut codes: Vec<i32>) -> Filter {
        if codes.is_empty() {
            return Filter::All;
        }
        codes.sort_unstable();
        codes.dedup();
        Filter::Tags(codes.into())
    }

    /// Whether a queue entry of this tag code passes.
    pub(super) fn accepts(&self, tags_code: i64) -> bool {
        match self {
            Filter::All => true,
            // RocketMQ compares the low 32 bits.
            Filter::Tags(codes) => codes.binary_search(&(tags_code as i32)).is_ok(),
        }
    }
}

/// Whether an expression type means tags; absent and empty ones do.
pub(super) fn is_tag_type(expression_type: Option<&str>) -> bool {
    expression_type.is_none_or(|kind| kind.is_empty() || kind == TAG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_take_their_tags() {
        for (expression, tag, expect) in [
            ("*", "a", true),
            (" * ", "", true),
            ("", "a", true),
            ("a || b", "b", true),
            ("a||b", "c", false),
            (" || ", "c", true),
            ("TagA", "TagA", true),
            ("TagA", "", false),
        ] {
            let code = i64::from(java_hash(tag));
            assert_eq!(Filter::of_expression(expression).accepts(code), expect, "{expression} {tag}");
        }
    }

    #[test]
    fn the_codes_of_a_heartbeat_count() {
        let data = SubscriptionData {
            sub_string: "a".into(),
            code_set: [97, 2_598_919].into_iter().collect(),
            ..SubscriptionData::default()
        };
        assert_eq!(Filter::of_subscription(&data), Filter::Tags([97, 2_598_919].into()));
    }
}
