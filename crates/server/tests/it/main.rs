//! The server at the door that its users use: HTTP. Every test runs on SQLite and, where `ML_TEST_POSTGRES` names a cluster, on PostgreSQL.

mod access_matrix;
mod agents;
mod assignments;
mod audit;
mod authzen;
mod code;
mod credentials;
mod databases;
mod document;
mod experiments;
mod groups;
mod leaks;
mod lists;
mod logs;
mod migration;
mod on_request;
mod questions;
mod requests;
mod roles;
mod scope_matrix;
mod tables;
mod users;
mod workspaces;
mod world;
