//! What an administrator types at Microsoft so that a mailbox opens to us: exact commands, with the right IDs. Pure.
//! It runs none of them.
//!
//! Source: Microsoft, "Authenticate an IMAP, POP or SMTP connection using OAuth"
//! (<https://learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth>).

use super::claims::{Claims, Service, is_guid};
use crate::grant::{Integration, Provider};

/// What stands where the token does not tell the object ID.
const NO_OBJECT_ID: &str = "OBJECT-ID-OF-THE-ENTERPRISE-APPLICATION";

/// A mailbox that an application may not open.
pub(super) struct Closed<'a> {
    pub(super) integration: &'a Integration,
    /// The mailbox, as the SASL user name.
    pub(super) mailbox: &'a str,
    pub(super) service: Service,
    pub(super) claims: Option<&'a Claims>,
}

/// The commands that open a mailbox to an application, and which of the two object IDs they need.
pub(super) fn application_access(closed: &Closed<'_>) -> Vec<String> {
    let known = closed.claims.and_then(Claims::object_id);
    let object_id = known.unwrap_or(NO_OBJECT_ID);
    let client_id = argument(&closed.integration.client_id);
    let mailbox = argument(closed.mailbox);
    let name = argument(&format!("mailintake {}", closed.integration.name));
    let mut lines = vec![
        "An administrator of Exchange types once, in PowerShell:".to_owned(),
        format!("  {}", connect(closed.integration)),
        format!("  New-ServicePrincipal -AppId {client_id} -ObjectId {object_id}"),
        format!("  Set-ServicePrincipal -Identity {object_id} -DisplayName {name}"),
        format!("  Add-MailboxPermission -Identity {mailbox} -User {object_id} -AccessRights FullAccess"),
    ];
    match closed.service {
        Service::Smtp => lines.push(format!(
            "  Add-RecipientPermission -Identity {mailbox} -Trustee {object_id} -AccessRights SendAs -Confirm:$false"
        )),
        Service::Imap => lines.push(format!("  Set-CASMailbox -Identity {mailbox} -ImapEnabled $true")),
        Service::Pop3 => lines.push(format!("  Set-CASMailbox -Identity {mailbox} -PopEnabled $true")),
    }
    lines.push(match known {
        Some(object_id) => format!(
            "{object_id} is the object ID that Entra shows under Enterprise applications (it is the token's oid). The one under App registrations is another and the wrong one: with it every sign-in fails."
        ),
        None => "The object ID is the one that Entra shows under Enterprise applications. The one under App registrations is another and the wrong one: with it every sign-in fails.".to_owned(),
    });
    lines.push(format!(
        "What is registered now: Get-ServicePrincipal | Where-Object AppId -eq {client_id} | Format-List AppId,ObjectId. If its ObjectId is not {object_id}: Remove-ServicePrincipal -Identity THAT-OBJECT-ID, then the commands above. A change takes up to an hour to be in force."
    ));
    lines
}

/// What opens a mailbox to a person who signs in for it.
pub(super) fn delegated_access(login: &str, mailbox: &str, service: Service) -> Vec<String> {
    let (user, quoted) = (argument(login), argument(mailbox));
    let mut lines = vec!["An administrator of Exchange looks, in PowerShell:".to_owned()];
    if !login.eq_ignore_ascii_case(mailbox) {
        lines.push(format!(
            "  Add-MailboxPermission -Identity {quoted} -User {user} -AccessRights FullAccess"
        ));
    }
    match service {
        Service::Imap => lines.push(format!("  Set-CASMailbox -Identity {quoted} -ImapEnabled $true")),
        Service::Pop3 => lines.push(format!("  Set-CASMailbox -Identity {quoted} -PopEnabled $true")),
        Service::Smtp => {
            if !login.eq_ignore_ascii_case(mailbox) {
                lines.push(format!(
                    "  Add-RecipientPermission -Identity {quoted} -Trustee {user} -AccessRights SendAs -Confirm:$false"
                ));
            }
            lines.push(format!(
                "  Set-CASMailbox -Identity {quoted} -SmtpClientAuthenticationDisabled $false"
            ));
        }
    }
    lines.push(format!(
        "The mailbox needs a licence, unless it is a shared one, and {quoted} must be its primary address, no alias."
    ));
    lines
}

fn connect(integration: &Integration) -> String {
    let cloud = match integration.provider {
        Provider::MicrosoftGccHigh => " -ExchangeEnvironmentName O365USGovGCCHigh",
        Provider::MicrosoftDod => " -ExchangeEnvironmentName O365USGovDoD",
        Provider::MicrosoftChina => " -ExchangeEnvironmentName O365China",
        Provider::Microsoft
        | Provider::MicrosoftGcc
        | Provider::Google
        | Provider::Yahoo
        | Provider::Fastmail
        | Provider::Custom => "",
    };
    format!("Connect-ExchangeOnline{cloud}")
}

/// A value as PowerShell takes it: as it is if plain, else in single quotes.
fn argument(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    let is_word =
        is_guid(value) || (value.chars().all(is_plain) && value.starts_with(|c: char| c.is_ascii_alphanumeric()));
    if is_word {
        return value.to_owned();
    }
    // PowerShell takes the typographic quotes for plain ones, too.
    let quoted: String = value
        .chars()
        .filter(|c| !c.is_control())
        .flat_map(|c| match c {
            '\'' | '‘' | '’' | '‚' | '‛' => vec![c, c],
            other => vec![other],
        })
        .collect();
    format!("'{quoted}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_cannot_break_out_of_its_place() {
        for (value, argument_) in [
            ("support@contoso.example", "support@contoso.example"),
            ("o'neil@contoso.example", "'o''neil@contoso.example'"),
            ("a; Remove-Mailbox b", "'a; Remove-Mailbox b'"),
            ("a’; b", "'a’’; b'"),
            ("$(x)\n", "'$(x)'"),
            ("-User", "'-User'"),
        ] {
            assert_eq!(argument(value), argument_, "{value}");
        }
    }
}
