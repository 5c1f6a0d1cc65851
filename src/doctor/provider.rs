//! The steps at a provider: its endpoints, whether it answers, its clock, and a token with what it says of itself.
//! A token that is good is not renewed for a test.

use secrecy::{ExposeSecret, SecretString};

use super::claims::{Claims, Service};
use super::step::problem;
use super::{Checked, Doctor, clock, database, google, reach};
use crate::broker::{Broker, DirectoryError, TokenError};
use crate::grant::{EndpointSource, Endpoints, GrantRef, Integration, Problem};
use crate::oauth::failure::{Class, TokenFailure};

/// A token to sign in with, and what is known of it.
pub(super) struct Token {
    pub(super) secret: SecretString,
    pub(super) generation: i64,
    pub(super) claims: Option<Claims>,
    /// What is odd about the claims.
    pub(super) findings: Vec<String>,
}

impl Doctor {
    /// The steps at the provider, and a token; `None` if one of them failed.
    pub(super) async fn token_for(
        &self,
        grant: &GrantRef,
        service: Service,
        steps: &mut Vec<Checked>,
    ) -> Option<Token> {
        steps.extend(self.provider_once(&grant.integration).await);
        if steps.iter().any(|step| step.found.is_err()) {
            return None;
        }
        self.token(grant, service, steps).await
    }

    /// The steps at a provider, which is asked once in a run. What went well is said once; what failed is said again,
    /// since it is why the next one fails, too.
    pub(super) async fn provider_once(&self, integration: &Integration) -> Vec<Checked> {
        let mut asked = self.asked.lock().await;
        if let Some(known) = asked.get(&integration.name) {
            let has_failed = known.iter().any(|step| step.found.is_err());
            return if has_failed { known.clone() } else { Vec::new() };
        }
        let steps = self.provider(integration).await;
        asked.insert(integration.name.clone(), steps.clone());
        steps
    }

    async fn provider(&self, integration: &Integration) -> Vec<Checked> {
        let Some((broker, _)) = &self.tokens else {
            return Vec::new();
        };
        let step = match integration.endpoints {
            EndpointSource::Issuer(_) => "discovery",
            EndpointSource::Fixed(_) => "endpoints",
        };
        broker.directory().try_now();
        let endpoints = match broker.directory().endpoints(integration).await {
            Ok(endpoints) => endpoints,
            Err(DirectoryError::Store(error)) => return vec![Checked::failed(step, database(&error))],
            Err(DirectoryError::Provider(failure)) => {
                let EndpointSource::Issuer(issuer) = &integration.endpoints else {
                    return vec![Checked::failed(step, told(&failure, integration))];
                };
                return self.unreached(issuer, &failure, (step, integration)).await;
            }
        };
        let mut steps = vec![Checked::ok(step, format!("tokens come from {}", endpoints.token))];
        steps.extend(self.ask(integration, &endpoints).await);
        steps
    }

    /// Whether the token endpoint answers at all, and what time it is there. A GET gets no token.
    async fn ask(&self, integration: &Integration, endpoints: &Endpoints) -> Vec<Checked> {
        let exchange = self.http.exchange(integration.ca_file.as_deref());
        match exchange.get(&endpoints.token).await {
            Ok(answer) => {
                let host = reach::host_of(&endpoints.token);
                let text = if endpoints.token.starts_with("https:") {
                    format!("{host} answers, its certificate is good")
                } else {
                    format!("{host} answers, without TLS")
                };
                vec![
                    Checked::ok("provider", text),
                    clock::step(self.clock.now(), answer.date),
                ]
            }
            Err(failure) => {
                self.unreached(&endpoints.token, &failure, ("provider", integration))
                    .await
            }
        }
    }

    /// How far one comes towards an address that gave no proper answer.
    async fn unreached(
        &self,
        address: &str,
        failure: &TokenFailure,
        (step, integration): (&'static str, &Integration),
    ) -> Vec<Checked> {
        let problem = told(failure, integration);
        if failure.class != Class::Transient {
            return vec![Checked::failed(step, problem)];
        }
        reach::towards(address, (step, problem), self.clock.now()).await
    }

    /// A token of a grant: the saved one if it is good.
    pub(super) async fn token(&self, grant: &GrantRef, service: Service, steps: &mut Vec<Checked>) -> Option<Token> {
        let (broker, _) = self.tokens.as_ref()?;
        match obtain(broker, grant).await {
            Ok((secret, generation, until)) => {
                steps.push(Checked::ok(
                    "token",
                    format!("an access token for {} until {until}", grant.login),
                ));
                let claims = Claims::of(secret.expose_secret());
                let findings = claims
                    .as_ref()
                    .map(|claims| claims.findings(&grant.integration, &grant.login, service, self.clock.now()))
                    .unwrap_or_default();
                steps.push(hint(claims.as_ref(), &findings));
                Some(Token {
                    secret,
                    generation,
                    claims,
                    findings,
                })
            }
            Err(error) => {
                let notes = match &error {
                    TokenError::Refused { .. } => google::delegation(&grant.integration),
                    TokenError::Store(_) | TokenError::Seal(_) | TokenError::Rotated | TokenError::Stopped => {
                        Vec::new()
                    }
                };
                steps.push(Checked::failed("token", error.problem()).with(notes));
                None
            }
        }
    }

    /// Puts a newer token in the place of one that a server refused; `false` where that is not to blame.
    pub(super) async fn renewed(&self, grant: &GrantRef, token: &mut Option<Token>, steps: &mut Vec<Checked>) -> bool {
        let Some(old) = token.as_ref() else { return false };
        let Some(newer) = self.newer(grant, old).await else {
            return false;
        };
        steps.push(Checked::ok(
            "token",
            "the server refused the saved token; here is a new one",
        ));
        *token = Some(newer);
        true
    }

    async fn newer(&self, grant: &GrantRef, token: &Token) -> Option<Token> {
        let (broker, _) = self.tokens.as_ref()?;
        let is_stale = broker.reject(grant, token.generation).await.ok()?;
        if !is_stale {
            return None;
        }
        let (secret, generation, _) = obtain(broker, grant).await.ok()?;
        Some(Token {
            claims: Claims::of(secret.expose_secret()),
            findings: token.findings.clone(),
            secret,
            generation,
        })
    }
}

async fn obtain(broker: &Broker, grant: &GrantRef) -> Result<(SecretString, i64, String), TokenError> {
    // Whoever tests has mended something: no waiting for the next try.
    broker.try_now(std::slice::from_ref(grant)).await?;
    let token = broker.access_token(grant).await?;
    Ok((token.secret, token.generation, token.expires_at.rfc3339()))
}

/// What a token says of itself. It never fails a test: only the server knows whether it takes the token.
fn hint(claims: Option<&Claims>, findings: &[String]) -> Checked {
    let text = match claims {
        Some(claims) => format!("{} (a hint, not verified)", claims.line()),
        None => "the token is opaque: it says nothing of itself, as is its right".to_owned(),
    };
    Checked::ok("claims", text).with(findings.iter().map(|finding| format!("hint: {finding}")))
}

fn told(failure: &TokenFailure, integration: &Integration) -> Problem {
    let command = format!("mailintake authorize {}", integration.name);
    problem(
        &failure.problem.code,
        failure.problem.summary.clone(),
        failure.problem.remedy.replace("{authorize}", &command),
    )
}
