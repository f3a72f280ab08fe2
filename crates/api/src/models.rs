//! Models and their versions: what came of experiments, under a name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ExperimentId, ModelId, Time};

/// A model as shown to those who may see it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Model {
    pub id: ModelId,
    /// Unlike all others of its workspace. From elsewhere it is named WORKSPACE/NAME.
    pub name: String,
    pub workspace: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    pub created_at: Time,
    /// The number of the newest version that is there; left out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_version: Option<i64>,
    /// How many versions are there.
    pub versions: i64,
}

/// `POST /api/v1/workspaces/{workspace}/models`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewModel {
    /// Unique in its workspace, whatever its case; without `/`.
    pub name: String,
    #[serde(default)]
    pub description: String,
}

/// `POST /api/v1/models/{model}/move`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveModel {
    pub workspace: String,
}

/// `GET /api/v1/models`: newest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelFilter {
    /// Only those of this workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// Only those that this user made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Only those whose name holds this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// 1 to 1000; 200 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A version of a model as shown to those who may see the model.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ModelVersion {
    /// 1, 2, … in its model. The number of one that is deleted is not given again.
    pub version: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it came of; left out where none was named, where that is deleted, and where the caller may not see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<ExperimentId>,
    /// Where it lies, as `file:///srv/models/3` or `s3://bucket/prefix`; kept and shown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// Who registered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    pub created_at: Time,
}

/// `POST /api/v1/models/{model}/versions`: it says of what experiment it is, or where it lies, or both.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewModelVersion {
    /// By number or name; one that the caller may see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
    #[serde(default)]
    pub uri: String,
    #[serde(default)]
    pub description: String,
}

/// `GET /api/v1/models/{model}/versions`: newest first.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VersionFilter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// 1 to 1000; 200 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}
