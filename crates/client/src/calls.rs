//! The calls of people and programs, by noun.
