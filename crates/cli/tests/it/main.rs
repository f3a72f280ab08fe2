//! The built `ml`, as a user types it: without a server (`alone`), and against `ml serve` (`served`).

mod alone;
mod place;
mod served;
