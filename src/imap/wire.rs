//! The byte stream that a session runs over, with or without TLS.

use tokio::io::BufWriter;

use super::guard::Guard;
use crate::dial::Carrier;

/// Writes are gathered, since the crate writes each command in four pieces; reads are guarded.
pub(super) type Wire = BufWriter<Guard<Box<dyn Carrier>>>;
