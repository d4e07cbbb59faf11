//! Certificates and kubeconfig files of a control plane.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

/// Writes into a directory what the parts of a control plane and its clients trust each other by.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority: `ca.crt` and `ca.key`, and `sa.key` and `sa.pub` for the tokens of service accounts.
    pub fn create(directory: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "modulet-testkit");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        fs::write(directory.join("ca.key"), key.serialize_pem())?;
        let issuer = CertifiedIssuer::self_signed(params, key)?;
        fs::write(directory.join("ca.crt"), issuer.pem())?;
        let accounts = KeyPair::generate()?;
        fs::write(directory.join("sa.key"), accounts.serialize_pem())?;
        fs::write(directory.join("sa.pub"), accounts.public_key_pem())?;
        Ok(Self { directory: directory.to_owned(), issuer })
    }

    /// `apiserver.crt` and `apiserver.key`.
    pub(super) fn api_server(&self) -> Result<()> {
        self.server("apiserver")
    }

    /// `<name>.crt` and `<name>.key` of a server on this machine.
    pub fn server(&self, name: &str) -> Result<()> {
        let names = ["localhost", "127.0.0.1", "10.0.0.1", "kubernetes", "kubernetes.default.svc"];
        let mut params = CertificateParams::new(names.map(str::to_owned))?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params, name)
    }

    /// `<name>.crt` and `<name>.key` of a client.
    pub fn client(&self, name: &str) -> Result<()> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params, name)
    }

    /// `<name>.kubeconfig` of a user that shows a certificate, and that certificate.
    pub(super) fn kubeconfig(&self, name: &str, user: &str, group: Option<&str>, server: &str) -> Result<PathBuf> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params, name)?;
        let user = json!({
            "client-certificate": self.directory.join(format!("{name}.crt")),
            "client-key": self.directory.join(format!("{name}.key")),
        });
        let path = self.directory.join(format!("{name}.kubeconfig"));
        let cluster = json!({
            "server": server,
            "certificate-authority": self.directory.join("ca.crt"),
        });
        write_kubeconfig(&path, &cluster, &user)?;
        Ok(path)
    }

    fn sign(&self, params: &CertificateParams, name: &str) -> Result<()> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        fs::write(self.directory.join(format!("{name}.crt")), certificate.pem())?;
        fs::write(self.directory.join(format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }
}

/// Writes a kubeconfig with one cluster and one user. JSON, because all JSON is YAML.
pub(super) fn write_kubeconfig(path: &Path, cluster: &serde_json::Value, user: &serde_json::Value) -> Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "modulet", "cluster": cluster }],
        "users": [{ "name": "modulet", "user": user }],
        "contexts": [{ "name": "modulet", "context": { "cluster": "modulet", "user": "modulet" } }],
        "current-context": "modulet",
    });
    fs::write(path, serde_json::to_string_pretty(&config)?)?;
    Ok(())
}
