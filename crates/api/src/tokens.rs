//! API keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Time, TokenId};

/// An API key as shown: never its secret.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    pub id: TokenId,
    pub owner: String,
    /// `key` or `session`.
    pub kind: String,
    pub label: String,
    pub created_at: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// To within a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Time>,
    #[serde(flatten)]
    pub narrowed: Narrowed,
}

/// What a key leaves of its owner's rights. A key never gives more than its owner holds at the moment of its use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Narrowed {
    /// Only these; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<String>>,
    /// Only what lies in these workspaces, by name; everything when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspaces: Option<Vec<String>>,
}

impl Narrowed {
    pub fn is_nothing(&self) -> bool {
        *self == Narrowed::default()
    }
}

/// `POST /api/v1/tokens`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    #[serde(default)]
    pub label: String,
    /// Milliseconds from now. Without this and `until` the key has no end of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<i64>,
    /// When it ends; in place of `lifetime_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// For whom, if not for oneself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the key is for, as permissions are typed: `experiments:read`, `jobs:read`, `read`, `models:*`. A word that stands for several means those of
    /// them that the owner holds. Left out: all that the owner holds, or what the key that signs this request is narrowed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<String>>,
    /// Names or ids of the workspaces in which the key reaches anything, and nothing outside. Left out: everywhere, or where the key that signs this
    /// request does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspaces: Option<Vec<String>>,
}

/// A new API key. `secret` is shown this once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TokenWithSecret {
    pub token: Token,
    /// `ml_…`.
    pub secret: String,
}

/// `POST /api/v1/service-accounts/{user}/credentials`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCredential {
    #[serde(default)]
    pub label: String,
    /// Milliseconds from now. Without this and `until` the key has no end of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<i64>,
    /// When it ends; in place of `lifetime_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// A new key of a service account, ready to be copied. `secret` is shown this once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Credential {
    pub token: Token,
    /// `ml_…`.
    pub secret: String,
    /// For `~/.ml/config.toml` on its machine.
    pub config: String,
    /// The section `api` of a `clearml.conf`, as ClearML's own wizards read it.
    pub clearml: String,
}

impl Credential {
    pub fn new(token: Token, secret: String, server: &str) -> Credential {
        let config = format!("server = \"{server}\"\n\n[worker]\napi_key = \"{secret}\"\n");
        let clearml = clearml_section(&token, &secret, server);
        Credential {
            token,
            secret,
            config,
            clearml,
        }
    }
}

/// `clearml-init` and `clearml-agent init` read up to the first line that is a closing brace alone, and want exactly these two names among the credentials, and
/// three addresses that differ.
fn clearml_section(token: &Token, secret: &str, server: &str) -> String {
    let label = match token.label.as_str() {
        "" => String::new(),
        label => format!("  # {label}\n"),
    };
    let access_key = access_key(token.id);
    format!(
        "api {{\n  web_server: {server}\n  api_server: {server}/api\n  files_server: {server}/files\n{label}  credentials {{\n    \"access_key\" = \"{access_key}\"\n    \"secret_key\" = \"{secret}\"\n  }}\n}}\n"
    )
}

/// ClearML's public half of a pair: 30 capital letters and digits. Ours tells the number of the key.
pub fn access_key(id: TokenId) -> String {
    format!("BAILIWICK{:021}", id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clearml_section_is_what_its_wizards_read() {
        let token = Token {
            id: TokenId(42),
            owner: "machine-7".into(),
            kind: "key".into(),
            label: "rack 4".into(),
            created_at: Time(0),
            expires_at: None,
            last_used_at: None,
            revoked_at: None,
            narrowed: Narrowed::default(),
        };
        let made = Credential::new(token, "ml_secret".into(), "https://ml.example.com/base");
        assert_eq!(
            made.clearml,
            r#"api {
  web_server: https://ml.example.com/base
  api_server: https://ml.example.com/base/api
  files_server: https://ml.example.com/base/files
  # rack 4
  credentials {
    "access_key" = "BAILIWICK000000000000000000042"
    "secret_key" = "ml_secret"
  }
}
"#
        );
        let ends = made.clearml.lines().position(|line| line.trim_end() == "}");
        assert_eq!(
            ends,
            Some(made.clearml.lines().count() - 1),
            "the wizard stops at the last line"
        );
        assert_eq!(access_key(TokenId(i64::MAX)).len(), 30);
    }
}
