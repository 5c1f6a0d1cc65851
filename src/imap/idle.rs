//! Waiting for mail by IDLE (RFC 2177), written by hand: the crate's own handle takes a closed connection
//! for an interruption, hangs on `NO` and panics on a bare `BAD`.

use std::time::Duration;

use async_imap::imap_proto::{MailboxDatum, RequestId, Response, Status};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Session;
use super::command::lost;
use super::error::{ImapError, Step};
use super::status::Refusal;

/// IDLE is begun anew after so long: middle-boxes forget connections, and servers give up at 30 minutes.
const ROUND: Duration = Duration::from_mins(9);

/// Why a wait ended. Whatever it was: go and look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// The server says that there is mail.
    Mail,
    /// Time is up.
    Timeout,
    /// We are to stop.
    Cancelled,
}

impl Session {
    /// Waits for mail in the open folder, for at most so long.
    ///
    /// # Errors
    /// [`ImapError::IdleUnsupported`] if the server refuses; else what ends the connection.
    pub async fn idle(&mut self, at_most: Duration, stop: &CancellationToken) -> Result<Woken, ImapError> {
        let end = Instant::now() + at_most;
        loop {
            let tag = self.send(Step::Idle, "IDLE").await?;
            // A server that talks on and on without its `+` is as silent as one that says nothing.
            let limit = self.timeouts.silence;
            let mut woken = tokio::select! {
                begun = self.until_idling(&tag) => begun?,
                () = tokio::time::sleep(limit) => return Err(ImapError::Timeout { step: Step::Idle }),
                () = stop.cancelled() => return Ok(Woken::Cancelled),
            };
            if woken.is_none() {
                woken = self.listen(&tag, end.min(Instant::now() + ROUND), stop).await?;
            }
            let done = self.done(&tag, stop).await;
            if stop.is_cancelled() {
                return Ok(Woken::Cancelled);
            }
            let heard_late = done?;
            match woken {
                Some(woken) => return Ok(woken),
                None if heard_late => return Ok(Woken::Mail),
                None if Instant::now() >= end => return Ok(Woken::Timeout),
                None => {}
            }
        }
    }

    /// Waits for `+`; mail that is told of before it counts as well.
    async fn until_idling(&mut self, tag: &RequestId) -> Result<Option<Woken>, ImapError> {
        let mut woken = None;
        loop {
            match self.next(Step::Idle, |response| hear(response, tag)).await?? {
                Heard::Idling => return Ok(woken),
                Heard::Done => return Err(ImapError::IdleUnsupported),
                Heard::Mail => woken = Some(Woken::Mail),
                Heard::Other => {}
            }
        }
    }

    /// Listens until there is mail, the time is up (`None`), or we are to stop.
    async fn listen(
        &mut self,
        tag: &RequestId,
        end: Instant,
        stop: &CancellationToken,
    ) -> Result<Option<Woken>, ImapError> {
        loop {
            let heard = tokio::select! {
                () = stop.cancelled() => return Ok(Some(Woken::Cancelled)),
                () = tokio::time::sleep_until(end) => return Ok(None),
                heard = self.hear(tag) => heard?,
            };
            match heard {
                Heard::Mail => return Ok(Some(Woken::Mail)),
                Heard::Done => return Err(ImapError::IdleUnsupported),
                Heard::Idling | Heard::Other => {}
            }
        }
    }

    /// Ends IDLE; whether mail was told of meanwhile. A stop waits only shortly for a server that says nothing.
    async fn done(&mut self, tag: &RequestId, stop: &CancellationToken) -> Result<bool, ImapError> {
        let limit = self.timeouts.done;
        let hurry = async {
            stop.cancelled().await;
            tokio::time::sleep(super::GOODBYE).await;
        };
        let ending = async {
            let said = self.inner.run_command_untagged("DONE").await;
            said.map_err(|error| lost(Step::Idle, &error))?;
            let mut told = false;
            loop {
                match self.hear(tag).await? {
                    Heard::Done => return Ok(told),
                    Heard::Mail => told = true,
                    Heard::Idling | Heard::Other => {}
                }
            }
        };
        let ended = tokio::select! {
            ended = tokio::time::timeout(limit, ending) => ended.ok(),
            () = hurry => None,
        };
        ended.unwrap_or(Err(ImapError::Timeout { step: Step::Idle }))
    }

    /// The next response, however long it takes.
    async fn hear(&mut self, tag: &RequestId) -> Result<Heard, ImapError> {
        let response = self.inner.read_response().await;
        match response.map_err(|error| lost(Step::Idle, &error))? {
            Some(response) => hear(response.parsed(), tag),
            None => Err(lost(Step::Idle, &"the server closed it")),
        }
    }
}

/// What a response means while idling.
enum Heard {
    Idling,
    Mail,
    Done,
    Other,
}

fn hear(response: &Response<'_>, tag: &RequestId) -> Result<Heard, ImapError> {
    match response {
        Response::Continue(_) => Ok(Heard::Idling),
        Response::Done { tag: done, .. } if done == tag => Ok(Heard::Done),
        Response::MailboxData(MailboxDatum::Exists(_) | MailboxDatum::Recent(_)) => Ok(Heard::Mail),
        Response::Data {
            status: Status::Bye,
            outcome,
        } => Err(ImapError::Bye {
            step: Step::Idle,
            refusal: Refusal::of(outcome),
        }),
        _ => Ok(Heard::Other),
    }
}
