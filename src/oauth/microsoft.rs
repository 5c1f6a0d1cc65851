//! What Microsoft's AADSTS codes mean and what mends them: one table, data only.
//! It never decides alone: `failure` looks rows up.
//!
//! Source: Microsoft Entra's list of AADSTS codes
//! (<https://learn.microsoft.com/entra/identity-platform/reference-error-codes>) and what administrators report.

use super::catalogue::{Entry, Matcher, REPORT, SIGN_IN, WAIT, row};
use super::failure::Class::{self, Admin, Bug, Configuration, Reauthorize, Transient};

const fn microsoft(codes: &'static [u32], class: Class, summary: &'static str, remedy: &'static str) -> Entry {
    row(Matcher::Aadsts(codes), class, summary, remedy)
}

/// The codes, by what they are about.
pub(super) const MICROSOFT: &[Entry] = &[
    // The client and its credentials.
    microsoft(
        &[7_000_215],
        Configuration,
        "the client secret is wrong; most often the Secret ID was copied instead of its Value",
        "Entra > App registrations > Certificates & secrets: create a client secret, put its Value into client_secret, then reload mailintake",
    ),
    microsoft(
        &[7_000_222],
        Admin,
        "the client secret has expired",
        "Entra > App registrations > Certificates & secrets: create a client secret, put its Value into client_secret, then reload mailintake; nobody has to sign in",
    ),
    microsoft(
        &[7_000_218],
        Configuration,
        "the application is confidential, but no secret or certificate was sent",
        "set client_secret or certificate in the integration, or allow public client flows at the app registration",
    ),
    microsoft(
        &[700_025],
        Configuration,
        "the application is public, but a secret was sent",
        "remove client_secret from the integration, or register the redirect URI under the platform Web",
    ),
    microsoft(
        &[700_027],
        Configuration,
        "the signature of the client assertion was not accepted: another key, a certificate that was not uploaded, or a wrong clock",
        "compare the certificate with Entra > App registrations > Certificates & secrets, and check the clock",
    ),
    microsoft(
        &[50_012, 700_030, 700_023, 700_024],
        Configuration,
        "the client assertion or its certificate was not accepted",
        "check the dates of the certificate, the clock and the tenant",
    ),
    microsoft(
        &[700_016, 700_011],
        Configuration,
        "there is no such application in this tenant",
        "check client_id and tenant of the integration; an application of another tenant needs the consent of this one",
    ),
    microsoft(
        &[7_000_112, 70_001],
        Admin,
        "the application is disabled or was deleted",
        "Entra > Enterprise applications > the application > Properties: enable it for users to sign in",
    ),
    microsoft(
        &[90_002],
        Configuration,
        "there is no such tenant",
        "check tenant of the integration, and whether the provider names the right national cloud",
    ),
    microsoft(
        &[90_023],
        Configuration,
        "the tenant is neither a domain nor an identifier",
        "set tenant of the integration to the tenant's domain or GUID",
    ),
    microsoft(
        &[90_038, 900_382, 900_432],
        Configuration,
        "the tenant is in another national cloud",
        "set provider to microsoft-gcc-high, microsoft-dod or microsoft-china as the tenant requires",
    ),
    microsoft(
        &[50_194],
        Configuration,
        "the application belongs to one tenant, but the tenant is set to common",
        "set tenant of the integration to the tenant's domain or GUID",
    ),
    microsoft(
        &[9_001_023, 90_124, 90_130],
        Configuration,
        "this flow is not possible with the tenant common or consumers",
        "set tenant of the integration to the tenant's domain or GUID",
    ),
    microsoft(
        &[9_002_332],
        Configuration,
        "the application is for organizations, but the tenant is set to consumers",
        "set tenant of the integration to the tenant's domain or GUID",
    ),
    // The grant has ended.
    microsoft(
        &[700_082],
        Reauthorize,
        "the sign-in was not used for 90 days and has ended",
        "sign in again: {authorize}; keep mailintake running, so that the sign-in stays in use",
    ),
    microsoft(
        &[70_008],
        Reauthorize,
        "the sign-in has expired or was revoked",
        SIGN_IN,
    ),
    microsoft(
        &[700_084],
        Reauthorize,
        "the redirect URI is registered for a single-page application, whose sign-ins end after 24 hours",
        "Entra > App registrations > Authentication: move the redirect URI to the platform Web, then sign in again: {authorize}",
    ),
    microsoft(
        &[70_043, 700_081],
        Reauthorize,
        "the tenant's sign-in frequency (Conditional Access) has ended the sign-in",
        "sign in again: {authorize}; ask the administrator to exempt this account, or use the flow client-credentials",
    ),
    microsoft(
        &[70_000],
        Reauthorize,
        "the sign-in is no longer valid, for example after the user name has changed",
        SIGN_IN,
    ),
    microsoft(
        &[50_173],
        Reauthorize,
        "the sign-in was revoked: the password was changed or all sessions were ended",
        SIGN_IN,
    ),
    microsoft(
        &[50_132, 50_133],
        Reauthorize,
        "the sign-in has ended with a change or the expiry of the password",
        SIGN_IN,
    ),
    microsoft(
        &[50_089],
        Reauthorize,
        "the sign-in took too long",
        "sign in again without a pause: {authorize}",
    ),
    microsoft(&[54_005], Bug, "the authorization code was redeemed twice", REPORT),
    microsoft(
        &[700_005],
        Configuration,
        "the authorization code came from another tenant",
        "use the same tenant for authorization and token endpoint",
    ),
    microsoft(
        &[501_481],
        Bug,
        "the PKCE verifier does not fit the authorization code",
        REPORT,
    ),
    microsoft(
        &[50_076, 50_079, 50_074, 50_072, 50_078],
        Reauthorize,
        "a second factor is required",
        "sign in again with the second factor: {authorize}; an administrator can exempt the account",
    ),
    // What an administrator has decided.
    microsoft(
        &[53_000, 53_001, 53_002, 530_002, 530_003, 50_097, 50_005],
        Admin,
        "Conditional Access requires a managed device, which a server is not",
        "exempt the application or the account in Conditional Access, or use the flow client-credentials",
    ),
    microsoft(
        &[53_003],
        Admin,
        "blocked by Conditional Access",
        "Entra > Sign-in logs names the policy: allow this server's address as a named location, or exempt the account",
    ),
    microsoft(
        &[530_032, 530_035],
        Admin,
        "blocked by a security policy of the tenant",
        "exempt the account or the application from the policy or the security defaults",
    ),
    microsoft(
        &[53_011, 53_004],
        Admin,
        "blocked because the account is considered at risk",
        "Entra > Identity Protection > Risky users: confirm the account as safe, then sign in again: {authorize}",
    ),
    microsoft(
        &[65_001],
        Reauthorize,
        "the user or an administrator has not consented to these scopes",
        "sign in again and consent: {authorize}; where users may not consent, an administrator grants consent at Entra > Enterprise applications > Permissions",
    ),
    microsoft(
        &[65_004],
        Reauthorize,
        "the consent was declined",
        "sign in again and consent: {authorize}",
    ),
    microsoft(
        &[90_094, 90_095],
        Admin,
        "the consent of an administrator is required or requested",
        "Entra > Enterprise applications > the application > Permissions: grant admin consent, then sign in again: {authorize}",
    ),
    microsoft(
        &[650_052, 650_056, 650_057],
        Admin,
        "the application lacks an API permission",
        "Entra > App registrations > API permissions: add those of Office 365 Exchange Online and grant admin consent",
    ),
    microsoft(
        &[50_105],
        Admin,
        "the user is not assigned to the application",
        "Entra > Enterprise applications > the application > Users and groups: assign the user",
    ),
    microsoft(
        &[500_011],
        Configuration,
        "the resource of the scope is not in this tenant: a wrong host in the scope, or no Exchange Online",
        "check scopes and provider of the integration, and that the tenant has Exchange Online",
    ),
    microsoft(
        &[50_001, 70_011, 28_002, 28_003],
        Configuration,
        "a scope is not valid",
        "check scopes of the integration",
    ),
    microsoft(
        &[700_022, 28_000],
        Configuration,
        "the scopes belong to more than one resource",
        "keep only the scopes of Outlook in the integration; those of Microsoft Graph cannot be mixed in",
    ),
    microsoft(
        &[900_144],
        Configuration,
        "the request lacks a parameter, such as scope",
        "check scopes of the integration",
    ),
    microsoft(&[9_002_313, 90_014], Bug, "the request is malformed", REPORT),
    microsoft(
        &[50_011],
        Configuration,
        "the redirect URI is not registered exactly like this",
        "copy the redirect URI that `mailintake check` prints to Entra > App registrations > Authentication > Web",
    ),
    microsoft(
        &[50_126, 50_055],
        Reauthorize,
        "the password is wrong or has expired",
        SIGN_IN,
    ),
    microsoft(
        &[50_034, 50_020],
        Reauthorize,
        "the account does not exist in this tenant",
        "check login and tenant in the configuration, then sign in with that account: {authorize}",
    ),
    microsoft(
        &[50_057, 50_053],
        Admin,
        "the account is disabled or locked, or this server's address is blocked",
        "enable or unlock the account in Entra, then sign in again: {authorize}",
    ),
    microsoft(
        &[5_000_225],
        Admin,
        "the tenant is blocked for inactivity and will be deleted in about 20 days",
        "contact Microsoft at once",
    ),
    microsoft(
        &[50_002, 500_021, 500_022, 500_212, 500_213],
        Admin,
        "tenant restrictions or a cross-tenant policy forbid the access",
        "allow the tenant in the restrictions, or use an account of this one",
    ),
    // The service, and our rate.
    microsoft(
        &[50_196],
        Bug,
        "too many identical requests",
        "stop other programs that use this client; mailintake tries again after 15 minutes",
    ),
    microsoft(
        &[
            90_006, 90_012, 90_024, 90_033, 50_033, 50_087, 80_001, 80_002, 70_012, 90_055,
        ],
        Transient,
        "Microsoft's sign-in service has a fault or is throttled",
        WAIT,
    ),
];
