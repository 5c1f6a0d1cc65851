//! Whom we trust: the system's root certificates and the `ca_file`s, parsed once.
//! It never opens a connection, and there is no switch that accepts any certificate.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use native_tls::{Certificate, Protocol, TlsConnectorBuilder};

/// Where Linux distributions keep the roots as one file, in order of preference.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The certificates that connections are checked against.
///
/// A connector with the built-in roots parses the whole bundle at each connect and keeps 876 KB;
/// with these roots handed over it keeps 39 KB.
///
/// The default trusts nobody.
#[derive(Clone, Default)]
pub struct Trust {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    system: Vec<Certificate>,
    /// The certificates of each `ca_file`, also as DER for other TLS clients.
    files: HashMap<PathBuf, Vec<(Certificate, Vec<u8>)>>,
    /// The `ca_file` that is trusted for every connection.
    everywhere: Option<PathBuf>,
}

/// Why a `ca_file` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file is not there or cannot be read.
    #[error("cannot read the CA file {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It holds no certificate in PEM form, or a broken one.
    #[error("no usable PEM certificate in the CA file {path}")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Trust").finish_non_exhaustive()
    }
}

/// Whether a `ca_file` can be used, without keeping it.
///
/// # Errors
/// Any [`TrustError`].
pub fn check_ca_file(path: &Path) -> Result<(), TrustError> {
    read_ca_file(path).map(drop)
}

impl Trust {
    /// Reads the system's roots and the given files. `everywhere` is the daemon's own `ca_file`.
    ///
    /// # Errors
    /// Any [`TrustError`], of the first file that cannot be used.
    pub fn load<'p>(
        everywhere: Option<&'p Path>,
        files: impl IntoIterator<Item = &'p Path>,
    ) -> Result<Self, TrustError> {
        let mut loaded = HashMap::new();
        for path in everywhere.into_iter().chain(files) {
            if !loaded.contains_key(path) {
                loaded.insert(path.to_owned(), read_ca_file(path)?);
            }
        }
        Ok(Self {
            inner: Arc::new(Inner {
                system: system_roots(),
                files: loaded,
                everywhere: everywhere.map(Path::to_owned),
            }),
        })
    }

    /// A builder that trusts the system's roots, the daemon's `ca_file` and this one, for TLS 1.2 or newer.
    pub fn connector(&self, ca_file: Option<&Path>) -> TlsConnectorBuilder {
        let mut builder = native_tls::TlsConnector::builder();
        builder
            .disable_built_in_roots(true)
            .min_protocol_version(Some(Protocol::Tlsv12));
        for certificate in &self.inner.system {
            builder.add_root_certificate(certificate.clone());
        }
        for (certificate, _) in self.extra(ca_file) {
            builder.add_root_certificate(certificate.clone());
        }
        builder
    }

    /// The private roots for a connection as DER: of the daemon's `ca_file` and of this one.
    pub fn extra_der(&self, ca_file: Option<&Path>) -> Vec<Vec<u8>> {
        self.extra(ca_file).map(|(_, der)| der.clone()).collect()
    }

    fn extra<'t>(&'t self, ca_file: Option<&'t Path>) -> impl Iterator<Item = &'t (Certificate, Vec<u8>)> {
        let everywhere = self.inner.everywhere.as_deref();
        let own = ca_file.filter(|path| everywhere != Some(*path));
        everywhere
            .into_iter()
            .chain(own)
            .filter_map(|path| self.inner.files.get(path))
            .flatten()
    }
}

fn read_ca_file(path: &Path) -> Result<Vec<(Certificate, Vec<u8>)>, TrustError> {
    let pem = std::fs::read(path).map_err(|source| TrustError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let mut found = Vec::new();
    for block in pem_blocks(&pem) {
        let certificate =
            Certificate::from_pem(block).map_err(|_| TrustError::NoCertificate { path: path.to_owned() })?;
        let der = certificate
            .to_der()
            .map_err(|_| TrustError::NoCertificate { path: path.to_owned() })?;
        found.push((certificate, der));
    }
    if found.is_empty() {
        return Err(TrustError::NoCertificate { path: path.to_owned() });
    }
    Ok(found)
}

/// The system's roots; unreadable ones are left out, since distributions ship odd ones now and then.
fn system_roots() -> Vec<Certificate> {
    let bundle = std::env::var_os("SSL_CERT_FILE")
        .map(PathBuf::from)
        .into_iter()
        .chain(BUNDLES.iter().map(PathBuf::from))
        .find_map(|path| std::fs::read(path).ok());
    let pem = bundle.unwrap_or_else(|| hashed_directory(Path::new("/etc/ssl/certs")));
    pem_blocks(&pem)
        .filter_map(|block| Certificate::from_pem(block).ok())
        .collect()
}

fn hashed_directory(path: &Path) -> Vec<u8> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return Vec::new();
    };
    let mut pem = Vec::new();
    for entry in entries.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "0") {
            pem.extend(std::fs::read(entry.path()).unwrap_or_default());
        }
    }
    pem
}

/// The certificates of a PEM file, one block each.
fn pem_blocks(pem: &[u8]) -> impl Iterator<Item = &[u8]> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let mut rest = pem;
    std::iter::from_fn(move || {
        let begin = find(rest, BEGIN)?;
        let body = rest.get(begin..)?;
        let end = find(body, END)? + END.len();
        rest = body.get(end..)?;
        body.get(..end)
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
