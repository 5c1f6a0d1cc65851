//! Pairs of settings that cannot work at a provider: `check` refuses each with its reason, and lets what works pass.

use crate::support::binary::Program;

/// A configuration with this integration, whose mailbox has this address.
fn check(daemon: &str, integration: &str, address: &str) -> (Option<i32>, String) {
    let program = Program::bare();
    let secret = program.secret("secret", "x");
    let key = program.secret(
        "key.json",
        r#"{"client_email": "x@y", "client_id": "1", "private_key": "k"}"#,
    );
    let integration = integration.replace("SECRET", &secret).replace("KEY", &key);
    program.configure(
        daemon,
        &format!(
            "[[integration]]\nname = \"idp\"\nclient_id = \"c\"\n{integration}\n\
             [[mailbox]]\naddress = \"{address}\"\nintegration = \"idp\"\nhost = \"imap.example.org\"\n"
        ),
    );
    let done = program.run(&["check"]);
    (done.code, done.stderr + &done.stdout)
}

const MICROSOFT: &str = "provider = \"microsoft\"\ntenant = \"t.example\"\nflow = \"authorization-code\"\n";
const APPLICATION: &str = "provider = \"microsoft\"\nflow = \"client-credentials\"\nclient_secret = SECRET\n";
const GOOGLE: &str = "provider = \"google\"\nflow = \"authorization-code\"\nclient_secret = SECRET\n";
const ANN: &str = "ann@example.org";

#[test]
fn what_cannot_work_is_refused_with_its_reason() {
    let long = format!("public_url = \"https://intake.example.org/{}\"", "a".repeat(240));
    for (daemon, integration, address, reason) in [
        (
            "",
            "provider = \"google\"\nflow = \"device-code\"",
            ANN,
            "its device flow refuses the mail scope",
        ),
        (
            "public_url = \"https://intake.lan\"",
            GOOGLE,
            ANN,
            "redirects to public host names only",
        ),
        (
            "public_url = \"https://203.0.113.7\"",
            GOOGLE,
            ANN,
            "redirects to public host names only",
        ),
        (
            "",
            &format!("{APPLICATION}tenant = \"common\""),
            ANN,
            "names no single directory",
        ),
        (
            "",
            &format!("{APPLICATION}tenant = \"Organizations\""),
            ANN,
            "names no single directory",
        ),
        (
            "",
            &format!("{APPLICATION}tenant = \"consumers\""),
            ANN,
            "names no single directory",
        ),
        (
            "",
            &format!("{APPLICATION}tenant = \"t.example\"\nscopes = [\"https://graph.microsoft.com/.default\"]"),
            ANN,
            "a token of Microsoft Graph",
        ),
        (
            "",
            &format!("{MICROSOFT}scopes = [\"https://outlook.office.com/IMAP.AccessAsUser.All\"]"),
            ANN,
            "lacks offline_access",
        ),
        (
            "",
            &format!("{MICROSOFT}scopes = [\"IMAP.AccessAsUser.All\", \"offline_access\"]"),
            ANN,
            "a token of Microsoft Graph",
        ),
        (
            "",
            &format!(
                "{MICROSOFT}scopes = [\"https://outlook.office.com/IMAP.AccessAsUser.All\", \"https://outlook.office365.com/SMTP.Send\", \"offline_access\"]"
            ),
            ANN,
            "names several resources",
        ),
        (&long, MICROSOFT, ANN, "Microsoft takes 256"),
        (
            "public_url = \"http://intake.example.org\"",
            MICROSOFT,
            ANN,
            "public_url",
        ),
        (
            "",
            &format!("{MICROSOFT}token_endpoint = \"http://login.example.org/token\""),
            ANN,
            "must begin with https://",
        ),
        (
            "",
            "provider = \"custom\"\nflow = \"client-credentials\"\nclient_secret = SECRET\nissuer = \"http://idp.example.org\"",
            ANN,
            "must begin with https://",
        ),
        (
            "",
            &format!("{GOOGLE}scopes = [\"https://www.googleapis.com/auth/gmail.readonly\"]"),
            ANN,
            "the one scope that Google's mail servers take",
        ),
        (
            "",
            "provider = \"google\"\nflow = \"service-account\"\nservice_account = KEY",
            "ann@gmail.com",
            "never gmail.com",
        ),
    ] {
        let (code, said) = check(daemon, integration, address);
        assert_eq!(code, Some(78), "{integration}: {said}");
        assert!(said.contains(reason), "{reason}: {said}");
    }
}

#[test]
fn what_works_passes() {
    for (daemon, integration, address, words) in [
        (
            "listen = \"127.0.0.1:8425\"\npublic_url = \"http://127.0.0.1:8425\"",
            GOOGLE,
            ANN,
            "Web application, with the redirect URIs named here",
        ),
        ("", GOOGLE, "ann@gmail.com", "Desktop app"),
        (
            "listen = \"127.0.0.1:8425\"\npublic_url = \"http://127.0.0.1:8425\"",
            MICROSOFT,
            ANN,
            "http://localhost:8425/oauth/callback/idp",
        ),
        (
            "",
            &format!(
                "{MICROSOFT}scopes = [\"https://outlook.office.com/IMAP.AccessAsUser.All\", \"openid\", \"offline_access\"]"
            ),
            ANN,
            "http://localhost:PORT/oauth/callback/idp",
        ),
        (
            "",
            &format!("{APPLICATION}tenant = \"t.example\""),
            ANN,
            "Office 365 Exchange Online > Application permissions: IMAP.AccessAsApp; then Grant admin consent",
        ),
        (
            "",
            "provider = \"google\"\nflow = \"service-account\"\nservice_account = KEY\nscopes = [\"https://www.googleapis.com/auth/gmail.imap_admin\"]",
            ANN,
            "Domain-wide delegation",
        ),
        (
            "",
            "provider = \"fastmail\"\nflow = \"authorization-code\"",
            ANN,
            "https://www.fastmail.com/dev/",
        ),
    ] {
        let (code, said) = check(daemon, integration, address);
        assert_eq!(code, Some(0), "{integration}: {said}");
        assert!(said.contains(words), "{words}: {said}");
    }
}
