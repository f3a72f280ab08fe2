//! The agent's calls.
