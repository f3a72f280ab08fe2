//! The built `ml`, as a user types it: without a server (`alone`), against `ml serve` (`served`), at a terminal as the pages say from which the product was
//! asked for (`seeds`), and against several servers on one database (`freshness`).

mod access;
mod agents;
mod alone;
mod document;
mod freshness;
mod hostile;
mod models;
mod on_request;
mod people;
mod place;
mod queues;
mod roles;
mod seeds;
mod served;
mod stacks;
mod vaults;
mod workspaces;
