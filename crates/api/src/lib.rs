//! The words on the wire: ids, permissions and built-in roles, request and response types by noun, errors.
//!
//! No IO and no async here: the server, the command line, the agent and the tests all speak through these types.

pub mod access;
pub mod agents;
pub mod audit;
pub mod authzen;
pub mod config;
pub mod document;
pub mod error;
pub mod experiments;
pub mod groups;
pub mod hocon;
pub mod ids;
pub mod key;
pub mod models;
pub mod names;
pub mod on;
pub mod page;
pub mod permission;
pub mod queues;
pub mod requests;
pub mod roles;
pub mod server;
pub mod stacks;
pub mod time;
pub mod tokens;
pub mod users;
pub mod vault;
pub mod vaults;
pub mod workspaces;

pub use error::{ErrorBody, ErrorEnvelope};
pub use ids::*;
pub use page::Page;
pub use permission::{Permission, PermissionSet, Reach};
pub use time::Time;
