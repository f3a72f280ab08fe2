//! Queues.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::QueueId;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Queue {
    pub id: QueueId,
    pub name: String,
    /// Jobs waiting; others' jobs count too, as numbers only.
    pub waiting: i64,
    pub running: i64,
}
