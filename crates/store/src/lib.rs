//! Everything that says SQL, one file per noun. Knows no HTTP.
//!
//! Invariants: a function that reads or changes what belongs to people demands a [`access::Granted`] (or [`access::Visible`]), whose scope goes into its
//! WHERE; what changes something writes its audit event in the same transaction.

pub mod access;
pub mod agents;
pub mod assignments;
pub mod audit;
pub mod code;
pub mod credentials;
pub mod db;
pub mod document;
pub mod experiments;
pub mod groups;
pub mod jobs;
pub mod logs;
pub mod models;
pub mod picture;
pub mod principals;
pub mod projects;
pub mod questions;
pub mod queues;
pub mod requests;
pub mod roles;
mod sealing;
pub mod seats;
pub mod shadow;
pub mod stacks;
pub mod start;
pub mod vaults;
pub mod workspaces;

pub use db::{Clock, Db, Kind, Result, StoreError, Tx};
