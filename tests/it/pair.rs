//! Pairs of settings that cannot work at a provider: `check` refuses each with its reason, and lets what works pass.

use crate::support::binary::Program;
use crate::support::signer::Signer;

/// Settings of `[daemon]`, a beginning of the integration and its rest, the mailbox's address, and what `check` says.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str);

/// A configuration with this integration, whose mailbox has this address; what `check` makes of it.
fn check((daemon, beginning, rest, address, _): &Case) -> (Option<i32>, String) {
    let program = Program::bare();
    let secret = program.secret("secret", "x");
    let mut integration = format!("{beginning}{rest}").replace("SECRET", &secret);
    if integration.contains("KEY") {
        let key = Signer::rsa().service_account("https://oauth2.googleapis.com/token");
        integration = integration.replace("KEY", &program.secret("key.json", &key));
    } else {
        integration.insert_str(0, "client_id = \"c\"\n");
    }
    program.configure(
        &daemon.replace("LONG", &"a".repeat(240)),
        &format!(
            "[[integration]]\nname = \"idp\"\n{integration}\n\
             [[mailbox]]\naddress = \"{address}\"\nintegration = \"idp\"\nhost = \"imap.example.org\"\n"
        ),
    );
    let done = program.run(&["check"]);
    (done.code, done.stderr + &done.stdout)
}

const MICROSOFT: &str = "provider = \"microsoft\"\ntenant = \"t.example\"\nflow = \"authorization-code\"\n";
const APPLICATION: &str = "provider = \"microsoft\"\nflow = \"client-credentials\"\nclient_secret = SECRET\n";
const GOOGLE: &str = "provider = \"google\"\nflow = \"authorization-code\"\nclient_secret = SECRET\n";
const ACCOUNT: &str = "provider = \"google\"\nflow = \"service-account\"\nservice_account = KEY\n";
const CUSTOM: &str = "provider = \"custom\"\nflow = \"client-credentials\"\nclient_secret = SECRET\n";
const ANN: &str = "ann@example.org";
const LOCAL: &str = "listen = \"127.0.0.1:8425\"\npublic_url = \"http://127.0.0.1:8425\"";

const REFUSED: [Case; 16] = [
    (
        "",
        "provider = \"google\"\n",
        "flow = \"device-code\"",
        ANN,
        "its device flow refuses the mail scope",
    ),
    (
        "public_url = \"https://intake.lan\"",
        GOOGLE,
        "",
        ANN,
        "redirects to public host names only",
    ),
    (
        "public_url = \"https://203.0.113.7\"",
        GOOGLE,
        "",
        ANN,
        "redirects to public host names only",
    ),
    ("", APPLICATION, "tenant = \"common\"", ANN, "names no single directory"),
    (
        "",
        APPLICATION,
        "tenant = \"Organizations\"",
        ANN,
        "names no single directory",
    ),
    (
        "",
        APPLICATION,
        "tenant = \"consumers\"",
        ANN,
        "names no single directory",
    ),
    (
        "",
        APPLICATION,
        "tenant = \"t.example\"\nscopes = [\"https://graph.microsoft.com/.default\"]",
        ANN,
        "a token of Microsoft Graph",
    ),
    (
        "",
        MICROSOFT,
        "scopes = [\"https://outlook.office.com/IMAP.AccessAsUser.All\"]",
        ANN,
        "lacks offline_access",
    ),
    (
        "",
        MICROSOFT,
        "scopes = [\"IMAP.AccessAsUser.All\", \"offline_access\"]",
        ANN,
        "a token of Microsoft Graph",
    ),
    (
        "",
        MICROSOFT,
        "scopes = [\"https://outlook.office.com/IMAP.AccessAsUser.All\", \"https://outlook.office365.com/SMTP.Send\", \"offline_access\"]",
        ANN,
        "names several resources",
    ),
    (
        "public_url = \"https://intake.example.org/LONG\"",
        MICROSOFT,
        "",
        ANN,
        "Microsoft takes 256",
    ),
    (
        "public_url = \"http://intake.example.org\"",
        MICROSOFT,
        "",
        ANN,
        "public_url",
    ),
    (
        "",
        MICROSOFT,
        "token_endpoint = \"http://login.example.org/token\"",
        ANN,
        "must begin with https://",
    ),
    (
        "",
        CUSTOM,
        "issuer = \"http://idp.example.org\"",
        ANN,
        "must begin with https://",
    ),
    (
        "",
        GOOGLE,
        "scopes = [\"https://www.googleapis.com/auth/gmail.readonly\"]",
        ANN,
        "the one scope that Google's mail servers take",
    ),
    ("", ACCOUNT, "", "ann@gmail.com", "never gmail.com"),
];

const ACCEPTED: [Case; 7] = [
    (
        LOCAL,
        GOOGLE,
        "",
        ANN,
        "Web application, with the redirect URIs named here",
    ),
    ("", GOOGLE, "", "ann@gmail.com", "Desktop app"),
    (LOCAL, MICROSOFT, "", ANN, "http://localhost:8425/oauth/callback/idp"),
    (
        "",
        MICROSOFT,
        "scopes = [\"https://outlook.office.com/IMAP.AccessAsUser.All\", \"openid\", \"offline_access\"]",
        ANN,
        "http://localhost:PORT/oauth/callback/idp",
    ),
    (
        "",
        APPLICATION,
        "tenant = \"t.example\"",
        ANN,
        "Office 365 Exchange Online > Application permissions: IMAP.AccessAsApp; then Grant admin consent",
    ),
    (
        "",
        ACCOUNT,
        "scopes = [\"https://www.googleapis.com/auth/gmail.imap_admin\"]",
        ANN,
        "Domain-wide delegation",
    ),
    (
        "",
        "provider = \"fastmail\"\n",
        "flow = \"authorization-code\"",
        ANN,
        "https://www.fastmail.com/dev/",
    ),
];

#[test]
fn what_cannot_work_is_refused_with_its_reason_and_what_works_passes() {
    for (cases, expected) in [(&REFUSED[..], 78), (&ACCEPTED[..], 0)] {
        for case in cases {
            let (code, said) = check(case);
            assert_eq!(code, Some(expected), "{case:?}: {said}");
            assert!(said.contains(case.4), "{case:?}: {said}");
        }
    }
}
