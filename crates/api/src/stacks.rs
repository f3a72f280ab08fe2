//! Stacks: where work runs and with what, under a name.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{StackId, Time};

/// What runs the jobs of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Executor {
    /// Our agents, through a queue.
    #[default]
    Agents,
}

impl Executor {
    pub const ALL: &[Executor] = &[Executor::Agents];

    /// As in the API and in the database.
    pub fn word(self) -> &'static str {
        match self {
            Executor::Agents => "agents",
        }
    }

    pub fn parse(word: &str) -> Option<Executor> {
        Executor::ALL.iter().copied().find(|one| one.word() == word)
    }
}

/// A stack as shown to those who may see it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Stack {
    pub id: StackId,
    /// Unlike all others of its owner. Others name it OWNER/NAME.
    pub name: String,
    pub owner: String,
    /// Whether somebody besides its owner holds a role at it.
    pub shared: bool,
    pub description: String,
    pub executor: Executor,
    /// Where its jobs wait; left out where it names none, or one that the caller may not see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// As `file:///srv/artifacts` or `s3://bucket/prefix`; kept and shown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub artifact_store: String,
    /// For jobs that do not set the same variable themselves.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    pub created_at: Time,
}

/// What a stack is to be. What is left out stays as it is, or is empty in a new one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StackSettings {
    /// A new one needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<Executor>,
    /// Empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_store: Option<String>,
    /// All of them anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<BTreeMap<String, String>>,
}

/// Which stacks to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StackFilter {
    /// Only those of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}
