//! A private key as it stands in a file: PKCS#8, PKCS#1 or SEC1, RSA, EC or EdDSA, encrypted or not.
//! Takes the file and the one with its passphrase, gives the key. Surprise: without a callback of ours OpenSSL would ask for a
//! passphrase on the terminal, and a service that starts in the background would wait there for ever.

use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};

use super::pem;

/// Which of the two files is wrong; each sentence names its file.
#[derive(Debug)]
pub enum KeyFlaw {
    Key(String),
    Passphrase(String),
}

impl KeyFlaw {
    pub fn into_sentence(self) -> String {
        match self {
            Self::Key(sentence) | Self::Passphrase(sentence) => sentence,
        }
    }
}

pub fn read(file: &Path, passphrase_file: Option<&Path>) -> Result<PKey<Private>, KeyFlaw> {
    let wrong = |what: &str| KeyFlaw::Key(format!("{}: {what}", file.display()));
    let pem = super::read(file).map_err(KeyFlaw::Key)?;
    let blocks = pem::blocks(&pem).map_err(wrong)?;
    if !blocks.iter().any(|block| block.label.ends_with("PRIVATE KEY")) {
        return Err(wrong("no PEM private key in it"));
    }
    let passphrase = passphrase_file.map(read_passphrase).transpose()?;
    let mut encrypted = false;
    let key = PKey::private_key_from_pem_callback(&pem, |buffer| {
        encrypted = true;
        let passphrase = passphrase.as_deref().ok_or_else(ErrorStack::get)?;
        buffer.get_mut(..passphrase.len()).ok_or_else(ErrorStack::get)?.copy_from_slice(passphrase);
        Ok(passphrase.len())
    });
    key.map_err(|_| match (encrypted, passphrase_file) {
        (true, Some(other)) => KeyFlaw::Passphrase(format!(
            "{}: is not the passphrase of the key in {}",
            other.display(),
            file.display()
        )),
        (true, None) => {
            wrong("the private key is encrypted; `key_passphrase_file` has to name its passphrase")
        }
        (false, _) => wrong("the private key in it is damaged, or of a kind that TLS does not know"),
    })
}

/// What an editor puts after the last line is no part of it.
fn read_passphrase(file: &Path) -> Result<Vec<u8>, KeyFlaw> {
    let bytes = super::read(file).map_err(KeyFlaw::Passphrase)?;
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    match end {
        0 => Err(KeyFlaw::Passphrase(format!("{}: is empty", file.display()))),
        _ => Ok(bytes[..end].to_vec()),
    }
}
