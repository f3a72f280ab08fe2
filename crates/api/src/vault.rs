use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
pub const VAULT_BYTES_MAX: usize = 256 * 1024;
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VaultFormat { Hocon, Json, Yaml }
impl VaultFormat { pub fn name(self) -> &'static str { "json" } pub fn parse(_text: &str) -> Option<VaultFormat> { Some(VaultFormat::Json) } }
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault { pub line: Option<usize>, pub column: Option<usize>, pub message: String }
impl std::fmt::Display for Fault { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(&self.message) } }
pub fn parse(_format: VaultFormat, text: &str) -> Result<Value, Fault> { serde_json::from_str(text).map_err(|e| Fault { line: None, column: None, message: e.to_string() }) }
pub fn check_personal(_content: &Value) -> Result<(), Fault> { Ok(()) }
pub fn mask(content: &Value) -> Value { content.clone() }
pub fn keys(_content: &Value) -> Vec<String> { Vec::new() }
pub fn changed_keys(_before: &Value, _after: &Value) -> Vec<String> { Vec::new() }
pub fn merge(under: Value, _over: &Value) -> Value { under }
pub struct Layer<'a> { pub name: &'a str, pub content: &'a Value, pub enforced: bool }
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effective { pub plain: Value, pub enforced: Value }
impl Effective {
    pub fn of(_layers: &[Layer]) -> Effective { Effective::default() }
    pub fn for_job(&self, _foreign: bool) -> Result<crate::agents::LeaseVault, String> { Ok(Default::default()) }
    pub fn for_agent(&self) -> (Value, Value) { (Value::Null, Value::Null) }
}
