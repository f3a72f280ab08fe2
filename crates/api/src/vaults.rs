//! Vaults on the wire: whose they are, what they hold (by name unless their values are asked for), and who changed what.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::vault::VaultFormat;
use crate::{Time, VaultId};

/// Where a vault without another order stands among those of administrators.
pub const PLACE_DEFAULT: i64 = 50;
/// The order of an administrator's vault is from 1 to this; a higher one is stronger.
pub const PLACE_MAX: i64 = 999;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VaultKind {
    /// Of one user or service account.
    Personal,
    /// An administrator's, for everybody in a group.
    Group,
    /// An administrator's, for everybody.
    Organisation,
}

impl VaultKind {
    pub fn name(self) -> &'static str {
        match self {
            VaultKind::Personal => "personal",
            VaultKind::Group => "group",
            VaultKind::Organisation => "organisation",
        }
    }

    pub fn parse(text: &str) -> Option<VaultKind> {
        let all = [VaultKind::Personal, VaultKind::Group, VaultKind::Organisation];
        all.into_iter().find(|kind| kind.name() == text)
    }
}

/// A vault without its values.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Vault {
    pub id: VaultId,
    pub kind: VaultKind,
    /// `@ana` is the personal vault of ana.
    pub name: String,
    /// For whom: a user, a service account or a group; nobody in particular for the organisation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Among those of administrators: a higher one is stronger, and of equal ones that of a group, then the later by name.
    pub place: i64,
    /// Stands above personal vaults and the command line.
    pub enforced: bool,
    pub enabled: bool,
    pub format: VaultFormat,
    /// Paths of its values.
    pub keys: Vec<String>,
    /// Counts its changes: a change names the one that it was made from.
    pub version: i64,
    pub changed_at: Time,
    pub changed_by: String,
}

/// A vault with its contents.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct VaultDetail {
    #[serde(flatten)]
    pub vault: Vault,
    /// As it was typed; only where its values were asked for (`?reveal=true`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// As the server reads it, each value shown as eight asterisks unless asked for.
    pub content: Value,
}

/// `POST /api/v1/vaults`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewVault {
    /// A personal one, of this user or service account; one's own where neither this nor `group` nor `organisation` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub organisation: bool,
    /// Of an administrator's vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// 1 to 999; 50 where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforced: Option<bool>,
    /// True where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Of the text; HOCON where it is left out, which reads JSON as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<VaultFormat>,
    /// At most 256 KiB.
    pub text: String,
}

/// `PATCH /api/v1/vaults/{vault}`. What is left out stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VaultEdit {
    /// The version that was looked at; a change by somebody else since then is a conflict. Left out: whatever it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforced: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// With `text`; as before where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<VaultFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Who did what to a vault, without values.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct VaultChange {
    pub time: Time,
    pub user: String,
    /// create, edit, enable, disable, reveal.
    pub verb: String,
    /// Paths of what came, changed or went.
    pub keys: Vec<String>,
    pub address: String,
}

/// What applies to somebody: the vaults, weakest first, and what they come to.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AppliedVaults {
    pub user: String,
    pub vaults: Vec<Vault>,
    /// Merged, below the command line. Each value is shown as eight asterisks unless asked for.
    pub content: Value,
    /// Of the enforced ones alone: above the command line.
    pub enforced: Value,
}

/// What came of `POST /api/v1/admin/rotate-key`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct KeyRotated {
    /// The name of the new key, the first line of the key file.
    pub key: String,
    /// How many vaults were sealed anew.
    pub vaults: i64,
    /// How many could not be opened, and stay as they are.
    pub unopened: i64,
}
