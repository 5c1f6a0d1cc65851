//! Where things go at present, and what becomes of deliveries to where nothing goes any more.
//! It never sends anything.

use tracing::warn;

use super::{Outbox, webhook};
use crate::alert::AlertKind;
use crate::config::Config;
use crate::fault::chain;
use crate::outgoing::{Alerts, Channel, Smtp, Webhook};
use crate::store::StoreError;
use crate::store::outgoing as rows;
use crate::tls::Trust;

/// Where things go at present; a reload replaces it.
#[derive(Debug, Clone)]
pub(crate) struct Targets {
    pub(crate) smtp: Vec<Smtp>,
    pub(crate) webhooks: Vec<Webhook>,
    pub(crate) alerts: Alerts,
    pub(crate) trust: Trust,
    pub(crate) clients: webhook::Clients,
}

impl Targets {
    /// Those of a configuration.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            smtp: config.smtp.clone(),
            webhooks: config.webhooks.clone(),
            alerts: config.alerts.clone(),
            trust: config.trust.clone(),
            clients: webhook::Clients::default(),
        }
    }

    /// Whether a webhook or the command was taken out of the configuration.
    pub(super) fn is_gone(&self, (channel, target): &(Channel, String)) -> bool {
        match channel {
            Channel::Mail => false,
            Channel::Webhook => self.webhooks.iter().all(|webhook| webhook.url != *target),
            Channel::Command => self.alerts.command.is_empty(),
        }
    }
}

impl Outbox {
    /// Ends what waits for a target that was taken out of the configuration, and the alert about it.
    pub(super) async fn abandon(&self, (channel, target): &(Channel, String)) {
        let what = ("not-configured", "it is not configured any more");
        let ended = async {
            let mut write = self.store.write().await?;
            let ended = rows::abandon(write.connection()?, (*channel, target), what, self.clock.now()).await?;
            write.commit().await?;
            Ok::<u64, StoreError>(ended)
        };
        let name = named(*channel, target);
        match ended.await {
            Ok(count) => {
                warn!("{count} deliveries to {name} were given up: it is not configured any more");
                self.notice.resolve(AlertKind::OutgoingFailing, name, None).await;
            }
            Err(error) => warn!(error = %chain(&error), "what waits for {name} could not be given up"),
        }
    }
}

/// The name of a target in the journal and in alerts.
pub(super) fn named(channel: Channel, target: &str) -> &str {
    match channel {
        Channel::Mail | Channel::Webhook => target,
        Channel::Command => "the alert command",
    }
}
