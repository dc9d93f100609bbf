//! The page and its stream over made-up processes.

use super::*;
