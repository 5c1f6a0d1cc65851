//! What refusals of large providers mean and what mends them: one table, data only. Codes choose the class; words
//! of a server choose among advice of one class, nothing else.
//!
//! Sources: Microsoft's pages on SMTP AUTH and on errors 5.7.x in Exchange Online and on authentication of Azure
//! Communication Services, Google's "SMTP error reference", RFC 4954 §6, RFC 5248, and what administrators report.

use super::reply::Refusal;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// It passes; not before so many minutes.
    Transient(u64),
    /// The password or token is not accepted.
    Credential,
    /// An administrator must act at the provider.
    Administrator,
    /// Our configuration must be changed.
    Configuration,
    /// This message is not wanted; others may be.
    Message,
}

/// Which credential a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum With {
    /// Any, or none.
    Any,
    /// A token.
    Token,
    /// A password.
    Password,
}

/// One meaning.
#[derive(Debug)]
pub(super) struct Entry {
    /// The code; 0 for any.
    code: u16,
    /// The enhanced code.
    enhanced: &'static str,
    /// The credential that was used.
    with: With,
    /// Words of the server in lower case; empty for any.
    words: &'static str,
    /// Whose turn it is.
    pub(super) class: Class,
    /// What to do; `{user}` stands for the user name, `{authorize}` for the command that signs in.
    pub(super) advice: &'static str,
}

/// The code, the enhanced code, the credential, the server's words.
type Key = (u16, &'static str, With, &'static str);

const fn row((code, enhanced, with, words): Key, class: Class, advice: &'static str) -> Entry {
    Entry {
        code,
        enhanced,
        with,
        words,
        class,
        advice,
    }
}

/// The meaning of a refusal, most specific first.
pub(super) fn find(refusal: &Refusal, with: With) -> Option<&'static Entry> {
    let words = refusal.text.to_lowercase();
    let enhanced = refusal.enhanced.as_deref().unwrap_or_default();
    ENTRIES.iter().find(|entry| {
        (entry.code == 0 || entry.code == refusal.code)
            && entry.enhanced == enhanced
            && (entry.with == With::Any || entry.with == with)
            && words.contains(entry.words)
    })
}

/// Of a 535 of Azure Communication Services, which looks the same whatever is wrong.
pub(super) const AZURE_SIGN_IN: &str = "Azure Communication Services: assign the Entra application a role on the Communication Services resource with \
     Microsoft.Communication/CommunicationServices Read and Write and Microsoft.Communication/EmailServices Write \
     (such as Communication and Email Service Owner); check that username is RESOURCE.APPLICATION-ID.TENANT-ID; the \
     client secret may have expired: create one at Entra > App registrations > Certificates & secrets and put its \
     Value into password. From must be of a domain that is linked to the resource";

/// Of a sender that Azure Communication Services does not take.
pub(super) const AZURE_SENDER: &str = "Azure Communication Services: set from to an address of a domain that is linked to the Communication Services \
     resource, whose MailFrom address it lists (resource > Email > Domains)";

const SEND_AS: &str = "Let {user} send as the address in From: Exchange PowerShell `Add-RecipientPermission -Identity FROM -Trustee {user} \
     -AccessRights SendAs` (an application: its service principal as trustee), or set from to {user}";
const ENTRIES: &[Entry] = &[
    // Exchange Online, signing in. The switch holds for OAuth as well.
    row(
        (535, "5.7.139", With::Any, "disabled for the tenant"),
        Class::Administrator,
        "Exchange PowerShell: `Set-CASMailbox -Identity {user} -SmtpClientAuthenticationDisabled $false` for this mailbox, or \
         `Set-TransportConfig -SmtpClientAuthenticationDisabled $false` for all; security defaults must allow it. It can take an hour",
    ),
    row(
        (535, "5.7.139", With::Any, "smtpclientauthentication"),
        Class::Administrator,
        "Exchange PowerShell: `Set-CASMailbox -Identity {user} -SmtpClientAuthenticationDisabled $false`; it can take an hour",
    ),
    row(
        (535, "5.7.139", With::Any, "security defaults"),
        Class::Administrator,
        "Security defaults of the tenant refuse passwords: set up an [[integration]] with provider = \"microsoft\"",
    ),
    row(
        (535, "5.7.139", With::Password, ""),
        Class::Administrator,
        "Check username and password, and whether Conditional Access or the authentication policy lets {user} use SMTP AUTH \
         (`Set-CASMailbox -Identity {user} -SmtpClientAuthenticationDisabled $false`); better, set up an [[integration]] with \
         provider = \"microsoft\"",
    ),
    row(
        (535, "5.7.139", With::Any, ""),
        Class::Administrator,
        "Have an administrator look at the sign-in logs of {user} in Entra (Conditional Access, a locked account), and run \
         `Set-CASMailbox -Identity {user} -SmtpClientAuthenticationDisabled $false` if SMTP AUTH is off",
    ),
    row(
        (535, "5.7.3", With::Token, ""),
        Class::Credential,
        "Check that {user} is the primary address of a mailbox and no alias, and that the token is for SMTP: scope SMTP.Send, of an \
         application SMTP.SendAsApp with FullAccess to the mailbox. Then sign in again: {authorize}",
    ),
    row(
        (535, "5.7.3", With::Password, ""),
        Class::Credential,
        "Put the right password into the secret file and `systemctl reload mailintake`; Exchange Online takes no passwords \
         where SMTP AUTH is off: set up an [[integration]] with provider = \"microsoft\"",
    ),
    row(
        (430, "4.2.0", With::Any, ""),
        Class::Administrator,
        "The application cannot open the mailbox, which does not pass by itself: Exchange PowerShell `Add-MailboxPermission -Identity \
         {user} -User SERVICE-PRINCIPAL-OBJECT-ID -AccessRights FullAccess`",
    ),
    row(
        (501, "5.5.127", With::Any, ""),
        Class::Transient(0),
        "Nothing is to be done: this server wants a token that lasts ten minutes more, and gets a new one",
    ),
    row(
        (0, "5.7.30", With::Any, ""),
        Class::Configuration,
        "Exchange Online takes no passwords any more: set up an [[integration]] with provider = \"microsoft\"",
    ),
    row(
        (0, "5.7.57", With::Any, ""),
        Class::Configuration,
        "This server takes mail from clients that sign in only: set password or integration of the smtp server",
    ),
    // Exchange Online, sending.
    row((0, "5.2.252", With::Any, ""), Class::Administrator, SEND_AS),
    row((0, "5.7.60", With::Any, ""), Class::Administrator, SEND_AS),
    row(
        (0, "5.1.8", With::Any, ""),
        Class::Administrator,
        "Exchange Online holds {user} for a sender of spam: unblock it at https://security.microsoft.com/restrictedentities",
    ),
    row(
        (0, "5.1.90", With::Any, ""),
        Class::Transient(60),
        "The mailbox has sent to as many recipients as it may in a day; it is tried again by itself",
    ),
    row(
        (432, "4.3.2", With::Any, ""),
        Class::Transient(1),
        "Nothing is to be done: too many connections at once, it is tried again by itself",
    ),
    // Google.
    row(
        (535, "5.7.8", With::Token, ""),
        Class::Credential,
        "Check that {user} is the account that signed in and that it may use SMTP, then sign in again: {authorize}",
    ),
    row(
        (535, "5.7.8", With::Password, ""),
        Class::Credential,
        "Put the right password into the secret file and `systemctl reload mailintake`; Google takes app passwords only: make one, \
         or set up an [[integration]] with provider = \"google\"",
    ),
    row(
        (534, "5.7.9", With::Any, ""),
        Class::Credential,
        "Make an app password in the Google account and use it as password, or set up an [[integration]] with provider = \"google\"",
    ),
    row(
        (534, "5.7.14", With::Any, ""),
        Class::Credential,
        "Google holds the sign-in back: sign in as {user} once in a browser and confirm that it was you",
    ),
    row(
        (550, "5.4.5", With::Any, ""),
        Class::Transient(60),
        "The account has sent as much as Google allows in a day; it is tried again by itself",
    ),
    // Everybody (RFC 4954 §6, RFC 5248 §2.4).
    row(
        (530, "5.7.0", With::Any, ""),
        Class::Configuration,
        "This server takes mail from clients that sign in only: set password or integration of the smtp server",
    ),
    row(
        (525, "5.7.13", With::Any, ""),
        Class::Administrator,
        "The account {user} is disabled: have it enabled at the provider",
    ),
    row(
        (0, "5.3.4", With::Any, ""),
        Class::Message,
        "The message is larger than the server takes; it is not sent",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_never_choose_the_class() {
        for entry in ENTRIES {
            for other in ENTRIES {
                let is_same = entry.code == other.code && entry.enhanced == other.enhanced;
                assert!(!is_same || entry.class == other.class, "{entry:?} and {other:?}");
            }
        }
    }

    #[test]
    fn each_row_can_be_found() {
        for (index, entry) in ENTRIES.iter().enumerate() {
            let refusal = Refusal {
                code: entry.code.max(400),
                enhanced: Some(entry.enhanced.into()),
                text: entry.words.to_uppercase(),
            };
            let found = find(&refusal, entry.with).unwrap();
            assert!(
                std::ptr::eq(found, &raw const ENTRIES[index]),
                "{entry:?} is hidden by {found:?}"
            );
            assert!(entry.advice.chars().next().unwrap().is_uppercase(), "{entry:?}");
            assert!(!entry.advice.contains("  "), "{entry:?}");
        }
    }
}
