//! The server at the door that its users use: HTTP. Every test runs on SQLite and, where `ML_TEST_POSTGRES` names a cluster, on PostgreSQL.

mod access_matrix;
mod agents;
mod assignments;
mod audit;
mod code;
mod credentials;
mod databases;
mod experiments;
mod groups;
mod lists;
mod logs;
mod requests;
mod roles;
mod tables;
mod users;
mod workspaces;
mod world;
