//! One message, from MAIL to the answer at its end. What is refused leaves the session usable.

use lettre::Address;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{MailBodyParameter, MailParameter};

use super::error::{Account, SmtpError, Step};
use super::reply::{Refusal, Reply};
use super::{Envelope, Receipt, Session, address, content};

/// What a message needs of the server. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needs {
    is_utf8: bool,
    is_eight_bit: bool,
    /// Its size on the wire, in bytes.
    size: u64,
}

impl Needs {
    fn of(sender: Option<&Address>, recipients: &[Address], message: &[u8]) -> Self {
        let is_wide = |address: &Address| !AsRef::<str>::as_ref(address).is_ascii();
        Self {
            is_utf8: sender.is_some_and(is_wide) || recipients.iter().any(is_wide) || content::has_wide_header(message),
            is_eight_bit: !message.is_ascii(),
            size: message.len() as u64,
        }
    }
}

impl Session {
    /// Hands a message over. With several recipients it is sent if one is taken.
    ///
    /// # Errors
    /// [`SmtpError`], by the step that failed. After [`SmtpError::is_unknown`] the message may have been taken; after
    /// a refusal the session can be used on.
    pub async fn send(&mut self, envelope: &Envelope, message: &[u8]) -> Result<Receipt, SmtpError> {
        let sender = match &envelope.sender {
            Some(sender) => Some(address::of_envelope(sender).ok_or(SmtpError::BadSender)?),
            None => None,
        };
        let mut refused = Vec::new();
        let recipients = readable(&envelope.recipients, &mut refused);
        if recipients.is_empty() {
            return Err(SmtpError::Recipients { refused });
        }
        let addresses: Vec<Address> = recipients.iter().map(|(_, address)| address.clone()).collect();
        let message = content::encode(message);
        let needs = Needs::of(sender.as_ref(), &addresses, &message);
        let parameters = self.parameters(needs)?;
        self.reset().await?;
        self.begin(sender, parameters).await?;
        let taken = self.name_recipients(recipients, &mut refused).await?;
        if taken == 0 {
            return Err(SmtpError::Recipients { refused });
        }
        let reply = self.hand_over(&message).await?;
        Ok(Receipt {
            response: reply.text(),
            refused,
        })
    }

    /// The parameters of MAIL, or why the server cannot take the message.
    fn parameters(&self, needs: Needs) -> Result<Vec<MailParameter>, SmtpError> {
        let unable = |extension| SmtpError::Unable {
            host: self.account.host.clone(),
            extension,
        };
        let mut parameters = Vec::new();
        if let Some(limit) = self.offer.size {
            if let Some(limit) = limit.filter(|limit| needs.size > *limit) {
                return Err(SmtpError::TooLarge {
                    size: needs.size,
                    limit,
                });
            }
            parameters.push(MailParameter::Size(usize::try_from(needs.size).unwrap_or(usize::MAX)));
        }
        if needs.is_eight_bit {
            if !self.offer.has_eight_bit {
                return Err(unable("8BITMIME"));
            }
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        if needs.is_utf8 {
            if !self.offer.has_utf8 {
                return Err(unable("SMTPUTF8"));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        Ok(parameters)
    }

    /// Ends the transaction that a refusal left open.
    async fn reset(&mut self) -> Result<(), SmtpError> {
        if self.is_open {
            self.command(Step::Sender, "RSET\r\n").await?;
            self.is_open = false;
        }
        Ok(())
    }

    async fn begin(&mut self, sender: Option<Address>, parameters: Vec<MailParameter>) -> Result<(), SmtpError> {
        self.is_open = true;
        self.command(Step::Sender, &Mail::new(sender, parameters).to_string())
            .await?;
        Ok(())
    }

    /// Names each recipient; counts those that were taken.
    async fn name_recipients(
        &mut self,
        recipients: Vec<(String, Address)>,
        refused: &mut Vec<(String, Refusal)>,
    ) -> Result<usize, SmtpError> {
        let mut taken = 0;
        for (text, address) in recipients {
            match self
                .command(Step::Recipient, &Rcpt::new(address, Vec::new()).to_string())
                .await
            {
                Ok(_) => taken += 1,
                // 421 ends the connection, 530 is about us: neither is about this recipient.
                Err(SmtpError::Refused { refusal, .. }) if !matches!(refusal.code, 421 | 530) => {
                    refused.push((text, refusal));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    async fn hand_over(&mut self, message: &[u8]) -> Result<Reply, SmtpError> {
        let patience = self.timeouts.command;
        let reply = self.line.ask(Step::Data, Data.to_string().as_bytes(), patience).await?;
        if !reply.is_waiting() {
            return Err(self.refused(Step::Data, &reply));
        }
        self.line.pour(Step::Content, message, patience).await?;
        let reply = self.line.ask(Step::Answer, content::END, self.timeouts.answer).await?;
        if reply.is_done() {
            self.is_open = false;
            return Ok(reply);
        }
        if reply.is_waiting() {
            return Err(SmtpError::Garbled {
                step: Step::Answer,
                text: reply.text(),
            });
        }
        Err(self.refused(Step::Answer, &reply))
    }

    async fn command(&mut self, step: Step, command: &str) -> Result<Reply, SmtpError> {
        let reply = self.line.ask(step, command.as_bytes(), self.timeouts.command).await?;
        if reply.is_done() {
            return Ok(reply);
        }
        Err(self.refused(step, &reply))
    }

    fn refused(&self, step: Step, reply: &Reply) -> SmtpError {
        refused(step, &self.account, reply)
    }
}

/// A reply that is not what was asked for.
pub(super) fn refused(step: Step, account: &Account, reply: &Reply) -> SmtpError {
    if reply.code < 400 {
        return SmtpError::Garbled {
            step,
            text: format!("{} {}", reply.code, reply.text()),
        };
    }
    SmtpError::Refused {
        step,
        account: account.clone(),
        refusal: reply.refusal(),
    }
}

/// The recipients that can be named at all; the others are refused by us.
fn readable(recipients: &[String], refused: &mut Vec<(String, Refusal)>) -> Vec<(String, Address)> {
    let mut readable = Vec::new();
    for text in recipients {
        match address::of_envelope(text) {
            Some(address) => readable.push((text.clone(), address)),
            None => refused.push((text.clone(), Refusal::of_ours("this is no address that mail can go to"))),
        }
    }
    readable
}
