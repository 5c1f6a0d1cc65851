//! A webhook call, signed as Standard Webhooks are.
//! It never follows a redirect.

use super::{Delivery, Targets};
use crate::store::outgoing::Outgoing;
use crate::time::Timestamp;

pub(super) async fn deliver(_targets: &Targets, row: &Outgoing, _now: Timestamp) -> Delivery {
    super::mail::not_yet(row)
}
