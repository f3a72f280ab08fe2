//! OpenID AuthZEN Authorization API 1.0: the questions of [`crate::access`] in the words of the standard.
//!
//! Texts are borrowed from the request, so that a thousand questions cost few allocations. As the standard wants it, fields that it does not know are
//! ignored. `properties` and `context` must be objects and are otherwise not looked at: what a caller says of somebody gives nobody a right.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A JSON object whose content does not matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, JsonSchema)]
pub struct AnyObject {}

impl<'de> Deserialize<'de> for AnyObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Skip;
        impl<'de> Visitor<'de> for Skip {
            type Value = AnyObject;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyObject, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(AnyObject {})
            }
        }
        deserializer.deserialize_map(Skip)
    }
}

/// A text, borrowed from the request unless it is written with escapes. (`Option<Cow<str>>` would always be copied.)
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub struct Text<'a>(pub Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

/// A subject or a resource. What must be there depends on the question, so nothing is demanded here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Entity<'a> {
    #[serde(borrow, default, rename = "type")]
    pub kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub id: Option<Text<'a>>,
    #[serde(default)]
    pub properties: Option<AnyObject>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Action<'a> {
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    #[serde(default)]
    pub properties: Option<AnyObject>,
}

/// `POST /access/v1/evaluation`, and one of several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Evaluation<'a> {
    #[serde(borrow, default)]
    pub subject: Option<Entity<'a>>,
    #[serde(borrow, default)]
    pub action: Option<Action<'a>>,
    #[serde(borrow, default)]
    pub resource: Option<Entity<'a>>,
    #[serde(default)]
    pub context: Option<AnyObject>,
}

/// `POST /access/v1/evaluations`: what stands beside `evaluations` holds for each that does not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Evaluations<'a> {
    #[serde(borrow, default)]
    pub subject: Option<Entity<'a>>,
    #[serde(borrow, default)]
    pub action: Option<Action<'a>>,
    #[serde(borrow, default)]
    pub resource: Option<Entity<'a>>,
    #[serde(default)]
    pub context: Option<AnyObject>,
    /// At most [`EVALUATIONS_MAX`].
    #[serde(borrow, default)]
    pub evaluations: Vec<Evaluation<'a>>,
    #[serde(default)]
    pub options: Option<Options>,
}

pub const EVALUATIONS_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Options {
    #[serde(default)]
    pub evaluations_semantic: Semantic,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Semantic {
    #[default]
    ExecuteAll,
    DenyOnFirstDeny,
    PermitOnFirstPermit,
}

/// `POST /access/v1/search/…`: what is searched for is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Search<'a> {
    #[serde(borrow, default)]
    pub subject: Option<Entity<'a>>,
    #[serde(borrow, default)]
    pub action: Option<Action<'a>>,
    #[serde(borrow, default)]
    pub resource: Option<Entity<'a>>,
    #[serde(default)]
    pub context: Option<AnyObject>,
    #[serde(borrow, default)]
    pub page: Option<PageWanted<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct PageWanted<'a> {
    /// `next_token` of the page before.
    #[serde(borrow, default)]
    pub token: Option<Text<'a>>,
    /// At most 1000; 100 when left out.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Found {
    /// First, so that a reader knows early how much comes.
    pub page: FoundPage,
    pub results: Vec<FoundOne>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FoundPage {
    /// Empty on the last page.
    pub next_token: String,
    pub count: i64,
}

/// A subject or resource (`type` and `id`), or an action (`name`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FoundOne {
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `GET /.well-known/authzen-configuration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    pub policy_decision_point: String,
    pub access_evaluation_endpoint: String,
    pub access_evaluations_endpoint: String,
    pub search_subject_endpoint: String,
    pub search_resource_endpoint: String,
    pub search_action_endpoint: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_ignored_and_wrong_types_are_not() {
        let read = |text: &'static str| serde_json::from_str::<Evaluations<'static>>(text);
        let all = read(r#"{"subject": {"type": "user", "id": "al\u0069ce", "color": [1]}, "future": {"a": [null]}, "context": {"time": "now"}}"#).unwrap();
        assert_eq!(&*all.subject.unwrap().id.unwrap(), "alice");
        for wrong in [
            r#"{"subject": "alice"}"#,
            r#"{"action": {"name": 123}}"#,
            r#"{"context": "now"}"#,
            r#"{"resource": {"type": "record", "id": "1", "properties": []}}"#,
            r#"{"options": {"evaluations_semantic": "guess"}}"#,
            r#"{"evaluations": {}}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn plain_texts_are_borrowed_from_the_request() {
        let read: Evaluation = serde_json::from_str(r#"{"subject": {"type": "user", "id": "alice"}}"#).unwrap();
        assert!(matches!(read.subject.unwrap().id, Some(Text(Cow::Borrowed("alice")))));
    }
}
