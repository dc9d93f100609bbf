#![doc = include_str!("architecture.md")]

// Floor 0: words, bodies, phases.
pub mod body;
pub mod lexicon;
pub mod lifecycle;
// Floor 1: configuration.
pub mod config;
