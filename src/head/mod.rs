//! Heads of messages, whatever carries them.
//!
//! Floor 0. What stands before a body: [`request::Parts`] and [`response::Parts`], with their [`Fields`] in the order in which
//! they came. Names, methods, statuses and targets are the `http` crate's. Its map of fields is not used: it hashes a name at
//! each look and looks at the bytes of a value one by one, which was a tenth of what an exchange took outside the kernel.
//! Deliberately absent: grammar and meaning, which the codecs and [`crate::headers`] know.

mod fields;
mod name;
pub mod request;
pub mod response;
mod spare;
mod value;

pub use fields::{Fields, GetAll, IntoIter, Iter, Key, Name};
pub use name::field_name;
pub use value::{HeaderValue, InvalidValue, NotText};
