//! Queues.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::QueueId;
use crate::experiments::Experiment;

/// Whose jobs a queue takes. An assignment at the queue with `queues:submit` lets its holder submit to any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueueAccess {
    /// Of every workspace, for those who may submit there.
    Open,
    /// Of some workspaces, for those who may submit there.
    Bound,
    /// Of those who hold an assignment at the queue, and of nobody else.
    Assigned,
}

/// What a queue does with jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueueState {
    Active,
    /// Takes jobs in, and gives none to agents. What runs goes on.
    Paused,
    /// Takes no more jobs in. What waits is still run.
    Draining,
}

/// Among waiting jobs of the same priority, whose goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueueShare {
    /// The oldest.
    None,
    /// That of the user who has the fewest slots in use in this queue, then the oldest.
    Users,
    /// That of the workspace with the fewest, then the oldest.
    Workspaces,
}

macro_rules! words {
    ($($type:ident: $($value:ident = $word:literal),+;)+) => {$(
        impl $type {
            pub const ALL: &[$type] = &[$($type::$value),+];

            /// As in the API and in the database.
            pub fn word(self) -> &'static str {
                match self {
                    $($type::$value => $word),+
                }
            }

            pub fn parse(word: &str) -> Option<$type> {
                $type::ALL.iter().copied().find(|one| one.word() == word)
            }
        }
    )+};
}

words! {
    QueueAccess: Open = "open", Bound = "bound", Assigned = "assigned";
    QueueState: Active = "active", Paused = "paused", Draining = "draining";
    QueueShare: None = "none", Users = "users", Workspaces = "workspaces";
}

/// A queue as shown.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Queue {
    pub id: QueueId,
    pub name: String,
    pub description: String,
    /// What a submission names no queue for goes into it.
    pub is_default: bool,
    pub state: QueueState,
    pub access: QueueAccess,
    /// Those that it is bound to, as far as one may see them.
    pub workspaces: Vec<String>,
    pub share: QueueShare,
    /// Jobs that run at once; 0: as many as there is room for.
    pub max_running: i64,
    /// The same for each user.
    pub max_running_of_user: i64,
    /// The same for each workspace.
    pub max_running_of_workspace: i64,
    /// Jobs waiting; others' jobs count too, as numbers only.
    pub waiting: i64,
    pub running: i64,
}

/// `POST /api/v1/queues` (with a name) and `PATCH /api/v1/queues/{queue}`. What is left out stays as it is; a new queue is open, active, without limits, by age.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueSettings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<QueueState>,
    /// `true` makes it the default in place of the one before; the default queue stays so until another is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_default: Option<bool>,
    /// `bound` goes with `workspaces`, which bind it without more words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<QueueAccess>,
    /// By name or id; at most 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspaces: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<QueueShare>,
    /// 0 lifts the limit, here and below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running_of_user: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running_of_workspace: Option<i64>,
}

/// `PATCH /api/v1/experiments/{experiment}/job`: moves a waiting job. What is left out stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobMove {
    /// The name of a queue that one may submit to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// 1 to 99, as in the configuration: lower goes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
}

/// How busy a queue was in one minute.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
pub struct QueueLoad {
    /// Minutes since 1970.
    pub minute: i64,
    pub waiting: i64,
    pub running: i64,
}

/// `GET /api/v1/queues/{queue}`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct QueueDetail {
    #[serde(flatten)]
    pub queue: Queue,
    /// The last 24 hours, as far as they are known; the oldest first.
    pub load: Vec<QueueLoad>,
    /// What waits, in the order of priority and age; here and below only what one may see, at most 50.
    pub waits: Vec<Experiment>,
    pub runs: Vec<Experiment>,
}
