//! Mail, by an smtp server, with one connection for a round.
//! It never looks into a mail.

use super::{Delivery, Targets};
use crate::broker::Broker;
use crate::grant::Problem;
use crate::store::outgoing::Outgoing;

/// The connection of a round.
pub(super) struct Line<'l> {
    _broker: &'l Broker,
    _targets: &'l Targets,
}

impl<'l> Line<'l> {
    pub(super) fn new(broker: &'l Broker, targets: &'l Targets) -> Self {
        Self {
            _broker: broker,
            _targets: targets,
        }
    }

    pub(super) async fn deliver(&mut self, row: &Outgoing) -> Delivery {
        not_yet(row)
    }

    pub(super) async fn close(self) {}
}

pub(super) fn not_yet(row: &Outgoing) -> Delivery {
    Delivery::Refused(Problem {
        code: "not-yet".into(),
        summary: format!("{} cannot be sent yet", row.kind.as_str()),
        remedy: "wait for the next version".into(),
    })
}
