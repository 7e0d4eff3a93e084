//! Trust roots, in the PEM form that people write.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Returns the certificates in a PEM text, or in words why it has no usable trust root.
pub fn roots_in(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let roots = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "not a PEM certificate: expected BEGIN CERTIFICATE blocks".to_owned())?;
    if roots.is_empty() {
        return Err("no certificate in it: expected BEGIN CERTIFICATE blocks".to_owned());
    }
    for root in &roots {
        RootCertStore::empty()
            .add(root.clone())
            .map_err(|error| format!("not usable as a trust root: {error}"))?;
    }
    Ok(roots)
}
