//! The provider's endpoints: discovery, sign-in address, token requests and what proves a client, revocation, errors.
//! It never stores anything, never tries twice by itself, and never prints what a provider answered unless it is an error code.

pub mod assertion;
pub mod authorization;
pub mod catalogue;
pub mod client;
pub mod device;
pub mod discovery;
pub mod failure;
mod form;
pub mod http;
mod microsoft;
pub mod revocation;
pub mod service_account;
pub mod token;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::grant::{AssertionAlgorithm, ClientAuthentication, EndpointSource, Flow, Integration, Provider};

    /// An integration that signs a person in.
    pub(super) fn integration(provider: Provider) -> Integration {
        Integration {
            name: "idp".into(),
            description: None,
            provider,
            tenant: None,
            flow: Flow::AuthorizationCode,
            client_id: "client".into(),
            client_authentication: ClientAuthentication::Post,
            client_secret: None,
            next_client_secret: None,
            client_secret_expires: None,
            certificate: None,
            next_certificate: None,
            service_account: None,
            publishing_status: None,
            endpoints: EndpointSource::Issuer("https://idp.example.org".into()),
            scopes: Vec::new(),
            authorization_parameters: BTreeMap::new(),
            assertion_algorithm: AssertionAlgorithm::Ps256,
            ca_file: None,
        }
    }
}
