//! Sockets and clocks below any protocol.
//!
//! Floor 3.

<<<<<<< Updated upstream
pub mod date;
pub mod io;
pub mod outbox;
=======
pub mod io;
>>>>>>> Stashed changes
pub mod timer;
